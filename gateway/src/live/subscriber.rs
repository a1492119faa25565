//! Subscriber of Redis channels: receives stored messages, receipts and control events.
//!
//! [`desired_channels`] holds which channels are to be subscribed to; a [`subscription`] is one connection to one server, which
//! aligns its subscriptions with that, again and again. There is one for each server that takes writes: one, or on a cluster
//! several, each for the rooms whose slots its server holds. This module opens and closes them as servers come and go.

mod connection;
mod desired_channels;
mod subscription;

use std::collections::HashMap;
use std::sync::Arc;

use shared::bus::{Node, RedisConnector};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::desired_channels::DesiredChannels;
use self::subscription::Subscription;

/// Adds and removes channels. Clones share them.
#[derive(Clone)]
pub struct Subscriber {
    desired: Arc<DesiredChannels>,
}

/// The task that keeps the subscriptions of a [`Subscriber`].
pub struct SubscriberTask(Arc<DesiredChannels>);

/// Handles what comes on the channels, and changes of the connections.
pub trait EventHandler: Send + Sync + 'static {
    /// The channels that are subscribed to for the life of the process.
    fn channels(&self) -> Vec<String>;

    /// Handles a message, and must return at once. On a cluster a message that is not of a room comes once from each server.
    fn on_message(self: &Arc<Self>, channel: &str, payload: &[u8]);

    /// All subscriptions of a connection are confirmed, for the first time or after an outage, in which any message may have
    /// been lost.
    fn on_reconnected(self: &Arc<Self>);

    /// Every message that was published before `asked` on [`Self::channels`] has been handled.
    fn on_confirmed(self: &Arc<Self>, asked: Instant);

    /// A connection whose subscriptions were confirmed is lost, or closed.
    fn on_disconnected(self: &Arc<Self>);
}

impl Subscriber {
    /// A subscriber, and the task that serves it.
    #[must_use]
    pub fn new() -> (Self, SubscriberTask) {
        let desired = Arc::new(DesiredChannels::default());
        (
            Self {
                desired: Arc::clone(&desired),
            },
            SubscriberTask(desired),
        )
    }

    /// Subscribes to `channels` in one round. What is returned for each of them resolves when a server has confirmed it, or fails
    /// when the process stops.
    ///
    /// The channels stay desired if the caller stops waiting.
    #[must_use]
    pub fn subscribe_all(&self, channels: Vec<String>) -> Vec<oneshot::Receiver<()>> {
        self.desired.add_all(channels)
    }

    /// Unsubscribes from `channel`.
    pub fn unsubscribe(&self, channel: &str) {
        self.desired.remove(channel);
    }
}

impl SubscriberTask {
    /// Keeps the subscriptions until `stop` is cancelled.
    pub async fn run<L: EventHandler>(self, redis: RedisConnector, handler: Arc<L>, stop: CancellationToken) {
        let Self(desired) = self;
        handler.channels().into_iter().for_each(|channel| desired.add_permanent(channel));
        let mut subscriptions: HashMap<Node, DropGuard> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut changes = redis.watch_topology();
        while !stop.is_cancelled() {
            let nodes = redis.nodes();
            // Dropping the guard ends the subscription: a server that no longer takes writes publishes nothing.
            subscriptions.retain(|node, _| nodes.contains(node));
            for node in nodes {
                subscriptions.entry(node.clone()).or_insert_with(|| {
                    let subscription = Subscription {
                        node,
                        redis: redis.clone(),
                        desired: Arc::clone(&desired),
                        handler: Arc::clone(&handler),
                    };
                    let end = stop.child_token();
                    tasks.spawn(subscription.run(end.clone()));
                    end.drop_guard()
                });
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = changes.changed() => desired.compare_all(),
                // A panic is passed on to whoever watches this task: without a subscription its rooms would get no events.
                Some(Err(failed)) = tasks.join_next() => std::panic::resume_unwind(failed.into_panic()),
            }
        }
        desired.close();
    }
}

#[cfg(test)]
impl SubscriberTask {
    /// Confirms every channel, without a server.
    pub(super) async fn confirm_all(self) {
        let mut changes = self.0.changes();
        changes.mark_changed();
        while changes.changed().await.is_ok() {
            for channel in self.0.matching(|_| true) {
                self.0.confirm(&channel);
            }
        }
    }

    /// Stops as the task does.
    pub(super) fn close(self) {
        self.0.close();
    }
}
