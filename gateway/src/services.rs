//! Builds the services that handlers call and the parts that run beside requests, and connects them.

mod background;

use std::sync::Arc;

use shared::bootstrap::Context;
use shared::bus::RedisClient;
use shared::storage::Store;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub(crate) use self::background::Background;
use crate::accept::Acceptor;
use crate::accounts::{AccountParts, Accounts};
use crate::auth::known_clients::KnownClients;
use crate::auth::passwords::Passwords;
use crate::auth::sessions::Sessions;
use crate::auth::tokens::Tokens;
use crate::config::Config;
use crate::control_channel::ControlChannel;
use crate::epoch_watch::EpochWatch;
use crate::event_dispatch::{EventDispatcher, EventTargets};
use crate::fanout::{Endings, Fanout};
use crate::freshness::Freshness;
use crate::health::Health;
use crate::history::{HistoryPages, HistoryRates, ReadQueue};
use crate::live::{
    Hub, OpenStream, StreamQuota, StreamRegistry, StreamSettings, Subscriber, SubscriberTask, UserTopics,
};
use crate::messages::{MessageParts, Messages};
use crate::outbox_hints::OutboxHints;
use crate::presence::Presence;
use crate::rate_limits::RateLimits;
use crate::revocation_watcher::Revocations;
use crate::room_directory::RoomDirectory;
use crate::rooms::{RoomLookup, RoomParts, RoomSettings, Rooms};
use crate::search::Searches;
use crate::start_error::StartError;
use crate::streams::{StreamParts, Streams};
use crate::sync::Syncs;
use crate::typing::TypingNotices;
use crate::user_rooms::{UserRoomParts, UserRooms};

/// What handlers call. Everything that is not in here is in SQL or Redis.
pub struct Services {
    pub(crate) accounts: Accounts,
    pub(crate) rooms: Rooms,
    pub(crate) user_rooms: UserRooms,
    pub(crate) messages: Messages,
    pub(crate) searches: Searches,
    pub(crate) streams: Streams,
    pub(crate) syncs: Syncs,
    pub(crate) typing: TypingNotices,
    pub(crate) health: Health,
}

/// What the services and the parts beside them share. Clones of most of them share their state.
struct Parts<'a> {
    config: &'a Config,
    context: &'a Context,
    tokens: Arc<Tokens>,
    sessions: Arc<Sessions>,
    directory: Arc<RoomDirectory>,
    acceptor: Arc<Acceptor>,
    events: Arc<EventDispatcher>,
    hints: OutboxHints,
    revocations: Arc<Revocations>,
    rooms: RoomLookup,
    limits: RateLimits,
    history: HistoryPages,
    history_rates: HistoryRates,
    hub: Hub,
    registry: StreamRegistry,
    users: UserTopics,
    quota: StreamQuota,
    /// Redis for everything that need not wait behind posts.
    redis: RedisClient,
    /// Changes that are being carried through.
    changes: TaskTracker,
}

/// Connects the parts; nothing runs yet.
pub(crate) fn build(
    config: &Config,
    keys: &[Vec<u8>],
    context: &Context,
    fanout: Fanout<OpenStream>,
) -> Result<(Services, Background), StartError> {
    let (subscriber, subscriber_task) = Subscriber::new();
    let parts = Parts::new(config, keys, context, (subscriber, fanout.endings().clone()));
    let services = Services {
        accounts: parts.accounts()?,
        rooms: parts.rooms(),
        user_rooms: parts.user_rooms(),
        messages: parts.messages(),
        searches: Searches::new(parts.store(), parts.rooms.clone(), parts.history.clone()),
        streams: parts.streams(fanout),
        syncs: Syncs::new(parts.store(), parts.hub.clone(), parts.history.clone()),
        typing: TypingNotices::new(parts.rooms.clone(), parts.redis.clone(), context.installation),
        health: parts.health(),
    };
    Ok((services, parts.background(subscriber_task)))
}

impl<'a> Parts<'a> {
    fn new(
        config: &'a Config,
        keys: &[Vec<u8>],
        context: &'a Context,
        (subscriber, endings): (Subscriber, Endings),
    ) -> Self {
        let (store, installation) = (&context.store, context.installation);
        let args = &config.limits;
        // Two connections: a burst of posts does not delay the counting of limits, nor the other way round.
        let (appending, redis) = (context.redis.client(), context.redis.client());
        let (read_queue, history_rates) = (ReadQueue::default(), HistoryRates::new(args.replay_kib_per_s));
        let tokens = Arc::new(Tokens::new(keys, config.accounts.token_ttl()));
        let limits = RateLimits::new(args, redis.clone());
        let sessions = Arc::new(Sessions::new(Arc::clone(&tokens), store.clone()));
        let acceptor = Arc::new(Acceptor::new(appending.clone(), store.clone(), installation, config.ack));
        let accept_log = Arc::clone(&acceptor);
        let is_full = move |partition| accept_log.is_full(partition);
        let hints = OutboxHints::new(store.clone(), appending, installation, is_full);
        let (registry, users) = (StreamRegistry::new(endings), UserTopics::default());
        let directory = Arc::new(RoomDirectory::new(store.clone(), limits.clone(), hints.clone()));
        let freshness = Arc::new(Freshness::new(Instant::now()));
        let hub = Hub::new(store.clone(), installation, subscriber, read_queue.clone());
        let quota = StreamQuota::new(redis.clone(), args.streams_per_user, args.streams_per_address);
        let history = HistoryPages::new(store.clone(), read_queue, history_rates.clone());
        let changes = TaskTracker::new();
        let events = Arc::new(EventDispatcher::new(EventTargets {
            sessions: Arc::clone(&sessions),
            directory: Arc::clone(&directory),
            streams: registry.clone(),
            users: users.clone(),
            quota: quota.clone(),
            hub: hub.clone(),
            history: history.clone(),
            acceptor: Arc::clone(&acceptor),
            freshness: Arc::clone(&freshness),
            control: ControlChannel::new(context.redis.pool(), redis.clone()),
            redis: redis.clone(),
            heartbeat: config.streams.heartbeat(),
            tracker: changes.clone(),
        }));
        let caches = (Arc::clone(&sessions), Arc::clone(&directory));
        let revocations = Revocations::new(store.clone(), freshness, caches, registry.clone(), Arc::clone(&events));
        let revocations = Arc::new(revocations);
        Self {
            rooms: RoomLookup::new(Arc::clone(&directory), Arc::clone(&revocations), Arc::clone(&events)),
            history,
            config,
            context,
            tokens,
            sessions,
            directory,
            acceptor,
            events,
            hints,
            revocations,
            limits,
            history_rates,
            hub,
            registry,
            users,
            quota,
            redis,
            changes,
        }
    }

    fn store(&self) -> Store {
        self.context.store.clone()
    }

    fn accounts(&self) -> Result<Accounts, StartError> {
        Ok(Accounts::new(AccountParts {
            store: self.store(),
            sessions: Arc::clone(&self.sessions),
            known_clients: KnownClients::new(self.store(), Arc::clone(&self.tokens)),
            passwords: Passwords::new().map_err(|_| StartError::Hashing)?,
            limits: self.limits.clone(),
            revocations: Arc::clone(&self.revocations),
            events: Arc::clone(&self.events),
            tracker: self.context.lifecycle.tracker.clone(),
            settings: self.config.accounts.clone(),
        }))
    }

    fn rooms(&self) -> Rooms {
        let settings = RoomSettings {
            rooms_per_user: self.config.limits.rooms_per_user,
            name_kept: self.config.room_name_kept(),
        };
        Rooms::new(RoomParts {
            store: self.store(),
            directory: Arc::clone(&self.directory),
            lookup: self.rooms.clone(),
            limits: self.limits.clone(),
            events: Arc::clone(&self.events),
            hints: self.hints.clone(),
            settings,
        })
    }

    fn user_rooms(&self) -> UserRooms {
        UserRooms::new(UserRoomParts {
            store: self.store(),
            lookup: self.rooms.clone(),
            limits: self.limits.clone(),
            history: self.history.clone(),
            events: Arc::clone(&self.events),
            hints: self.hints.clone(),
        })
    }

    fn messages(&self) -> Messages {
        Messages::new(MessageParts {
            store: self.store(),
            rooms: self.rooms.clone(),
            limits: self.limits.clone(),
            acceptor: Arc::clone(&self.acceptor),
            history: self.history.clone(),
            hub: self.hub.clone(),
            events: Arc::clone(&self.events),
            edit_window: self.config.limits.edit_window(),
        })
    }

    fn streams(&self, fanout: Fanout<OpenStream>) -> Streams {
        Streams::new(StreamParts {
            rooms: self.rooms.clone(),
            sessions: Arc::clone(&self.sessions),
            registry: self.registry.clone(),
            users: self.users.clone(),
            store: self.store(),
            quota: self.quota.clone(),
            hub: self.hub.clone(),
            history_rates: self.history_rates.clone(),
            events: Arc::clone(&self.events),
            fanout,
            settings: StreamSettings {
                heartbeat: self.config.streams.heartbeat(),
                max_age: self.config.streams.max_age(),
            },
        })
    }

    fn health(&self) -> Health {
        let (acceptor, stop) = (Arc::clone(&self.acceptor), self.context.lifecycle.soft.clone());
        Health::new(self.store(), self.redis.clone(), acceptor, self.config.ack, stop)
    }

    fn background(self, subscriber: SubscriberTask) -> Background {
        let is_shown = self.config.streams.presence;
        let presence = || Presence::new(self.store(), self.redis.clone(), self.registry.clone());
        let presence = is_shown.then(presence);
        let epoch = EpochWatch {
            store: self.store(),
            hub: self.hub.clone(),
            history: self.history,
            sessions: self.sessions,
            directory: self.directory,
            streams: self.registry.clone(),
        };
        Background {
            acceptor: self.acceptor,
            events: self.events,
            revocations: self.revocations,
            epoch,
            hub: self.hub,
            quota: self.quota,
            streams: self.registry,
            redis: self.redis,
            subscriber,
            presence,
            changes: self.changes,
        }
    }
}
