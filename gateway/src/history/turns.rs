//! One read for all who ask the same at the same time, and none that is older than the question.
//!
//! Whoever asks while a read is under way waits for the next one, together with all others who do: what was committed
//! before a question is in its answer. That is what sets it apart from a cache that loads once for all who miss.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

/// The reads under way and the ones that follow them, by what they read: two of each at most, which go on without those who
/// asked. Clones share them.
pub(super) struct Turns<K, T>(Arc<Mutex<HashMap<K, Turn<T>>>>);

/// The latest read of something.
struct Turn<T> {
    /// From then on it answers nobody who comes.
    begun: Arc<AtomicBool>,
    answer: Answer<T>,
}

/// What a read will find; `None` if it panicked.
type Answer<T> = Shared<BoxFuture<'static, Option<T>>>;

/// Forgets a read when it is through, however it ended.
struct Leaving<K: Hash + Eq, T> {
    turns: Turns<K, T>,
    key: K,
    begun: Arc<AtomicBool>,
}

impl<K: Hash + Eq, T> Drop for Leaving<K, T> {
    fn drop(&mut self) {
        let mut turns = lock(&self.turns.0);
        // Another one may follow it already.
        if turns.get(&self.key).is_some_and(|latest| Arc::ptr_eq(&latest.begun, &self.begun)) {
            turns.remove(&self.key);
        }
    }
}

impl<K, T> Default for Turns<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> Clone for Turns<K, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, T> Turns<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// What `read` finds, or another's read of the same that has not begun yet. It goes on when those who wait for it have
    /// left: whoever asks next waits for its end.
    pub(super) fn ask(&self, key: K, read: impl Future<Output = T> + Send + 'static) -> Answer<T> {
        let mut turns = lock(&self.0);
        let before = match turns.get(&key) {
            Some(turn) if !turn.begun.load(Ordering::Acquire) => return turn.answer.clone(),
            former => former.map(|turn| turn.answer.clone()),
        };
        let begun = Arc::new(AtomicBool::new(false));
        let leaving = Leaving {
            turns: self.clone(),
            key: key.clone(),
            begun: Arc::clone(&begun),
        };
        let turn = tokio::spawn(take_turn(before, leaving, read));
        let answer = turn.map(Result::ok).boxed().shared();
        let turn = Turn {
            begun,
            answer: answer.clone(),
        };
        turns.insert(key, turn);
        answer
    }
}

async fn take_turn<K: Hash + Eq, T: Clone>(
    before: Option<Answer<T>>,
    leaving: Leaving<K, T>,
    read: impl Future<Output = T>,
) -> T {
    if let Some(before) = before {
        before.await;
    }
    leaving.begun.store(true, Ordering::Release);
    read.await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one call on the map: a panic leaves none of them half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn who_comes_during_a_read_shares_the_next_one() {
        let turns = Turns::<&str, u8>::default();
        let (finish, finished) = oneshot::channel();
        let first = turns.ask("a", async { finished.await.unwrap() });
        yield_now().await;
        let second = turns.ask("a", async { 2 });
        let third = turns.ask("a", async { 3 });
        let other = turns.ask("b", async { 4 });
        assert_eq!(other.await, Some(4));
        assert!(second.clone().now_or_never().is_none());
        finish.send(1).unwrap();
        assert_eq!((third.await, second.await), (Some(2), Some(2)));
        assert_eq!(first.await, Some(1));
        assert!(lock(&turns.0).is_empty());
    }

    #[tokio::test]
    async fn of_a_question_that_was_given_up_nothing_stays() {
        let turns = Turns::<&str, u8>::default();
        let (finish, finished) = oneshot::channel();
        drop(turns.ask("a", async { finished.await.unwrap() }));
        yield_now().await;
        assert_eq!(lock(&turns.0).len(), 1);
        finish.send(1).unwrap();
        while !lock(&turns.0).is_empty() {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_read_that_panics_holds_up_nobody() {
        let turns = Turns::<&str, u8>::default();
        assert_eq!(turns.ask("a", async { panic!("it fails") }).await, None);
        assert_eq!(turns.ask("a", async { 1 }).await, Some(1));
    }
}
