//! Messages of rooms: posting them and reading history in pages.

use std::sync::Arc;

use shared::domain::{IdempotencyKey, MessageText, Seq, StreamCursor, Timestamp};
use shared::storage::{JoinMode, Room, User, Window};
use tokio::time::{Instant, timeout_at};

use crate::accept::{AcceptError, Acceptor, Acknowledged};
use crate::history::{HistoryPages, Page, ReadError};
use crate::live::Hub;
use crate::policy::Action;
use crate::rate_limits::{RateLimited, RateLimits};
use crate::rooms::{RoomError, RoomLookup, not_found};

/// Why a message was not posted, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum NotPosted {
    /// The room cannot be posted to.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The user posts too often, or it cannot be counted.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// The message was not accepted.
    #[error(transparent)]
    Accept(#[from] AcceptError),
    /// It took too long: the message may be accepted or not.
    #[error("the deadline passed before the message was acknowledged")]
    Late,
}

/// Why history was not read.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// The room cannot be read.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// Reading failed or was refused.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A message that is recorded.
#[derive(Debug, Clone)]
pub struct PostedMessage {
    /// Its room.
    pub room: Arc<Room>,
    /// Its identity and position.
    pub acknowledged: Acknowledged,
}

/// A page of a room's history.
#[derive(Debug, Clone)]
pub struct RoomHistory {
    /// The room.
    pub room: Arc<Room>,
    /// Its last message when the page was read: a stream that is opened with it goes on exactly from here.
    pub head: StreamCursor,
    /// The messages.
    pub page: Arc<Page>,
}

/// The service of messages.
pub struct Messages {
    rooms: RoomLookup,
    limits: RateLimits,
    acceptor: Arc<Acceptor>,
    history: HistoryPages,
    hub: Hub,
}

impl Messages {
    /// Messages go through `acceptor` and are read from `history`, of the epoch that `hub` is in.
    #[must_use]
    pub fn new(
        rooms: RoomLookup,
        limits: RateLimits,
        acceptor: Arc<Acceptor>,
        history: HistoryPages,
        hub: Hub,
    ) -> Self {
        Self {
            rooms,
            limits,
            acceptor,
            history,
            hub,
        }
    }

    /// Posts a message of `sender` to the room named `room`, which they join if they may. Repeated with the same `key` it is
    /// the same message. After `deadline` it is not known whether it was accepted.
    pub async fn post(
        &self,
        sender: &User,
        room: &str,
        text: MessageText,
        key: Option<IdempotencyKey>,
        deadline: Instant,
    ) -> Result<PostedMessage, NotPosted> {
        let permit = self.acceptor.acquire_permit()?;
        let accept = async {
            self.limits.post(sender.id).await?;
            let room = self.rooms.join(room, sender, Action::Post, JoinMode::ByName).await?.room;
            let post = (text, key.as_ref());
            let acknowledged = self.acceptor.accept(&permit, sender, &room, post, Timestamp::now()).await?;
            Ok(PostedMessage { room, acknowledged })
        };
        timeout_at(deadline, accept).await.unwrap_or(Err(NotPosted::Late))
    }

    /// At most `limit` messages within `window` of the room named `name`, for `reader`.
    pub async fn history(&self, reader: &User, name: &str, window: Window, limit: u32) -> Result<RoomHistory, NotRead> {
        let mut room = self.rooms.find(name, reader, Action::Read).await?;
        let mut read = self.history.page(&room, reader.id, window, limit).await?;
        if read.is_none() {
            // The room was deleted or closed to this user since it was looked up. There may be another one of this name.
            room = self.rooms.find_anew(name, reader, Action::Read).await?;
            read = self.history.page(&room, reader.id, window, limit).await?;
        }
        let (head, page) = read.ok_or_else(|| not_found(name))?;
        let head = self.position(&room, head);
        Ok(RoomHistory { room, head, page })
    }

    fn position(&self, room: &Room, seq: Seq) -> StreamCursor {
        StreamCursor {
            epoch: room.epoch(self.hub.epoch()),
            seq,
        }
    }
}
