//! Event dispatch: applies control events to what this gateway holds, and hands messages of Redis channels to their owners.
//!
//! A change that ends something (a session, a membership, a room) goes through [`EventDispatcher::change`]: it is written to
//! SQL, applied here and announced to the other gateways.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::{ControlEvent, ControlMessage, RedisClient};
use shared::storage::StoreError;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::accept::Acceptor;
use crate::auth::sessions::Sessions;
use crate::control_channel::ControlChannel;
use crate::freshness::Freshness;
use crate::history::HistoryPages;
use crate::live::{EventHandler, Hub, StreamQuota, StreamRegistry, UserTopics};
use crate::room_directory::RoomDirectory;

/// Why a change was not carried through.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It was not written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of ours.
    #[error("a change panicked")]
    Panicked,
}

/// What events are applied to, and how they are announced.
pub(crate) struct EventTargets {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) directory: Arc<RoomDirectory>,
    pub(crate) streams: StreamRegistry,
    pub(crate) users: UserTopics,
    pub(crate) quota: StreamQuota,
    pub(crate) hub: Hub,
    pub(crate) history: HistoryPages,
    pub(crate) acceptor: Arc<Acceptor>,
    pub(crate) freshness: Arc<Freshness>,
    pub(crate) control: ControlChannel,
    /// Knows the names of the channels.
    pub(crate) redis: RedisClient,
    /// Silence after which a stream sends a ping.
    pub(crate) heartbeat: Duration,
    /// Counts the tasks that the process waits for when it stops.
    pub(crate) tracker: TaskTracker,
}

/// Applies events here and announces them to other gateways.
pub struct EventDispatcher(EventTargets);

impl EventDispatcher {
    pub(crate) fn new(targets: EventTargets) -> Self {
        Self(targets)
    }

    /// Writes a change to SQL, applies what it says has ended and announces it to the other gateways.
    ///
    /// Once begun it is carried through even if the caller goes away: a change that is not applied would leave streams open. A
    /// gateway that the announcement does not reach finds out by itself, and hardly later: see [`crate::revocation_watcher`].
    /// When this returns, what has ended has ended at all of them. False if `write` found nothing to change.
    pub async fn change(
        self: &Arc<Self>,
        write: impl Future<Output = Result<Option<ControlEvent>, StoreError>> + Send + 'static,
    ) -> Result<bool, ChangeError> {
        let dispatcher = Arc::clone(self);
        let change = self.0.tracker.spawn(async move {
            let Some(event) = write.await? else {
                return Ok(false);
            };
            dispatcher.apply(&event);
            dispatcher.0.control.broadcast(event).await;
            Ok(true)
        });
        change.await.unwrap_or(Err(ChangeError::Panicked))
    }

    /// Announces an event to the other gateways in the background. They find out by themselves if it does not reach them.
    pub fn announce(self: &Arc<Self>, event: ControlEvent) {
        let dispatcher = Arc::clone(self);
        self.0.tracker.spawn(async move { dispatcher.0.control.broadcast(event).await });
    }

    /// Applies an event here, and publishes it in the background without waiting for anybody: for what the other gateways find by
    /// themselves a moment later. While many are under way it is not published.
    pub fn notify(self: &Arc<Self>, event: ControlEvent) {
        self.apply(&event);
        let Some(permit) = self.0.control.acquire_permit() else {
            return;
        };
        let dispatcher = Arc::clone(self);
        self.0.tracker.spawn(async move { dispatcher.0.control.publish_only(permit, event).await });
    }

    /// Forgets what is no longer true and ends the streams that are no longer allowed.
    pub fn apply(&self, event: &ControlEvent) {
        let targets = &self.0;
        match event {
            ControlEvent::SessionRevoked { user, session } => {
                targets.sessions.forget(*session);
                targets.streams.end_session(*user, *session);
            }
            ControlEvent::MemberRemoved { room, user, membership } => {
                targets.directory.forget_member(*room, *user);
                targets.users.note_rooms_changed(*user);
                if let Some(membership) = membership {
                    targets.streams.end_membership(*room, *user, *membership);
                }
            }
            ControlEvent::RoomDeleted { room, name } => {
                targets.directory.forget_room(name);
                targets.streams.end_room(*room);
                targets.hub.note_room_deleted(*room);
            }
            ControlEvent::MessageDeleted { room } => {
                targets.history.forget_room(*room);
                targets.hub.forget_deleted(*room);
            }
            ControlEvent::RoomReplaced { name } => targets.directory.forget_room(name),
            ControlEvent::StreamReplaced { stream } => targets.quota.end_replaced(*stream),
            ControlEvent::StreamQuotaReached { user } => {
                let (quota, user, heartbeat) = (targets.quota.clone(), *user, targets.heartbeat);
                targets.tracker.spawn(async move { quota.end_silent(user, heartbeat).await });
            }
            ControlEvent::UserRoomsChanged { user } => targets.users.note_rooms_changed(*user),
            ControlEvent::PartitionsClaimed { partitions } => targets.hub.mark_stale(partitions),
        }
    }

    /// Applies an event of another gateway or a worker, and acknowledges it.
    fn on_control_message(&self, payload: &[u8]) {
        match ControlMessage::decode(payload, self.0.redis.key_space()) {
            Ok(ControlMessage { event, reply_to }) => {
                self.apply(&event);
                if let Some(to) = reply_to {
                    self.0.control.acknowledge(to);
                }
            }
            Err(error) => error.report("control event"),
        }
    }
}

impl EventHandler for EventDispatcher {
    fn channels(&self) -> Vec<String> {
        let receipts = self.0.acceptor.receipts_channel();
        let acknowledgements = self.0.control.acknowledgements_channel().to_owned();
        let control = self.0.redis.key_space().control_channel().to_owned();
        vec![receipts, control, acknowledgements]
    }

    fn on_message(self: &Arc<Self>, channel: &str, payload: &[u8]) {
        let keys = self.0.redis.key_space();
        if channel == keys.control_channel() {
            self.on_control_message(payload);
        } else if let Some(room) = keys.room_of_channel(channel) {
            self.0.hub.on_room_event(room, payload);
        } else if channel == self.0.control.acknowledgements_channel() {
            self.0.control.on_acknowledgements(payload);
        } else {
            self.0.acceptor.on_receipts(payload);
        }
    }

    /// During the outage any message may have been stored and anything may have ended.
    fn on_reconnected(self: &Arc<Self>) {
        self.0.freshness.subscription_restored(Instant::now());
        self.0.hub.mark_all_stale();
    }

    fn on_confirmed(self: &Arc<Self>, asked: Instant) {
        self.0.freshness.confirm(asked);
    }

    fn on_disconnected(self: &Arc<Self>) {
        self.0.freshness.subscription_lost(Instant::now());
    }
}
