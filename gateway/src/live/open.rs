//! The service of streams: opens a live stream of a room for a caller, within their quota and where their cursor stands.

use std::net::IpAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::bus::ControlEvent;
use shared::domain::{Epoch, StreamCursor, Timestamp};
use shared::storage::{JoinMode, Room, StoreError, User};
use shared::telemetry::Event;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::{
    ClientName, Framing, Hub, LeaseRequest, LiveStream, OpenError, OpenFeed, Opened, QuotaError, RegisteredStream,
    StreamBounds, StreamLease, StreamQuota, StreamRegistry, StreamSettings, StreamStart, TcpEndpoints,
};
use crate::auth::sessions::{Caller, NotAuthenticated, Sessions};
use crate::event_dispatch::EventDispatcher;
use crate::fanout::Fanout;
use crate::history::HistoryRates;
use crate::policy::Action;
use crate::rooms::{RoomError, RoomLookup, not_found};

static REFUSED: Event = Event::refusal("too_many_streams", "a stream is refused, since as many are open as may be");

/// How often a room is joined for one stream. More than twice is needed only while somebody leaves and joins all the time.
const JOINS_AT_MOST: u32 = 5;

/// How long a stream at the limit waits for others to end before it is refused.
const LEASE_RETRY_AFTER: Duration = Duration::from_millis(500);

/// Why a stream was not opened.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// The room cannot be followed.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The caller's session has ended meanwhile.
    #[error(transparent)]
    Session(#[from] NotAuthenticated),
    /// The caller or their address has as many streams as allowed.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The feed of the room could not be opened.
    #[error(transparent)]
    Feed(#[from] OpenError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a client asks for.
pub struct StreamRequest {
    /// Its name for itself.
    pub client: Option<ClientName>,
    /// The address that its streams are counted for.
    pub address: IpAddr,
    /// The two ends of its connection, if they are known.
    pub endpoints: Option<TcpEndpoints>,
    /// The last id that it got.
    pub cursor: Option<String>,
    /// If it missed more messages than this, it wants none of them.
    pub max_replay: Option<u32>,
    /// When the stream ends by itself.
    pub bounds: StreamBounds,
    /// How the bytes of the stream are framed.
    pub framing: Framing,
}

/// What the service is made of.
pub struct StreamParts {
    /// Rooms by name.
    pub rooms: RoomLookup,
    /// Sessions, which may end while a stream opens.
    pub sessions: Arc<Sessions>,
    /// Open streams.
    pub registry: StreamRegistry,
    /// How many streams a client may have.
    pub quota: StreamQuota,
    /// Feeds of rooms.
    pub hub: Hub,
    /// How fast streams may be brought up to date.
    pub history_rates: HistoryRates,
    /// Where streams that are replaced are announced.
    pub events: Arc<EventDispatcher>,
    /// The threads that write to streams.
    pub fanout: Fanout<LiveStream>,
    /// What is the same for all streams.
    pub settings: StreamSettings,
}

/// The service of streams.
pub struct Streams(StreamParts);

impl Streams {
    /// The service made of `parts`.
    #[must_use]
    pub fn new(parts: StreamParts) -> Self {
        Self(parts)
    }

    /// Fails if `user` may not follow the room named `room`. Nobody joins a room or takes a lease by this.
    pub async fn check(&self, room: &str, user: &User) -> Result<(), RoomError> {
        self.0.rooms.find(room, user, Action::Follow).await.map(drop)
    }

    /// Opens a stream of the room named `room`, which `caller` joins if they may; returns the bytes that it begins with, too.
    pub async fn open(
        &self,
        caller: &Caller,
        room: &str,
        request: StreamRequest,
    ) -> Result<(LiveStream, Bytes), NotOpened> {
        let (room, connection) = self.register(room, caller).await?;
        let lease_request = LeaseRequest {
            user: caller.session.user.id,
            session: caller.session_id,
            room: room.id,
            client: request.client,
            address: request.address,
            endpoints: request.endpoints,
        };
        let lease = self.lease(&lease_request, &connection).await?;
        let hub = &self.0.hub;
        let feed = hub.open(&room).await?;
        let epochs = [feed.epoch, room.former_epoch(hub.epoch())];
        let start = self.start(&feed, (request.cursor.as_deref(), epochs), request.max_replay).await?;
        let opened = Opened {
            hub: hub.clone(),
            feed,
            connection,
            lease,
            start,
            bounds: request.bounds,
            expires_on: caller.session.expires_on,
            replay: self.0.history_rates.of(caller.session.user.id),
        };
        Ok(LiveStream::new(opened, self.0.settings, Timestamp::now(), request.framing))
    }

    /// Hands `stream` and the socket that it is written to over to a thread of the fan-out.
    pub fn adopt(&self, socket: TcpStream, permit: OwnedSemaphorePermit, stream: LiveStream) {
        self.0.fanout.adopt(socket, permit, stream);
    }

    /// Joins the room of this name and registers a stream whose session and membership stand by SQL.
    ///
    /// The membership may end while the stream is registered, on another device or at another gateway: then the room is joined
    /// anew.
    async fn register(&self, name: &str, caller: &Caller) -> Result<(Arc<Room>, Arc<RegisteredStream>), NotOpened> {
        let user = &caller.session.user;
        for _ in 0..JOINS_AT_MOST {
            let joined = self.0.rooms.join(name, user, Action::Follow, JoinMode::ByName).await?;
            let stream = self.0.registry.register(user.id, caller.session_id, joined.room.id, joined.membership);
            // A revocation before this line did not find the stream in the register, and SQL knows of it; a later one finds it.
            self.0.sessions.check(caller.session_id).await?;
            if self.0.rooms.is_current(&joined, user.id).await? {
                return Ok((joined.room, stream));
            }
        }
        Err(not_found(name).into())
    }

    /// A lease for the stream of `connection`. At the limit it is asked for once more a moment later, when streams that have
    /// just ended are released and those whose clients have vanished have been given up.
    async fn lease(
        &self,
        request: &LeaseRequest,
        connection: &Arc<RegisteredStream>,
    ) -> Result<StreamLease, QuotaError> {
        let (quota, events) = (&self.0.quota, &self.0.events);
        let mut granted = quota.acquire(request, connection).await;
        if matches!(granted, Err(QuotaError::TooMany)) {
            if quota.should_ask(request.user) {
                events.announce(ControlEvent::StreamQuotaReached { user: request.user });
            }
            sleep(LEASE_RETRY_AFTER).await;
            granted = quota.acquire(request, connection).await;
        }
        if matches!(granted, Err(QuotaError::TooMany)) {
            REFUSED.report(format_args!("user:{}", request.user.0), "");
        }
        let (lease, older) = granted?;
        if let Some(stream) = older {
            let replaced = ControlEvent::StreamReplaced { stream };
            events.apply(&replaced);
            events.announce(replaced);
        }
        Ok(lease)
    }

    /// Where the stream begins. A client may have got from another gateway what this one has not got yet: SQL knows.
    async fn start(
        &self,
        feed: &OpenFeed,
        (cursor, epochs): (Option<&str>, [Epoch; 2]),
        max_replay: Option<u32>,
    ) -> Result<StreamStart, StoreError> {
        let mut head = feed.head();
        let claimed = cursor.and_then(|raw| StreamCursor::parse(raw).ok());
        if claimed.is_some_and(|cursor| cursor.seq > head) {
            head = self.0.hub.refresh(feed).await?;
        }
        Ok(StreamStart::decide(cursor, epochs, head, max_replay))
    }
}
