//! Hearing of stored messages and control events.
//!
//! [`desired_channels`] holds which channels should be heard; a [`subscription`] is one connection to one server, which brings its
//! subscriptions into line with that, again and again. There is one for each server that takes writes: one, or
//! on a cluster several, each for the rooms whose slots its server holds. This module opens and closes them as servers
//! come and go.

mod desired_channels;
mod subscription;

use std::collections::HashMap;
use std::sync::Arc;

use shared::bus::{Node, RedisConnector};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::desired_channels::DesiredChannels;
use self::subscription::Subscription;

/// Lets others change what is listened to. Clones share it.
#[derive(Clone)]
pub struct Subscriber {
    desired: Arc<DesiredChannels>,
}

/// The other half of a [`Subscriber`], which [`run`] takes.
pub struct Commands(Arc<DesiredChannels>);

/// What hears the messages.
pub trait EventHandler: Send + Sync + 'static {
    /// The channels that are listened to all the time.
    fn channels(&self) -> Vec<String>;

    /// A message came. It must return at once. On a cluster what is not of a room comes once from each server.
    fn on_message(self: &Arc<Self>, channel: &str, payload: &[u8]);

    /// The subscriptions of a connection stand, for the first time or after an outage, in which anything may have been
    /// missed.
    fn on_reconnected(self: &Arc<Self>);

    /// Everything was heard that was published before `asked` on the channels that are listened to all the time.
    fn on_confirmed(self: &Arc<Self>, asked: Instant);

    /// A connection of those that stood is lost, or given up.
    fn on_disconnected(self: &Arc<Self>);
}

impl Subscriber {
    /// A subscriber and what [`run`] needs to serve it.
    #[must_use]
    pub fn new() -> (Self, Commands) {
        let desired = Arc::new(DesiredChannels::default());
        (
            Self {
                desired: Arc::clone(&desired),
            },
            Commands(desired),
        )
    }

    /// Listens to `channel`; returns when the subscription stands. False if the process is stopping.
    ///
    /// It stays wanted when the caller gives up waiting.
    pub async fn subscribe(&self, channel: String) -> bool {
        self.desired.add(channel).await.is_ok()
    }

    /// Listens to `channel` no longer.
    pub fn unsubscribe(&self, channel: &str) {
        self.desired.remove(channel);
    }
}

/// Keeps the subscriptions until `stop` is cancelled.
pub async fn run<L: EventHandler>(
    redis: RedisConnector,
    Commands(desired): Commands,
    handler: Arc<L>,
    stop: CancellationToken,
) {
    handler.channels().into_iter().for_each(|channel| desired.add_permanent(channel));
    let mut subscriptions: HashMap<Node, DropGuard> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut changes = redis.watch_topology();
    while !stop.is_cancelled() {
        let nodes = redis.nodes();
        // Dropped: a server that takes no writes any more has nothing to tell.
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
            () = changes.changed() => desired.notify_changed(),
            // A subscription that panics must not leave its rooms without events: the panic is passed on to whoever watches this task.
            Some(Err(failed)) = tasks.join_next() => std::panic::resume_unwind(failed.into_panic()),
        }
    }
    desired.close();
}
