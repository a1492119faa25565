//! Commit waiters: calls that wait for the outcome of what they sent.
//!
//! A worker sends a receipt to the gateway that accepted a message or a change when it has decided and committed it. The receipt is
//! a hint and may be lost with a connection or a worker, so what was waited for for some time is looked up in SQL, all of it by
//! one query. What was refused is not in SQL: if its receipt is lost, the call ends by its deadline with an unknown outcome.
//!
//! The table of waiting posts is bounded by [`super::POSTS_AT_ONCE`], since only a post under way waits. A post that ends,
//! whether it was answered, timed out or its client left, removes its entry.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use shared::bus::{KeySpace, Receipts};
use shared::domain::{MessageId, Outcome};
use shared::storage::Store;
use shared::telemetry::FailureSeries;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long a post waits before its message is looked up in SQL: several times what a commit takes.
const OVERDUE_AFTER: Duration = Duration::from_millis(250);

/// How often SQL is queried for what is overdue. A lost receipt delays its answer by this and the time above at most.
const QUERY_EVERY: Duration = Duration::from_millis(100);

/// Which posts wait for which message. Clones share the table, of which every change is one call: a panic leaves it whole.
#[derive(Clone, Default)]
pub(super) struct CommitWaiters(Arc<Mutex<HashMap<MessageId, Awaited>>>);

/// A message that at least one post waits for.
struct Awaited {
    since: Instant,
    outcome: watch::Sender<Option<Outcome>>,
}

/// One post that waits. Dropping it ends the wait.
pub(super) struct CommitWaiter {
    waiters: CommitWaiters,
    id: MessageId,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl CommitWaiters {
    /// Begins to wait for `id`. The caller does so before it sends the message: the receipt may come sooner than Redis's answer.
    pub(super) fn wait_for(&self, id: MessageId) -> CommitWaiter {
        let mut awaited = self.awaited();
        let entry = awaited.entry(id).or_insert_with(|| Awaited {
            since: Instant::now(),
            outcome: watch::Sender::new(None),
        });
        CommitWaiter {
            waiters: self.clone(),
            id,
            outcome: entry.outcome.subscribe(),
        }
    }

    /// Ends the wait for each of `outcomes`.
    pub(super) fn resolve(&self, outcomes: impl IntoIterator<Item = (MessageId, Outcome)>) {
        let awaited = self.awaited();
        for (id, outcome) in outcomes {
            if let Some(waiting) = awaited.get(&id) {
                waiting.outcome.send_replace(Some(outcome));
            }
        }
    }

    /// Ends the wait for the messages of the receipts that a worker published.
    pub(super) fn on_receipts(&self, payload: &[u8], keys: &KeySpace) {
        match Receipts::decode(payload, keys) {
            Ok(Receipts(outcomes)) => self.resolve(outcomes),
            Err(error) => error.report("receipts"),
        }
    }

    /// Looks up in `store` the messages whose receipt does not come, until `stop` is cancelled.
    pub(super) async fn look_up_overdue(self, store: Store, stop: CancellationToken) {
        let mut failures = FailureSeries::default();
        while !stop.is_cancelled() {
            let overdue = self.overdue(Instant::now());
            if !overdue.is_empty() {
                match store.stored_seqs(&overdue).await {
                    Ok(stored) => {
                        self.resolve(stored.into_iter().map(|(id, seq)| (id, Outcome::Stored(seq))));
                        failures.recovered();
                    }
                    Err(error) => {
                        if failures.failed() {
                            warn!(error = %error, "cannot look up what posts wait for, retrying: {error}");
                        }
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(QUERY_EVERY) => {}
            }
        }
    }

    /// Messages that posts have waited for too long at `now`.
    fn overdue(&self, now: Instant) -> Vec<MessageId> {
        let is_overdue = |awaited: &Awaited| now - awaited.since >= OVERDUE_AFTER && awaited.outcome.borrow().is_none();
        self.awaited().iter().filter(|(_, awaited)| is_overdue(awaited)).map(|(id, _)| *id).collect()
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<MessageId, Awaited>> {
        self.0.lock()
    }
}

impl CommitWaiter {
    /// Waits for the outcome, however long it takes.
    pub(super) async fn outcome(mut self) -> Outcome {
        let outcome = self.outcome.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| *outcome).expect("the entry stays for as long as a call waits")
    }
}

impl Drop for CommitWaiter {
    fn drop(&mut self) {
        let mut awaited = self.waiters.awaited();
        // Counted under the lock under which others begin to wait. This waiter is still one of them.
        if awaited.get(&self.id).is_some_and(|entry| entry.outcome.receiver_count() <= 1) {
            awaited.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::bus::MacKey;
    use shared::domain::{Refusal, Seq};

    use super::*;

    #[tokio::test]
    async fn a_receipt_ends_the_wait_of_all_posts() {
        let keys = KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 1, MacKey::fresh());
        let waiters = CommitWaiters::default();
        let (id, other) = (MessageId::fresh(), MessageId::fresh());
        let (first, second, third) = (waiters.wait_for(id), waiters.wait_for(id), waiters.wait_for(other));
        let (stored, refused) = (Outcome::Stored(Seq(7)), Outcome::Refused(Refusal::Deleted));
        waiters.on_receipts(&Receipts(vec![(id, stored), (MessageId::fresh(), refused)]).encode(&keys), &keys);
        assert_eq!((first.outcome().await, second.outcome().await), (stored, stored));
        waiters.on_receipts(b"garbage", &keys);
        waiters.resolve([(other, refused)]);
        assert_eq!(third.outcome().await, refused);
        assert!(waiters.awaited().is_empty());
    }

    #[tokio::test]
    async fn a_dropped_waiter_leaves_nothing_behind() {
        let waiters = CommitWaiters::default();
        let id = MessageId::fresh();
        let (first, second) = (waiters.wait_for(id), waiters.wait_for(id));
        drop(first);
        assert_eq!(waiters.awaited().len(), 1);
        // In the middle of waiting, as when the client closes its connection.
        let waiting = tokio::spawn(second.outcome());
        tokio::task::yield_now().await;
        waiting.abort();
        assert!(waiting.await.is_err_and(|error| error.is_cancelled()));
        assert!(waiters.awaited().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_overdue_messages_are_looked_up() {
        let waiters = CommitWaiters::default();
        let (late, resolved) = (MessageId::fresh(), MessageId::fresh());
        let _waiting = (waiters.wait_for(late), waiters.wait_for(resolved));
        waiters.resolve([(resolved, Outcome::Stored(Seq(1)))]);
        assert!(waiters.overdue(Instant::now()).is_empty());
        assert_eq!(waiters.overdue(Instant::now() + OVERDUE_AFTER), [late]);
    }
}
