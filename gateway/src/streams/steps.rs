//! The steps in which a stream opens, as types: each consumes the one before, so none can be left out or moved.
//!
//! ```text
//! Registered ──lease──► Leased ──open_feed──► Following ──decide_start──► Opened ──► LiveStream
//! ```
//!
//! The order has reasons:
//!
//! 1. [`Registered`]: the stream is in the registry before SQL is asked whether its session and membership stand. A
//!    revocation from before the registration does not find the stream, and SQL knows of it; a later one finds it.
//! 2. [`Leased`]: only a stream that may be read costs a lease, or ends the older stream of its client. The lease holds the
//!    registered stream, by which a newer stream of the client can end it.
//! 3. [`Following`]: a feed costs a subscription and a read of SQL, which a client at its limit must not cause.
//! 4. [`Opened`]: where the stream starts is decided by the head of the running feed, so that no message falls between the
//!    position of the stream and what the feed brings.
//!
//! A step that is dropped undoes itself: the feed loses a reader, the lease is released, the stream leaves the registry.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::ControlEvent;
use shared::domain::StreamCursor;
use shared::storage::{JoinMode, Room, StoreError};
use shared::telemetry::LogEvent;
use tokio::time::sleep;

use super::{NotOpened, StreamParts};
use crate::auth::sessions::Caller;
use crate::live::{
    Followed, LeaseRequest, OpenError, OpenFeed, Opened, QuotaError, RegisteredStream, StreamLease, StreamStart,
};
use crate::policy::Action;
use crate::rooms::not_found;

static REFUSED: LogEvent =
    LogEvent::refusal("too_many_streams", "a stream is refused, since as many are open as may be");

/// How often a room is joined for one stream. More than twice is needed only while somebody leaves and joins all the time.
const JOINS_AT_MOST: u32 = 5;

/// How long a stream at the limit waits for others to end before it is refused.
const LEASE_RETRY_AFTER: Duration = Duration::from_millis(500);

/// A stream in the registry whose session stands by SQL, and its membership if it follows one room.
pub(super) struct Registered<'a, F> {
    pub(super) parts: &'a StreamParts,
    pub(super) caller: &'a Caller,
    /// What it follows.
    pub(super) followed: F,
    pub(super) stream: Arc<RegisteredStream>,
}

/// A registered stream that holds a lease.
pub(super) struct Leased<'a, F> {
    pub(super) lease: StreamLease,
    pub(super) registered: Registered<'a, F>,
}

/// A leased stream whose room has a running feed.
pub(super) struct Following<'a> {
    feed: OpenFeed,
    leased: Leased<'a, Arc<Room>>,
}

impl<'a> Registered<'a, Arc<Room>> {
    /// Joins the room of this name for `caller` and registers a stream of it.
    ///
    /// The membership may end while the stream is registered, on another device or at another gateway: then the room is joined
    /// anew.
    pub(super) async fn register(parts: &'a StreamParts, caller: &'a Caller, name: &str) -> Result<Self, NotOpened> {
        let user = &caller.session.user;
        for _ in 0..JOINS_AT_MOST {
            let joined = parts.rooms.join(name, user, Action::Follow, JoinMode::ByName).await?;
            let followed = Followed::Room {
                room: joined.room.id,
                membership: joined.membership,
            };
            let stream = parts.registry.register(user.id, caller.session_id, followed);
            parts.sessions.check(caller.session_id).await?;
            if parts.rooms.is_current(&joined, user.id).await? {
                return Ok(Self {
                    parts,
                    caller,
                    followed: joined.room,
                    stream,
                });
            }
        }
        Err(not_found(name).into())
    }
}

impl<'a, F> Registered<'a, F> {
    /// Acquires a lease. At the limit it is asked for once more a moment later, when streams that have just ended are released
    /// and those whose clients have vanished have been given up.
    pub(super) async fn lease(self, request: &LeaseRequest) -> Result<Leased<'a, F>, QuotaError> {
        let (quota, events, user) = (&self.parts.quota, &self.parts.events, self.stream.user);
        let mut granted = quota.acquire(request, &self.stream).await;
        if matches!(granted, Err(QuotaError::TooMany)) {
            if quota.should_ask(user) {
                events.announce(ControlEvent::StreamQuotaReached { user });
            }
            sleep(LEASE_RETRY_AFTER).await;
            granted = quota.acquire(request, &self.stream).await;
        }
        if matches!(granted, Err(QuotaError::TooMany)) {
            REFUSED.report(format_args!("user:{}", user.0), "");
        }
        let (lease, older) = granted?;
        if let Some(stream) = older {
            let replaced = ControlEvent::StreamReplaced { stream };
            events.apply(&replaced);
            events.announce(replaced);
        }
        Ok(Leased {
            lease,
            registered: self,
        })
    }
}

impl<'a> Leased<'a, Arc<Room>> {
    /// Opens the feed of the room, or joins its other readers.
    pub(super) async fn open_feed(self) -> Result<Following<'a>, OpenError> {
        let feed = self.registered.parts.hub.open(&self.registered.followed).await?;
        Ok(Following { feed, leased: self })
    }
}

impl Following<'_> {
    /// Decides where the stream starts, by the cursor of the client and how many messages it wants to have replayed at most.
    ///
    /// A client may have got messages from another gateway that have not reached this one yet: SQL has them.
    pub(super) async fn decide_start(
        self,
        cursor: Option<&str>,
        max_replay: Option<u32>,
    ) -> Result<Opened, StoreError> {
        let Self { feed, leased } = self;
        let Registered {
            parts,
            caller,
            followed: room,
            stream,
        } = leased.registered;
        let epochs = [feed.epoch, room.former_epoch(parts.hub.epoch())];
        let mut head = feed.head();
        let client_cursor = cursor.and_then(|raw| StreamCursor::parse(raw).ok());
        if client_cursor.is_some_and(|cursor| cursor.seq > head) {
            head = parts.hub.refresh(&feed).await?;
        }
        Ok(Opened {
            hub: parts.hub.clone(),
            start: StreamStart::decide(cursor, epochs, head, max_replay),
            expires_on: caller.session.expires_on,
            rates: parts.history_rates.clone(),
            feed,
            lease: leased.lease,
            registered: stream,
        })
    }
}
