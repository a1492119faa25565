//! The parts that run beside requests, and how they start.

use std::sync::Arc;

use shared::bootstrap::Context;
use shared::bus::RedisClient;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::Acceptor;
use crate::config::Config;
use crate::epoch_watch::EpochWatch;
use crate::event_dispatch::EventDispatcher;
use crate::live::{ByeReason, Hub, StreamQuota, StreamRegistry, SubscriberTask};
use crate::presence::Presence;
use crate::revocation_watcher::Revocations;
use crate::{clock_check, own_rooms_watch, worker_watch};

/// The parts that run beside requests, each in a task of its own.
pub(crate) struct Background {
    pub(super) acceptor: Arc<Acceptor>,
    pub(super) events: Arc<EventDispatcher>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) epoch: EpochWatch,
    pub(super) hub: Hub,
    pub(super) quota: StreamQuota,
    pub(super) streams: StreamRegistry,
    pub(super) redis: RedisClient,
    pub(super) subscriber: SubscriberTask,
    /// Tells who is there, if users may know.
    pub(super) presence: Option<Presence>,
    /// Changes that are being carried through.
    pub(super) changes: TaskTracker,
}

/// What requests in flight need until the last one is answered.
pub(crate) struct ForRequests {
    /// Cancelled when none is left: what answers them stops.
    answered: CancellationToken,
    /// Changes that are being carried through.
    changes: TaskTracker,
}

impl ForRequests {
    /// Lets changes end that requests have begun, and stops what answered requests. The server must have answered all; `hard` ends the
    /// wait.
    pub(crate) async fn finish(self, hard: &CancellationToken) {
        self.changes.close();
        tokio::select! {
            () = self.changes.wait() => {}
            () = hard.cancelled() => {}
        }
        self.answered.cancel();
    }
}

impl Background {
    /// Starts everything that runs beside requests. A part that ends unasked stops the gateway.
    ///
    /// Most parts stop at once when the gateway is to stop. Those by which a request in flight learns its outcome go on until it is
    /// answered: a client that waits for a receipt or an acknowledgement would else wait for its time-out, and the gateway for the client.
    pub(crate) fn spawn(self, config: &Config, context: &Context) -> ForRequests {
        let lifecycle = &context.lifecycle;
        let (stop, answered) = (|| lifecycle.soft.clone(), CancellationToken::new());
        let Self {
            acceptor,
            events,
            revocations,
            epoch,
            hub,
            quota,
            streams,
            redis,
            subscriber,
            presence,
            changes,
        } = self;
        let backlog = config.limits.backlog_per_partition;
        lifecycle.spawn_essential("the subscriber", subscriber.run(context.redis.clone(), events, answered.clone()));
        lifecycle.spawn_essential("the maintenance of feeds", hub.maintain(stop()));
        lifecycle.spawn_essential("the maintenance of stream leases", quota.maintain(stop()));
        lifecycle.spawn_essential("the revocation watcher", revocations.watch(answered.clone()));
        lifecycle.spawn_essential(
            "the worker watch",
            worker_watch::watch(Arc::clone(&acceptor), context.installation.id, answered.clone()),
        );
        let own_rooms = own_rooms_watch::watch(context.store.clone(), streams.clone(), stop());
        lifecycle.spawn_essential("the watch of users' rooms", own_rooms);
        lifecycle.spawn_essential("the epoch watch", epoch.watch(stop()));
        lifecycle.spawn_essential("the clock check", clock_check::watch(redis, stop()));
        lifecycle.spawn_essential("the backlog watch", acceptor.watch_backlog(backlog, stop()));
        lifecycle.spawn_essential("the look-up of overdue commits", acceptor.look_up_overdue(answered.clone()));
        if let Some(presence) = presence {
            lifecycle.spawn_essential("the presence of users", presence.run(stop()));
        }
        let stopped = stop();
        lifecycle.tracker.spawn(async move {
            stopped.cancelled().await;
            streams.end_all(ByeReason::Shutdown);
        });
        ForRequests { answered, changes }
    }
}
