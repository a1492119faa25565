//! The service of streams: opens a live stream of a room for a caller, within their quota and where their cursor stands.

mod steps;
mod user_steps;

use std::net::TcpStream;
use std::sync::Arc;

use bytes::Bytes;
use shared::domain::Timestamp;
use shared::storage::{Store, StoreError, User};
use tokio::sync::OwnedSemaphorePermit;

use self::steps::Registered;
use crate::auth::sessions::{Caller, NotAuthenticated, Sessions};
use crate::event_dispatch::EventDispatcher;
use crate::fanout::Fanout;
use crate::history::HistoryRates;
use crate::live::{
    Framing, Hub, LeaseRequest, LiveStream, OpenError, OpenStream, QuotaError, StreamBounds, StreamFilter, StreamQuota,
    StreamRegistry, StreamSettings, UserStream, UserTopics,
};
use crate::policy::Action;
use crate::rooms::{RoomError, RoomLookup};

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
    /// What its lease is asked for with.
    pub lease: LeaseRequest,
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
    /// What moves the streams of all rooms of a user.
    pub users: UserTopics,
    /// Where rooms of users are read.
    pub store: Store,
    /// How many streams a client may have.
    pub quota: StreamQuota,
    /// Feeds of rooms.
    pub hub: Hub,
    /// How fast streams may be brought up to date.
    pub history_rates: HistoryRates,
    /// Where streams that are replaced are announced.
    pub events: Arc<EventDispatcher>,
    /// The threads that write to streams.
    pub fanout: Fanout<OpenStream>,
    /// What is the same for all streams.
    pub settings: StreamSettings,
}

/// What a client asks for that follows all its rooms.
pub struct UserStreamRequest {
    /// What its lease is asked for with.
    pub lease: LeaseRequest,
    /// The last id that it got.
    pub cursor: Option<String>,
    /// Which rooms and events it wants.
    pub filter: StreamFilter,
    /// When the stream ends by itself.
    pub bounds: StreamBounds,
    /// How the bytes of the stream are framed.
    pub framing: Framing,
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

    /// Opens a stream of the room named `room`, which `caller` joins if they may. Returns its first bytes, too.
    pub async fn open(
        &self,
        caller: &Caller,
        room: &str,
        request: StreamRequest,
    ) -> Result<(LiveStream, Bytes), NotOpened> {
        let registered = Registered::register(&self.0, caller, room).await?;
        let leased = registered.lease(&request.lease).await?;
        let following = leased.open_feed().await?;
        let opened = following.decide_start(request.cursor.as_deref(), request.max_replay).await?;
        Ok(LiveStream::new(opened, request.bounds, self.0.settings, Timestamp::now(), request.framing))
    }

    /// Opens a stream of all rooms of `caller`. Returns its first bytes, too.
    pub async fn open_all_rooms(
        &self,
        caller: &Caller,
        request: UserStreamRequest,
    ) -> Result<(UserStream, Bytes), NotOpened> {
        let registered = Registered::register_all(&self.0, caller).await?;
        let leased = registered.lease(&request.lease).await?;
        let planned = leased.plan(request.cursor, request.filter).await?;
        let opened = planned.open_feeds().await?;
        Ok(UserStream::new(opened, request.bounds, self.0.settings, Timestamp::now(), request.framing))
    }

    /// Hands `stream` and the socket that it is written to over to a thread of the fan-out.
    pub fn adopt(&self, socket: TcpStream, permit: OwnedSemaphorePermit, stream: OpenStream) {
        self.0.fanout.adopt(socket, permit, stream);
    }
}
