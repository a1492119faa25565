//! Batches the calls of many tasks that come at about the same time.
//!
//! A call on its own costs waking a task, a message to a server and the wait for its answer. The batcher sends calls that come at
//! about the same time as one batch. It has no timer: the first call starts a batch, which takes all calls that are pending when
//! it is sent.
//!
//! A call that starts after another one was answered is in a later batch. Nothing is sent twice: the caller of a call judges what
//! became of it when its batch failed.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::yield_now;

/// How much is in flight at the same time.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Batches in flight at once. While there are that many, calls collect.
    pub batches: usize,
    /// Calls of one batch. Further calls wait for the next one.
    pub calls: usize,
}

/// Sends a batch of calls, and returns the answers in the order of the calls.
type SendBatch<C, T> = dyn Fn(Vec<C>) -> BoxFuture<'static, Vec<T>> + Send + Sync;

/// Batches calls of type `C`, each of which is answered by a `T`. Clones share the batches.
///
/// The number of pending calls is bounded by the number of calling tasks, and that by the code that starts them.
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
    /// Whether one of them has not taken the pending calls yet.
    collecting: bool,
}

/// A call that waits, and the task that waits for its answer.
struct Pending<C, T> {
    call: C,
    answer: oneshot::Sender<T>,
}

impl<C: Send + 'static, T: Send + 'static> Batcher<C, T> {
    /// A batcher that sends by `send`, which answers the calls of a batch in their order.
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

    /// Makes a call. A call whose caller stops waiting before its batch is sent is not sent. `None` if its batch panicked, or the
    /// process ends in the middle of it.
    pub async fn call(&self, call: C) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        if self.queue.lock().add(Pending { call, answer }) {
            tokio::spawn(self.clone().run_batches());
        }
        answered.await.ok()
    }

    /// Sends batches until no call is pending or another batch takes them.
    async fn run_batches(self) {
        loop {
            // Tasks that are about to call at this moment join the batch.
            yield_now().await;
            let (calls, waiting): (Vec<C>, Vec<_>) =
                self.queue.lock().drain_batch().into_iter().map(|Pending { call, answer }| (call, answer)).unzip();
            if !calls.is_empty() {
                // If it panics, the callers of this batch get `None`, and the next batch is sent all the same.
                let answers =
                    AssertUnwindSafe(async { (self.send)(calls).await }).catch_unwind().await.unwrap_or_default();
                for (waits, answer) in waiting.into_iter().zip(answers) {
                    // A caller that stopped waiting needs no answer.
                    let _ = waits.send(answer);
                }
            }
            if !self.queue.lock().end_batch() {
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

    /// Removes the calls of one batch, and returns them without those whose callers have stopped waiting.
    fn drain_batch(&mut self) -> Vec<Pending<C, T>> {
        self.collecting = false;
        let count = self.pending.len().min(self.limits.calls);
        self.pending.drain(..count).filter(|pending| !pending.answer.is_closed()).collect()
    }

    /// Ends a batch; true if it must go on as the next one.
    fn end_batch(&mut self) -> bool {
        self.batches -= 1;
        !self.pending.is_empty() && self.begin_batch()
    }

    /// Begins a batch unless one is about to be sent, or too many are in flight: the first of these to end goes on then.
    fn begin_batch(&mut self) -> bool {
        let begins = !self.collecting && self.batches < self.limits.batches;
        if begins {
            self.collecting = true;
            self.batches += 1;
        }
        begins
    }
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
    fn batch_takes_calls_that_are_still_awaited() {
        let mut queue = Queue::new(LIMITS);
        let (first, _first) = pending();
        let (second, left) = pending();
        let (third, _third) = pending();
        assert!(queue.add(first));
        assert!(!queue.add(second));
        assert!(!queue.add(third));
        drop(left);
        assert_eq!(queue.drain_batch().len(), 2);
        assert!(!queue.end_batch());
    }

    #[test]
    fn ending_batch_goes_on_with_the_collected_calls() {
        let mut queue = Queue::new(LIMITS);
        let mut answers = Vec::new();
        let mut add = |queue: &mut Queue<u8, u8>| {
            let (pending, answer) = pending();
            answers.push(answer);
            queue.add(pending)
        };
        for _ in 0..LIMITS.batches {
            assert!(add(&mut queue));
            assert_eq!(queue.drain_batch().len(), 1);
        }
        for _ in 0..=LIMITS.calls {
            assert!(!add(&mut queue));
        }
        assert!(queue.end_batch());
        assert_eq!(queue.drain_batch().len(), LIMITS.calls);
        assert!(queue.end_batch());
        assert_eq!(queue.drain_batch().len(), 1);
        assert!(!queue.end_batch());
    }

    #[tokio::test]
    async fn panic_fails_the_calls_of_one_batch_alone() {
        let batcher = Batcher::new(LIMITS, |calls: Vec<i32>| {
            async move { calls.into_iter().map(|call| 10 / call).collect() }.boxed()
        });
        let (five, two) = tokio::join!(batcher.call(2), batcher.call(5));
        assert_eq!((five, two), (Some(5), Some(2)));
        assert_eq!(batcher.call(0).await, None);
        assert_eq!(batcher.call(1).await, Some(10));
    }
}
