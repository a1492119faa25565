//! Posts that wait until their message is stored.
//!
//! A worker tells the gateway that accepted a message when it has committed it. That is a hint and may be lost with a
//! connection or a worker, so whoever has waited for some time is looked up in SQL, all of them by one query.
//!
//! Owned here: who waits for which message. Bounded by [`super::POSTS_AT_ONCE`], since only a post under way waits; one
//! that ends, whether it was answered, timed out or its client left, takes its entry along.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::bus::{KeySpace, Receipts};
use shared::domain::{MessageId, Seq};
use shared::storage::Store;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long a message is waited for before SQL is asked: several times what a commit takes.
const OVERDUE_AFTER: Duration = Duration::from_millis(250);

/// How often SQL is asked for what is overdue. A lost receipt delays its answer by this and the time above at most.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who waits for which message. Clones share it.
#[derive(Clone, Default)]
pub(super) struct CommitWaiters(Arc<Mutex<HashMap<MessageId, Awaited>>>);

/// A message that at least one post waits for.
struct Awaited {
    since: Instant,
    place: watch::Sender<Option<Seq>>,
}

/// One post that waits. Dropping it ends the wait.
pub(super) struct CommitWaiter {
    waiters: CommitWaiters,
    id: MessageId,
    place: watch::Receiver<Option<Seq>>,
}

impl CommitWaiters {
    /// Begins to wait for `id`. Call it before the message is sent: the receipt may come sooner than Redis's answer.
    pub(super) fn wait_for(&self, id: MessageId) -> CommitWaiter {
        let mut awaited = self.awaited();
        let entry = awaited.entry(id).or_insert_with(|| Awaited {
            since: Instant::now(),
            place: watch::Sender::new(None),
        });
        CommitWaiter {
            waiters: self.clone(),
            id,
            place: entry.place.subscribe(),
        }
    }

    /// Answers those who wait for one of `stored`.
    pub(super) fn resolve(&self, stored: impl IntoIterator<Item = (MessageId, Seq)>) {
        let awaited = self.awaited();
        for (id, seq) in stored {
            if let Some(Awaited { place, .. }) = awaited.get(&id) {
                place.send_replace(Some(seq));
            }
        }
    }

    /// Takes what a worker published.
    pub(super) fn on_receipts(&self, payload: &[u8], keys: &KeySpace) {
        match Receipts::decode(payload, keys) {
            Ok(Receipts(stored)) => self.resolve(stored),
            Err(error) => error.report("receipts"),
        }
    }

    /// Looks those up in `store` whose receipt does not come, until `stop` is cancelled.
    pub(super) async fn look_up_overdue(self, store: Store, stop: CancellationToken) {
        let mut complained = false;
        while !stop.is_cancelled() {
            let overdue = self.overdue(Instant::now());
            if !overdue.is_empty() {
                match store.stored_seqs(&overdue).await {
                    Ok(stored) => {
                        self.resolve(stored);
                        complained = false;
                    }
                    Err(error) if !complained => {
                        warn!(error = %error, "cannot look up what posts wait for, trying on: {error}");
                        complained = true;
                    }
                    Err(_) => {}
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Those that have been waited for too long at `now`.
    fn overdue(&self, now: Instant) -> Vec<MessageId> {
        let is_overdue = |awaited: &Awaited| now - awaited.since >= OVERDUE_AFTER && awaited.place.borrow().is_none();
        self.awaited().iter().filter(|(_, awaited)| is_overdue(awaited)).map(|(id, _)| *id).collect()
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<MessageId, Awaited>> {
        // Every change is one call on the map: a panic leaves none of them half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CommitWaiter {
    /// Waits until the message is stored and returns its place, however long it takes.
    pub(super) async fn stored(mut self) -> Seq {
        let place = self.place.wait_for(Option::is_some).await;
        place.ok().and_then(|place| *place).expect("the entry stays for as long as somebody waits")
    }
}

impl Drop for CommitWaiter {
    fn drop(&mut self) {
        let mut awaited = self.waiters.awaited();
        // Counted under the lock under which others begin to wait; this waiter is still one of them.
        if awaited.get(&self.id).is_some_and(|entry| entry.place.receiver_count() <= 1) {
            awaited.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::bus::MacKey;

    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_for_a_message_hears_its_place() {
        let keys = KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 1, MacKey::fresh());
        let waiters = CommitWaiters::default();
        let (id, other) = (MessageId::fresh(), MessageId::fresh());
        let (first, second, third) = (waiters.wait_for(id), waiters.wait_for(id), waiters.wait_for(other));
        waiters.on_receipts(&Receipts(vec![(id, Seq(7)), (MessageId::fresh(), Seq(8))]).encode(&keys), &keys);
        assert_eq!((first.stored().await, second.stored().await), (Seq(7), Seq(7)));
        waiters.on_receipts(b"garbage", &keys);
        waiters.resolve([(other, Seq(1))]);
        assert_eq!(third.stored().await, Seq(1));
        assert!(waiters.awaited().is_empty());
    }

    #[tokio::test]
    async fn who_goes_away_leaves_nothing_behind() {
        let waiters = CommitWaiters::default();
        let id = MessageId::fresh();
        let (first, second) = (waiters.wait_for(id), waiters.wait_for(id));
        drop(first);
        assert_eq!(waiters.awaited().len(), 1);
        // In the middle of waiting, as when the client closes its connection.
        let waiting = tokio::spawn(second.stored());
        tokio::task::yield_now().await;
        waiting.abort();
        assert!(waiting.await.is_err_and(|error| error.is_cancelled()));
        assert!(waiters.awaited().is_empty());
    }

    #[test]
    fn only_those_are_looked_up_who_have_waited_for_long() {
        let waiters = CommitWaiters::default();
        let (late, told) = (MessageId::fresh(), MessageId::fresh());
        let _waiting = (waiters.wait_for(late), waiters.wait_for(told));
        waiters.resolve([(told, Seq(1))]);
        assert!(waiters.overdue(Instant::now()).is_empty());
        assert_eq!(waiters.overdue(Instant::now() + OVERDUE_AFTER), [late]);
    }
}
