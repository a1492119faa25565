//! One read for all who ask the same at the same time, and none that is older than the question.
//!
//! Whoever asks while a read is under way waits for the next one, together with all others who do: what was committed
//! before a question is in its answer. That is what sets it apart from a cache that loads once for all who miss.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};

/// The reads under way and the ones that follow them, by what they read: two of each at most. A read that has begun goes on
/// without those who asked; one that has not is forgotten with the last of them. Clones share them.
pub(super) struct SingleFlight<K, T>(Arc<Mutex<HashMap<K, LatestRead<T>>>>);

/// The latest read of something.
struct LatestRead<T> {
    number: Arc<()>,
    /// For those who come before it begins. Those who asked hold it.
    answer: Option<WeakShared<BoxFuture<'static, Option<T>>>>,
    /// Since it has begun, when it answers nobody who comes.
    running: Option<SharedResult<T>>,
}

/// What a read will find; `None` if it panicked.
type SharedResult<T> = Shared<BoxFuture<'static, Option<T>>>;

/// Forgets a read when it is through, however it ended.
struct ReadGuard<K: Hash + Eq, T> {
    single_flight: SingleFlight<K, T>,
    key: K,
    number: Arc<()>,
}

impl<K: Hash + Eq, T> Drop for ReadGuard<K, T> {
    fn drop(&mut self) {
        let mut single_flight = lock(&self.single_flight.0);
        // Another one may follow it already.
        let latest = single_flight.get(&self.key).is_some_and(|latest| Arc::ptr_eq(&latest.number, &self.number));
        // Dropped when the lock is not held any more.
        let _forgotten = if latest { single_flight.remove(&self.key) } else { None };
        drop(single_flight);
    }
}

impl<K, T> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> Clone for SingleFlight<K, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, T> SingleFlight<K, T>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// What `read` finds, or another's read of the same that has not begun yet. It begins with the leave that `admit` gives,
    /// or ends with the refusal.
    pub(super) fn run<P: Send + 'static, R>(
        &self,
        key: K,
        admit: impl Future<Output = Result<P, T>> + Send + 'static,
        read: impl FnOnce(P) -> R + Send + 'static,
    ) -> SharedResult<T>
    where
        R: Future<Output = T> + Send + 'static,
    {
        let mut single_flight = lock(&self.0);
        let before = match single_flight.get(&key) {
            Some(LatestRead {
                running: Some(running), ..
            }) => Some(running.clone()),
            Some(turn) => match turn.answer.as_ref().and_then(WeakShared::upgrade) {
                Some(answer) => return answer,
                None => None,
            },
            None => None,
        };
        let number = Arc::new(());
        let guard = ReadGuard {
            single_flight: self.clone(),
            key: key.clone(),
            number: Arc::clone(&number),
        };
        let answer = wait_and_read(before, admit, guard, read).boxed().shared();
        let turn = LatestRead {
            number,
            answer: answer.downgrade(),
            running: None,
        };
        single_flight.insert(key, turn);
        answer
    }
}

async fn wait_and_read<K, T, P, R>(
    before: Option<SharedResult<T>>,
    admit: impl Future<Output = Result<P, T>>,
    guard: ReadGuard<K, T>,
    read: impl FnOnce(P) -> R + Send + 'static,
) -> Option<T>
where
    R: Future<Output = T> + Send + 'static,
    K: Hash + Eq + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
    P: Send + 'static,
{
    if let Some(before) = before {
        before.await;
    }
    let permit = match admit.await {
        Ok(permit) => permit,
        Err(refusal) => return Some(refusal),
    };
    let running = {
        let shared = guard.single_flight.clone();
        // Who comes from now on must not share it: it is noted under the lock that it begins.
        let mut single_flight = lock(&shared.0);
        let noted = single_flight.get_mut(&guard.key).filter(|latest| Arc::ptr_eq(&latest.number, &guard.number));
        let reading = tokio::spawn(async move {
            let _guard = guard;
            read(permit).await
        });
        let running = reading.map(Result::ok).boxed().shared();
        if let Some(turn) = noted {
            turn.running = Some(running.clone());
        }
        running
    };
    running.await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one call on the map: a panic leaves none of them half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    fn run<T: Clone + Send + Sync + 'static>(
        single_flight: &SingleFlight<&'static str, T>,
        key: &'static str,
        read: impl Future<Output = T> + Send + 'static,
    ) -> SharedResult<T> {
        single_flight.run(key, ready(Ok(())), |()| read)
    }

    #[tokio::test]
    async fn who_comes_during_a_read_shares_the_next_one() {
        let single_flight = SingleFlight::<&str, u8>::default();
        let (finish, finished) = oneshot::channel();
        let first = run(&single_flight, "a", async { finished.await.unwrap() });
        assert!(first.clone().now_or_never().is_none());
        let second = run(&single_flight, "a", async { 2 });
        let third = run(&single_flight, "a", async { 3 });
        let other = run(&single_flight, "b", async { 4 });
        assert_eq!(other.await, Some(4));
        assert!(second.clone().now_or_never().is_none());
        finish.send(1).unwrap();
        assert_eq!((third.await, second.await), (Some(2), Some(2)));
        assert_eq!(first.await, Some(1));
        while !lock(&single_flight.0).is_empty() {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_read_that_has_begun_goes_on_without_those_who_asked() {
        let single_flight = SingleFlight::<&str, u8>::default();
        let (finish, finished) = oneshot::channel();
        let given_up = run(&single_flight, "a", async { finished.await.unwrap() });
        assert!(given_up.clone().now_or_never().is_none());
        drop(given_up);
        let next = run(&single_flight, "a", async { 2 });
        assert!(next.clone().now_or_never().is_none(), "it waits for the one that runs");
        finish.send(1).unwrap();
        assert_eq!(next.await, Some(2));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_does_not_begin() {
        let single_flight = SingleFlight::<&str, u8>::default();
        let (begun, has_begun) = oneshot::channel();
        let (permit, permitted) = oneshot::channel::<()>();
        let admit = async { permitted.await.map_err(|_| 0) };
        let waiting = single_flight.run("a", admit, async |()| {
            begun.send(()).unwrap();
            pending().await
        });
        assert!(waiting.clone().now_or_never().is_none());
        drop(waiting);
        assert!(lock(&single_flight.0).is_empty());
        assert!(permit.send(()).is_err());
        assert!(has_begun.await.is_err(), "the read was dropped and not begun");
    }

    #[tokio::test]
    async fn a_read_that_panics_holds_up_nobody() {
        let single_flight = SingleFlight::<&str, u8>::default();
        assert_eq!(run(&single_flight, "a", async { panic!("it fails") }).await, None);
        assert_eq!(run(&single_flight, "a", async { 1 }).await, Some(1));
    }
}
