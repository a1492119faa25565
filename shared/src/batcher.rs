//! Calls of many tasks at about the same time, made together.
//!
//! A call on its own costs a wake-up of a task, a message to a server and the wait for its answer. Here calls that come at about
//! the same time are made as one batch. There is no timer: the first call starts a batch, which takes along the calls
//! that are there when it departs.
//!
//! A call that is made after another one was answered is in a later batch. Nothing is made twice: what became of a call whose
//! batch failed is its caller's to judge.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::task::yield_now;

/// How much is under way at the same time.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Batches at once. While that many are under way, calls collect.
    pub batches: usize,
    /// Calls of one batch. More wait for the next one.
    pub calls: usize,
}

/// Makes a batch of calls. It returns the answers in the order of the calls.
type SendBatch<C, T> = dyn Fn(Vec<C>) -> BoxFuture<'static, Vec<T>> + Send + Sync;

/// Makes calls of type `C`, which are answered by a `T`. Clones share the batches.
///
/// What waits here is bounded by the tasks that do, and those by whoever lets them in.
pub struct Batcher<C, T> {
    queue: Arc<Mutex<Queue<C, T>>>,
    send: Arc<SendBatch<C, T>>,
}

impl<C, T> Clone for Batcher<C, T> {
    fn clone(&self) -> Self {
        Self {
            queue: Arc::clone(&self.queue),
            send: Arc::clone(&self.send),
        }
    }
}

struct Queue<C, T> {
    limits: BatchLimits,
    pending: VecDeque<Pending<C, T>>,
    /// Batches that have begun and not ended.
    batches: usize,
    /// Whether one of them has yet to take the pending calls.
    collecting: bool,
}

/// A call that waits, and the task that waits for its answer.
struct Pending<C, T> {
    call: C,
    answer: oneshot::Sender<T>,
}

impl<C: Send + 'static, T: Send + 'static> Batcher<C, T> {
    /// Makes batches by `send`, which answers each call of a batch in its order.
    pub fn new(
        limits: BatchLimits,
        send: impl Fn(Vec<C>) -> BoxFuture<'static, Vec<T>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            queue: Arc::new(Mutex::new(Queue::new(limits))),
            send: Arc::new(send),
        }
    }

    /// Whether both share their batches.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.queue, &other.queue)
    }

    /// Makes a call. One whose caller stops waiting before its batch departs is not made. `None` if its batch panicked, or the
    /// process ends in the middle of it.
    pub async fn call(&self, call: C) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        if lock(&self.queue).add(Pending { call, answer }) {
            tokio::spawn(self.clone().run_batches());
        }
        answered.await.ok()
    }

    /// Sends the pending calls, until there are none or another batch will.
    async fn run_batches(self) {
        loop {
            // Tasks that are about to call at this moment come along.
            yield_now().await;
            let (calls, waiting): (Vec<C>, Vec<_>) =
                lock(&self.queue).take().into_iter().map(|Pending { call, answer }| (call, answer)).unzip();
            if !calls.is_empty() {
                // Should it panic, the callers of this batch are told so; the next one goes all the same.
                let answers =
                    AssertUnwindSafe(async { (self.send)(calls).await }).catch_unwind().await.unwrap_or_default();
                for (waits, answer) in waiting.into_iter().zip(answers) {
                    // A caller that has left need not be told.
                    let _ = waits.send(answer);
                }
            }
            if !lock(&self.queue).end_batch() {
                return;
            }
        }
    }
}

impl<C, T> Queue<C, T> {
    fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            pending: VecDeque::new(),
            batches: 0,
            collecting: false,
        }
    }

    /// Adds a call; true if a batch must be started for it.
    fn add(&mut self, pending: Pending<C, T>) -> bool {
        self.pending.push_back(pending);
        self.begin_batch()
    }

    /// Takes the calls of one batch, without those whose callers have left.
    fn take(&mut self) -> Vec<Pending<C, T>> {
        self.collecting = false;
        let count = self.pending.len().min(self.limits.calls);
        self.pending.drain(..count).filter(|pending| !pending.answer.is_closed()).collect()
    }

    /// Ends a batch; true if it must go on as the next one.
    fn end_batch(&mut self) -> bool {
        self.batches -= 1;
        !self.pending.is_empty() && self.begin_batch()
    }

    /// Begins a batch unless one is about to depart, or too many are under way: the first to end goes on then.
    fn begin_batch(&mut self) -> bool {
        let begins = !self.collecting && self.batches < self.limits.batches;
        if begins {
            self.collecting = true;
            self.batches += 1;
        }
        begins
    }
}

fn lock<C, T>(queue: &Mutex<Queue<C, T>>) -> MutexGuard<'_, Queue<C, T>> {
    // Every change is one call on a collection, or of a number: a panic leaves none of them half done.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits { batches: 8, calls: 512 };

    fn pending() -> (Pending<u8, u8>, oneshot::Receiver<u8>) {
        let (answer, answered) = oneshot::channel();
        (Pending { call: 1, answer }, answered)
    }

    #[test]
    fn a_batch_takes_the_calls_that_are_still_waited_for() {
        let mut queue = Queue::new(LIMITS);
        let (first, _first) = pending();
        let (second, left) = pending();
        let (third, _third) = pending();
        assert!(queue.add(first));
        assert!(!queue.add(second));
        assert!(!queue.add(third));
        drop(left);
        assert_eq!(queue.take().len(), 2);
        assert!(!queue.end_batch());
    }

    #[test]
    fn batches_are_bounded_and_one_that_ends_takes_what_has_collected() {
        let mut queue = Queue::new(LIMITS);
        let mut answers = Vec::new();
        let mut add = |queue: &mut Queue<u8, u8>| {
            let (pending, answer) = pending();
            answers.push(answer);
            queue.add(pending)
        };
        for _ in 0..LIMITS.batches {
            assert!(add(&mut queue));
            assert_eq!(queue.take().len(), 1);
        }
        for _ in 0..=LIMITS.calls {
            assert!(!add(&mut queue));
        }
        assert!(queue.end_batch());
        assert_eq!(queue.take().len(), LIMITS.calls);
        assert!(queue.end_batch());
        assert_eq!(queue.take().len(), 1);
        assert!(!queue.end_batch());
    }

    #[tokio::test]
    async fn each_call_gets_its_own_answer_and_a_panic_ends_one_batch_alone() {
        let batcher = Batcher::new(LIMITS, |calls: Vec<i32>| {
            async move { calls.into_iter().map(|call| 10 / call).collect() }.boxed()
        });
        let (five, two) = tokio::join!(batcher.call(2), batcher.call(5));
        assert_eq!((five, two), (Some(5), Some(2)));
        assert_eq!(batcher.call(0).await, None);
        assert_eq!(batcher.call(1).await, Some(10));
    }
}
