//! Single flight: one read for all who ask the same at the same time, and none that is older than the question.
//!
//! Whoever asks while a read runs waits for the next one, together with all others who do: what was committed before a
//! question is in its answer. A cache that loads once for all who miss does not promise that.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

/// The reads that run and the ones that follow them, by key: two for each key at most. A read that has begun goes on without
/// those who asked; one that has not is dropped with the last of them. Clones share them.
pub(super) struct SingleFlight<K, T>(Arc<Mutex<HashMap<K, LatestRead<T>>>>);

/// The latest read of a key.
struct LatestRead<T> {
    number: Arc<()>,
    /// The result, for those who ask before the read begins. Those who asked keep it alive.
    result: Option<WeakShared<BoxFuture<'static, Option<T>>>>,
    /// The running read, once it has begun. It answers nobody who asks from then on.
    running: Option<SharedResult<T>>,
}

/// The result of a read; `None` if it panicked.
type SharedResult<T> = Shared<BoxFuture<'static, Option<T>>>;

/// Removes a read from the map when it has ended, however it ended.
struct ReadGuard<K: Hash + Eq, T> {
    single_flight: SingleFlight<K, T>,
    key: K,
    number: Arc<()>,
}

impl<K: Hash + Eq, T> Drop for ReadGuard<K, T> {
    fn drop(&mut self) {
        let mut reads = self.single_flight.0.lock();
        // Another read may follow it already.
        let latest = reads.get(&self.key).is_some_and(|latest| Arc::ptr_eq(&latest.number, &self.number));
        // Dropped after the lock is released.
        let _removed = if latest { reads.remove(&self.key) } else { None };
        drop(reads);
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
    /// The result of `read`, or of another read of `key` that has not begun yet. The read begins with the permit that `admit`
    /// grants, or ends with its refusal.
    pub(super) fn run<P: Send + 'static, R>(
        &self,
        key: K,
        admit: impl Future<Output = Result<P, T>> + Send + 'static,
        read: impl FnOnce(P) -> R + Send + 'static,
    ) -> SharedResult<T>
    where
        R: Future<Output = T> + Send + 'static,
    {
        let mut reads = self.0.lock();
        let before = match reads.get(&key) {
            Some(LatestRead {
                running: Some(running), ..
            }) => Some(running.clone()),
            Some(latest) => match latest.result.as_ref().and_then(WeakShared::upgrade) {
                Some(result) => return result,
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
        let result = wait_and_read(before, admit, guard, read).boxed().shared();
        let latest = LatestRead {
            number,
            result: result.downgrade(),
            running: None,
        };
        reads.insert(key, latest);
        result
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
        // Whoever asks from now on must not share this read, so it is marked as begun under the lock.
        let mut reads = shared.0.lock();
        let latest = reads.get_mut(&guard.key).filter(|latest| Arc::ptr_eq(&latest.number, &guard.number));
        let reading = tokio::spawn(async move {
            let _guard = guard;
            read(permit).await
        });
        let running = reading.map(Result::ok).boxed().shared();
        if let Some(latest) = latest {
            latest.running = Some(running.clone());
        }
        running
    };
    running.await
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
    async fn whoever_asks_during_a_read_shares_the_next() {
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
        while !single_flight.0.lock().is_empty() {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_running_read_goes_on_without_those_who_asked() {
        let single_flight = SingleFlight::<&str, u8>::default();
        let (finish, finished) = oneshot::channel();
        let given_up = run(&single_flight, "a", async { finished.await.unwrap() });
        assert!(given_up.clone().now_or_never().is_none());
        drop(given_up);
        let next = run(&single_flight, "a", async { 2 });
        assert!(next.clone().now_or_never().is_none(), "it does not wait for the read that runs");
        finish.send(1).unwrap();
        assert_eq!(next.await, Some(2));
    }

    #[tokio::test]
    async fn a_read_that_nobody_waits_for_does_not_begin() {
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
        assert!(single_flight.0.lock().is_empty());
        assert!(permit.send(()).is_err());
        assert!(has_begun.await.is_err(), "the read was dropped and not begun");
    }

    #[tokio::test]
    async fn a_read_that_panics_blocks_nobody() {
        let single_flight = SingleFlight::<&str, u8>::default();
        assert_eq!(run(&single_flight, "a", async { panic!("it fails") }).await, None);
        assert_eq!(run(&single_flight, "a", async { 1 }).await, Some(1));
    }
}
