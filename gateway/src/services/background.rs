//! The parts that run beside requests, and how they start.

use std::sync::Arc;

use shared::bootstrap::Context;
use shared::bus::RedisClient;

use crate::accept::Acceptor;
use crate::config::Config;
use crate::epoch_watch::EpochWatch;
use crate::event_dispatch::EventDispatcher;
use crate::live::{ByeReason, Hub, StreamQuota, StreamRegistry, SubscriberTask};
use crate::revocation_watcher::Revocations;
use crate::{clock_check, worker_watch};

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
}

impl Background {
    /// Starts everything that runs beside requests. A part that ends unasked stops the gateway.
    pub(crate) fn spawn(self, config: &Config, context: &Context) {
        let lifecycle = &context.lifecycle;
        let stop = || lifecycle.soft.clone();
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
        } = self;
        let backlog = config.limits.backlog_per_partition;
        lifecycle.spawn_essential("the subscriber", subscriber.run(context.redis.clone(), events, stop()));
        lifecycle.spawn_essential("the maintenance of feeds", hub.maintain(stop()));
        lifecycle.spawn_essential("the maintenance of stream leases", quota.maintain(stop()));
        lifecycle.spawn_essential("the revocation watcher", revocations.watch(stop()));
        lifecycle.spawn_essential(
            "the worker watch",
            worker_watch::watch(Arc::clone(&acceptor), context.installation.id, stop()),
        );
        lifecycle.spawn_essential("the epoch watch", epoch.watch(stop()));
        lifecycle.spawn_essential("the clock check", clock_check::watch(redis, stop()));
        lifecycle.spawn_essential("the backlog watch", acceptor.watch_backlog(backlog, stop()));
        lifecycle.spawn_essential("the look-up of overdue commits", acceptor.look_up_overdue(stop()));
        let stopped = stop();
        lifecycle.tracker.spawn(async move {
            stopped.cancelled().await;
            streams.end_all(ByeReason::Shutdown);
        });
    }
}
