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

/// The reads under way and the ones that follow them, by what they read. Bounded by the number of those who ask. Clones
/// share them.
pub(super) struct Turns<K, T>(Arc<Mutex<HashMap<K, Turn<T>>>>);

/// The latest read of something.
struct Turn<T> {
    /// From then on it answers nobody who comes.
    begun: Arc<AtomicBool>,
    answer: Answer<T>,
}

/// What a read will find. Nothing happens unless somebody waits for it.
type Answer<T> = Shared<BoxFuture<'static, T>>;

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
    /// What `read` finds, or another's read of the same that has not begun yet.
    ///
    /// The read must go on by itself once begun, such as one in a task: those who wait for it may all leave.
    pub(super) fn ask(&self, key: K, read: impl Future<Output = T> + Send + 'static) -> Answer<T> {
        let mut turns = lock(&self.0);
        let before = match turns.get(&key) {
            Some(turn) if !turn.begun.load(Ordering::Acquire) => return turn.answer.clone(),
            former => former.map(|turn| turn.answer.clone()),
        };
        let begun = Arc::new(AtomicBool::new(false));
        let answer = self.clone().take_turn(before, key.clone(), Arc::clone(&begun), read);
        let answer = answer.boxed().shared();
        let turn = Turn {
            begun,
            answer: answer.clone(),
        };
        turns.insert(key, turn);
        answer
    }

    async fn take_turn(
        self,
        before: Option<Answer<T>>,
        key: K,
        begun: Arc<AtomicBool>,
        read: impl Future<Output = T>,
    ) -> T {
        if let Some(before) = before {
            before.await;
        }
        begun.store(true, Ordering::Release);
        let found = read.await;
        let mut turns = lock(&self.0);
        if turns.get(&key).is_some_and(|latest| Arc::ptr_eq(&latest.begun, &begun)) {
            turns.remove(&key);
        }
        found
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one call on the map: a panic leaves none of them half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::future::pending;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_comes_during_a_read_shares_the_next_one() {
        let turns = Turns::<&str, u8>::default();
        let (finish, finished) = oneshot::channel();
        let mut first = turns.ask("a", async { finished.await.unwrap() });
        assert!(first.clone().now_or_never().is_none());
        let second = turns.ask("a", async { 2 });
        let third = turns.ask("a", async { 3 });
        let other = turns.ask("b", async { 4 });
        assert_eq!(other.await, 4);
        assert!(second.clone().now_or_never().is_none());
        finish.send(1).unwrap();
        assert_eq!((third.await, second.await), (2, 2));
        assert_eq!((&mut first).await, 1);
        assert!(lock(&turns.0).is_empty());
    }

    #[tokio::test]
    async fn a_question_that_was_given_up_holds_up_nobody() {
        let turns = Turns::<&str, u8>::default();
        drop(turns.ask("a", async { 1 }));
        assert_eq!(turns.ask("a", pending()).await, 1);
        assert!(lock(&turns.0).is_empty());
    }
}
