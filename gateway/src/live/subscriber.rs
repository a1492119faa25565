//! Hearing of stored messages and control events.
//!
//! [`wanted`] holds which channels should be heard; an [`ear`] is one connection to one server, which brings its
//! subscriptions into line with that, again and again. There is one ear for each server that takes writes: one, or
//! on a cluster several, each for the rooms whose slots its server holds. This module opens and closes ears as servers
//! come and go.

mod ear;
mod wanted;

use std::collections::HashMap;
use std::sync::Arc;

use shared::bus::{Node, Redis};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::ear::Ear;
use self::wanted::Wanted;

/// Lets others change what is listened to. Clones share it.
#[derive(Clone)]
pub struct Subscriber {
    wanted: Arc<Wanted>,
}

/// The other half of a [`Subscriber`], which [`run`] takes.
pub struct Commands(Arc<Wanted>);

/// What hears the messages.
pub trait Listener: Send + Sync + 'static {
    /// The channels that are listened to all the time.
    fn channels(&self) -> Vec<String>;

    /// A message came. It must return at once. On a cluster what is not of a room comes once from each server.
    fn hear(self: &Arc<Self>, channel: &str, payload: &[u8]);

    /// The subscriptions of a connection stand, for the first time or after an outage, in which anything may have been
    /// missed.
    fn reconnected(self: &Arc<Self>);

    /// Everything was heard that was published before `asked` on the channels that are listened to all the time.
    fn confirmed(self: &Arc<Self>, asked: Instant);

    /// A connection of those that stood is lost, or given up.
    fn disconnected(self: &Arc<Self>);
}

impl Subscriber {
    /// A subscriber and what [`run`] needs to serve it.
    #[must_use]
    pub fn new() -> (Self, Commands) {
        let wanted = Arc::new(Wanted::default());
        (
            Self {
                wanted: Arc::clone(&wanted),
            },
            Commands(wanted),
        )
    }

    /// Listens to `channel`; returns when the subscription stands. False if the process is stopping.
    ///
    /// It stays wanted when the caller gives up waiting.
    pub async fn subscribe(&self, channel: String) -> bool {
        self.wanted.add(channel).await.is_ok()
    }

    /// Listens to `channel` no longer.
    pub fn unsubscribe(&self, channel: &str) {
        self.wanted.remove(channel);
    }
}

/// Keeps the subscriptions until `stop` is cancelled.
pub async fn run<L: Listener>(redis: Redis, Commands(wanted): Commands, listener: Arc<L>, stop: CancellationToken) {
    listener.channels().into_iter().for_each(|channel| wanted.add_for_ever(channel));
    let mut ears: HashMap<Node, DropGuard> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut changes = redis.changes();
    while !stop.is_cancelled() {
        let nodes = redis.nodes();
        // Dropped: a server that takes no writes any more has nothing to tell.
        ears.retain(|node, _| nodes.contains(node));
        for node in nodes {
            ears.entry(node.clone()).or_insert_with(|| {
                let ear = Ear {
                    node,
                    redis: redis.clone(),
                    wanted: Arc::clone(&wanted),
                    listener: Arc::clone(&listener),
                };
                let end = stop.child_token();
                tasks.spawn(ear.live(end.clone()));
                end.drop_guard()
            });
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = changes.next() => wanted.look_again(),
            // An ear that panics must not leave its rooms deaf: whoever watches this task is told.
            Some(Err(failed)) = tasks.join_next() => std::panic::resume_unwind(failed.into_panic()),
        }
    }
    wanted.close();
}
