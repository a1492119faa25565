//! What the handlers work with.

use std::sync::Arc;

use shared::bus::{ControlEvent, Pool, RedisClient, RedisConnector};
use shared::lifecycle::Lifecycle;
use shared::storage::{Installation, Store, StoreError};
use tokio::time::Instant;

use crate::StartError;
use crate::accept::Acceptor;
use crate::auth::known_origins::KnownOrigins;
use crate::auth::passwords::Passwords;
use crate::auth::sessions::Sessions;
use crate::auth::tokens::Tokens;
use crate::config::Config;
use crate::control_channel::ControlChannel;
use crate::fanout::Fanout;
use crate::freshness::Freshness;
use crate::history::{HistoryPages, HistoryRates, ReadQueue};
use crate::limits::Limits;
use crate::live::{Hub, LiveStream, StreamQuota, StreamRegistry, Subscriber};
use crate::rooms::Rooms;

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

/// One gateway's state. What is not in here is in SQL or Redis.
pub struct App {
    /// Settings.
    pub config: Config,
    /// Users, sessions, rooms and messages.
    pub store: Store,
    /// Tokens to callers.
    pub sessions: Sessions,
    /// Who has signed in before from where they are.
    pub known_origins: KnownOrigins,
    /// Hashing.
    pub passwords: Passwords,
    /// Rooms as callers see them.
    pub rooms: Rooms,
    /// What was said in them.
    pub history_pages: HistoryPages,
    /// How often something may be done.
    pub limits: Limits,
    /// The way into the accept log.
    pub acceptor: Acceptor,
    /// Feeds of rooms.
    pub hub: Hub,
    /// How fast streams may be brought up to date.
    pub history_rates: HistoryRates,
    /// Open streams.
    pub stream_registry: StreamRegistry,
    /// The threads that write to them.
    pub fanout: Fanout<LiveStream>,
    /// How many streams a client may have.
    pub quota: StreamQuota,
    /// Telling other gateways.
    pub control: ControlChannel,
    /// How current it is what this gateway remembers.
    pub(crate) freshness: Freshness,
    /// Redis, for rare questions.
    pub pool: Pool,
    /// Redis, for everything that need not wait behind posts.
    pub redis: RedisClient,
    /// What is fixed for this installation.
    pub installation: Installation,
    /// How the process stops.
    pub lifecycle: Lifecycle,
}

impl App {
    /// Puts the parts together; nothing runs yet.
    #[expect(
        clippy::too_many_arguments,
        reason = "one for each part of the gateway that begins before it"
    )]
    pub fn new(
        config: Config,
        keys: &[Vec<u8>],
        store: Store,
        installation: Installation,
        redis: &RedisConnector,
        subscriber: Subscriber,
        fanout: Fanout<LiveStream>,
        lifecycle: Lifecycle,
    ) -> Result<Arc<Self>, StartError> {
        let tokens = Arc::new(Tokens::new(keys, config.accounts.token_ttl()));
        // Two connections: a burst of posts does not delay the counting of limits, nor the other way round.
        let (hot, counting) = (redis.client(), redis.client());
        let args = &config.limits;
        let (read_queue, history_rates) = (ReadQueue::default(), HistoryRates::new(args.replay_kib_per_s));
        let quota = StreamQuota::new(counting.clone(), args.streams_per_user, args.streams_per_address);
        let limits = Limits::new(args, counting.clone());
        Ok(Arc::new(Self {
            sessions: Sessions::new(Arc::clone(&tokens), store.clone()),
            known_origins: KnownOrigins::new(store.clone(), tokens),
            passwords: Passwords::new().map_err(|_| StartError::Hashing)?,
            rooms: Rooms::new(store.clone(), limits.clone()),
            history_pages: HistoryPages::new(store.clone(), read_queue.clone(), history_rates.clone()),
            limits,
            acceptor: Acceptor::new(hot, store.clone(), installation, config.ack),
            hub: Hub::new(store.clone(), installation, subscriber, read_queue),
            history_rates,
            stream_registry: StreamRegistry::default(),
            fanout,
            quota,
            control: ControlChannel::new(redis.pool(), counting.clone()),
            freshness: Freshness::new(Instant::now()),
            pool: redis.pool(),
            redis: counting.clone(),
            installation,
            lifecycle,
            store,
            config,
        }))
    }

    /// Makes a change in SQL, acts on what it says has ended and tells the other gateways.
    ///
    /// Once begun it is carried through even if the caller goes away: a change that is not acted on would leave streams
    /// open. A gateway that was not told finds out by itself, and hardly later: see [`crate::revocation_watcher`]. When this returns,
    /// what has ended has ended at all of them. False if `write` found nothing to change.
    pub async fn change(
        self: &Arc<Self>,
        write: impl Future<Output = Result<Option<ControlEvent>, StoreError>> + Send + 'static,
    ) -> Result<bool, ChangeError> {
        let app = Arc::clone(self);
        let change = self.lifecycle.tracker.spawn(async move {
            let Some(event) = write.await? else {
                return Ok(false);
            };
            app.act_on(&event);
            app.control.broadcast(event).await;
            Ok(true)
        });
        change.await.unwrap_or(Err(ChangeError::Panicked))
    }

    /// Tells the other gateways in the background. What they are told of is not lost if they do not hear it.
    pub fn tell(self: &Arc<Self>, event: ControlEvent) {
        let app = Arc::clone(self);
        self.lifecycle.tracker.spawn(async move { app.control.broadcast(event).await });
    }

    /// Forgets what is no longer true and ends the streams that are no longer allowed.
    pub fn act_on(&self, event: &ControlEvent) {
        match event {
            ControlEvent::SessionRevoked { user, session } => {
                self.sessions.forget(*session);
                self.stream_registry.end_session(*user, *session);
            }
            ControlEvent::MemberRemoved { room, user, membership } => {
                self.rooms.forget_member(*room, *user);
                if let Some(membership) = membership {
                    self.stream_registry.end_membership(*room, *user, *membership);
                }
            }
            ControlEvent::RoomDeleted { room, name } => {
                self.rooms.forget_room(name);
                self.stream_registry.end_room(*room);
            }
            ControlEvent::RoomReplaced { name } => self.rooms.forget_room(name),
            ControlEvent::StreamReplaced { stream } => self.quota.replace(*stream),
            ControlEvent::StreamQuotaReached { user } => {
                let (quota, user, heartbeat) = (self.quota.clone(), *user, self.config.streams.settings().heartbeat);
                self.lifecycle.tracker.spawn(async move { quota.give_up_silent(user, heartbeat).await });
            }
            ControlEvent::PartitionsTaken { partitions } => self.hub.mark_stale(partitions),
        }
    }
}
