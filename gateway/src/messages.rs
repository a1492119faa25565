//! Messages of rooms: posting and changing them, and reading history in pages.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::ControlEvent;
use shared::domain::{
    ChangeRequest, Emoji, IdempotencyKey, MessageId, MessageText, Seq, StreamCursor, Timestamp, UserId,
};
use shared::storage::{JoinMode, Room, Store, StoreError, User, Window};
use tokio::time::{Instant, timeout_at};

use crate::accept::{AcceptError, Acceptor, Acknowledged, NewMessage};
use crate::event_dispatch::{ChangeError, EventDispatcher};
use crate::history::{HistoryPages, Page, ReadError};
use crate::live::Hub;
use crate::policy::{self, Action};
use crate::rate_limits::{RateLimited, RateLimits};
use crate::rooms::{RoomError, RoomLookup, not_found};

/// Why a message was not posted or changed, or is not known to be.
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
    /// There is no user of this name, whom the message mentions.
    #[error("there is no user of this name")]
    NoSuchUser(String),
    /// The database failed before anything was sent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was deleted is gone, but maybe not yet from the memory of every gateway.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// It took too long: it may be accepted or not.
    #[error("the deadline passed before the outcome was known")]
    Late,
}

/// Why an edited message was not returned.
#[derive(Debug, thiserror::Error)]
pub enum NotEdited {
    /// It was not edited, or is not known to be.
    #[error(transparent)]
    Post(#[from] NotPosted),
    /// It was, and could not be read.
    #[error(transparent)]
    Read(#[from] NotRead),
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
    /// The room has no such message.
    #[error("there is no such message")]
    NoMessage,
}

/// A message that a user writes.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its text.
    pub text: MessageText,
    /// The message that it replies to.
    pub reply_to: Option<MessageId>,
    /// Names of the users that it mentions.
    pub mentions: Vec<String>,
    /// Identifies the request among all of the sender's.
    pub key: Option<IdempotencyKey>,
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

/// The message that is to be changed, and how.
#[derive(Debug, Clone)]
pub struct ChangeOf {
    /// Name of the room.
    pub room: String,
    /// Id of the message.
    pub id: MessageId,
    /// Identifies the request among all of the user's for this message.
    pub key: Option<IdempotencyKey>,
    /// After it, it is not known whether the change is made.
    pub deadline: Instant,
}

/// What the service of messages works with.
pub struct MessageParts {
    /// Knows the users that messages mention.
    pub store: Store,
    /// Finds rooms.
    pub rooms: RoomLookup,
    /// How often a user may post.
    pub limits: RateLimits,
    /// Accepts messages and changes.
    pub acceptor: Arc<Acceptor>,
    /// Reads pages.
    pub history: HistoryPages,
    /// Knows the epoch.
    pub hub: Hub,
    /// Has the caches of all gateways drop what was deleted.
    pub events: Arc<EventDispatcher>,
    /// How long the sender of a message may edit it; `None`: for ever.
    pub edit_window: Option<Duration>,
}

/// The service of messages.
pub struct Messages(MessageParts);

impl Messages {
    /// The service that works with `parts`.
    #[must_use]
    pub fn new(parts: MessageParts) -> Self {
        Self(parts)
    }

    /// Posts a message of `sender` to the room named `room`, which they join if they may. Repeated with the same key it is
    /// the same message. After `deadline` it is not known whether it was accepted.
    pub async fn post(
        &self,
        sender: &User,
        room: &str,
        draft: Draft,
        deadline: Instant,
    ) -> Result<PostedMessage, NotPosted> {
        let parts = &self.0;
        let permit = parts.acceptor.acquire_permit()?;
        let accept = async {
            parts.limits.post(sender.id).await?;
            let room = parts.rooms.join(room, sender, Action::Post, JoinMode::ByName).await?.room;
            let new = NewMessage {
                text: draft.text,
                in_reply_to: draft.reply_to,
                mentions: self.mentioned(&draft.mentions).await?,
                key: draft.key,
            };
            let acknowledged = parts.acceptor.accept(&permit, sender, &room, new, Timestamp::now()).await?;
            Ok(PostedMessage { room, acknowledged })
        };
        timeout_at(deadline, accept).await.unwrap_or(Err(NotPosted::Late))
    }

    /// The users named in `mentions`, each once.
    async fn mentioned(&self, mentions: &[String]) -> Result<Vec<UserId>, NotPosted> {
        if mentions.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.0.store.user_ids(mentions).await?;
        let mut users = Vec::with_capacity(mentions.len());
        for name in mentions {
            let user = *known.get(name).ok_or_else(|| NotPosted::NoSuchUser(name.clone()))?;
            if !users.contains(&user) {
                users.push(user);
            }
        }
        Ok(users)
    }

    /// Replaces the text of a message of `editor`, and returns the message. Repeating it is harmless.
    pub async fn edit(&self, editor: &User, of: ChangeOf, text: MessageText) -> Result<RoomHistory, NotEdited> {
        let oldest = self.0.edit_window.map_or(Timestamp(0), |window| Timestamp::now().minus(window));
        let request = ChangeRequest::Edit { text, oldest };
        self.change(editor, &of, Action::Read, |_: &Room| request).await?;
        Ok(self.get(editor, &of.room, of.id).await?)
    }

    /// Deletes a message: when this returns, no gateway has its text. Repeating it is harmless.
    pub async fn delete(&self, user: &User, of: ChangeOf) -> Result<(), NotPosted> {
        let request = |room: &Room| ChangeRequest::Delete {
            as_moderator: policy::non_member_may(user, Action::DeleteMessages, room),
        };
        let room = self.change(user, &of, Action::Read, request).await?.id;
        self.0.events.change(async move { Ok(Some(ControlEvent::MessageDeleted { room })) }).await?;
        Ok(())
    }

    /// Adds a reaction of `user` to a message, for which they join the room if they may, or removes it. Repeating it is harmless.
    pub async fn react(&self, user: &User, of: ChangeOf, emoji: Emoji, on: bool) -> Result<(), NotPosted> {
        let request = |_: &Room| ChangeRequest::React { emoji, on };
        let action = if on { Action::Post } else { Action::Read };
        self.change(user, &of, action, request).await.map(drop)
    }

    /// Has `request` made of a message, by a user who may do `action` in its room, which they join if that posts.
    async fn change(
        &self,
        user: &User,
        of: &ChangeOf,
        action: Action,
        request: impl FnOnce(&Room) -> ChangeRequest,
    ) -> Result<Arc<Room>, NotPosted> {
        let parts = &self.0;
        let permit = parts.acceptor.acquire_permit()?;
        let change = async {
            parts.limits.post(user.id).await?;
            let room = match action {
                Action::Post => parts.rooms.join(&of.room, user, action, JoinMode::ByName).await?.room,
                _ => parts.rooms.find(&of.room, user, action).await?,
            };
            let request = request(&room);
            let change = (of.id, request, of.key.as_ref());
            parts.acceptor.change(&permit, user, &room, change, Timestamp::now()).await?;
            Ok(room)
        };
        timeout_at(of.deadline, change).await.unwrap_or(Err(NotPosted::Late))
    }

    /// The message `id` of the room named `name`, for `reader`, as a page.
    pub async fn get(&self, reader: &User, name: &str, id: MessageId) -> Result<RoomHistory, NotRead> {
        let read = self.history(reader, name, Window::Only(id), 1).await?;
        if read.page.seqs.is_none() {
            return Err(NotRead::NoMessage);
        }
        Ok(read)
    }

    /// At most `limit` replies above `after` to the message `id` of the room named `name`, the oldest first, for `reader`,
    /// and whether there may be more.
    pub async fn replies(
        &self,
        reader: &User,
        name: &str,
        id: MessageId,
        (after, limit): (Seq, u32),
    ) -> Result<(Arc<Room>, Page, bool), NotRead> {
        let parts = &self.0;
        let mut room = parts.rooms.find(name, reader, Action::Read).await?;
        let mut read = parts.history.replies(&room, reader.id, id, (after, limit)).await?;
        if read.is_none() {
            // It has no such message, or was deleted or closed to this user since it was looked up.
            let anew = parts.rooms.find_anew(name, reader, Action::Read).await?;
            if anew.id != room.id {
                read = parts.history.replies(&anew, reader.id, id, (after, limit)).await?;
                room = anew;
            }
        }
        let (page, is_full) = read.ok_or(NotRead::NoMessage)?;
        Ok((room, page, is_full))
    }

    /// At most `limit` messages within `window` of the room named `name`, for `reader`.
    pub async fn history(&self, reader: &User, name: &str, window: Window, limit: u32) -> Result<RoomHistory, NotRead> {
        let parts = &self.0;
        let mut room = parts.rooms.find(name, reader, Action::Read).await?;
        let mut read = parts.history.page(&room, reader.id, window, limit).await?;
        if read.is_none() {
            // The room was deleted or closed to this user since it was looked up. There may be another one of this name.
            room = parts.rooms.find_anew(name, reader, Action::Read).await?;
            read = parts.history.page(&room, reader.id, window, limit).await?;
        }
        let (head, page) = read.ok_or_else(|| not_found(name))?;
        let head = StreamCursor {
            epoch: room.epoch(parts.hub.epoch()),
            seq: head,
        };
        Ok(RoomHistory { room, head, page })
    }
}
