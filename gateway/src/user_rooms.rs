//! The rooms of a user: what is new in them, what the user has read, and direct rooms.

use std::sync::Arc;

use bytes::Bytes;
use shared::bus::ControlEvent;
use shared::domain::{Notify, Position, RoomId, RoomName, Seq, Timestamp, UserId};
use shared::storage::{Room, RoomState, Store, StoreError, User};

use crate::event_dispatch::EventDispatcher;
use crate::history::{HistoryPages, PAGE_MAX_BYTES, ReadError};
use crate::outbox_hints::OutboxHints;
use crate::policy::Action;
use crate::rate_limits::{RateLimited, RateLimits};
use crate::room_state_json;
use crate::rooms::{RoomError, RoomLookup, not_found};
use crate::user_lookup::user_named;

/// Why rooms were not listed.
#[derive(Debug, thiserror::Error)]
pub enum NotShown {
    /// Reading their last messages failed or was refused.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why there is no direct room.
#[derive(Debug, thiserror::Error)]
pub enum NoDirectRoom {
    /// There is no other user of this name.
    #[error("there is no user '{0}'")]
    NoSuchUser(String),
    /// It would be with oneself.
    #[error("a direct room is for two")]
    Oneself,
    /// They open direct rooms too often, or it cannot be counted.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a list of rooms by activity goes on: below the last activity of a room, and the id of that room.
///
/// Clients get it as two hexadecimal numbers, and need not know what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivityCursor(Position, RoomId);

impl ActivityCursor {
    /// The cursor behind `state`.
    fn behind(state: &RoomState) -> Self {
        Self(state.last_activity, state.room)
    }

    /// Parses what `Display` writes, in that spelling alone.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        let (position, room) = raw.split_once('-')?;
        let number = |digits| i64::from_str_radix(digits, 16).ok().filter(|number| *number >= 0);
        let cursor = Self(Position(number(position)?), RoomId(number(room)?));
        (cursor.to_string() == raw).then_some(cursor)
    }
}

impl std::fmt::Display for ActivityCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(position, room) = self;
        write!(f, "{:x}-{:x}", position.0, room.0)
    }
}

/// A page of rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomsPage {
    /// State objects with their last messages, as JSON, in an object.
    pub json: Bytes,
    /// The list goes on below this; `None` if nothing is left.
    pub next: Option<ActivityCursor>,
}

/// What the service works with.
pub struct UserRoomParts {
    /// Where rooms are.
    pub store: Store,
    /// Finds them by name.
    pub lookup: RoomLookup,
    /// How often marks are set and direct rooms are opened.
    pub limits: RateLimits,
    /// Reads last messages.
    pub history: HistoryPages,
    /// Announces what changed to the user's other devices.
    pub events: Arc<EventDispatcher>,
    /// Tells workers of changes that become entries of the log.
    pub hints: OutboxHints,
}

/// The service of users' rooms.
pub struct UserRooms(UserRoomParts);

impl UserRooms {
    /// The service that works with `parts`.
    #[must_use]
    pub fn new(parts: UserRoomParts) -> Self {
        Self(parts)
    }

    /// At most `limit` rooms of `user` below `before`, the one with the latest entry first, each with its last message. A page whose
    /// messages are long is shorter.
    pub async fn list(&self, user: &User, before: Option<ActivityCursor>, limit: u32) -> Result<RoomsPage, NotShown> {
        let before = before.map(|ActivityCursor(position, room)| (position, room));
        let states = self.0.store.rooms_by_activity(user.id, before, limit).await?;
        let rooms: Vec<RoomId> = states.iter().map(|state| state.room).collect();
        let newest = self.0.history.newest(user.id, &rooms, 1).await?;
        let (mut json, mut shown) = (br#"{"data":["#.to_vec(), None);
        let mut next = (states.len() >= limit as usize).then(|| states.last().map(ActivityCursor::behind)).flatten();
        let now = Timestamp::now();
        for state in &states {
            let end = json.len();
            if shown.is_some() {
                json.push(b',');
            }
            let last = newest.get(&state.room).and_then(|messages| messages.last());
            room_state_json::write(&mut json, state, now, last);
            if shown.is_some() && json.len() > PAGE_MAX_BYTES {
                json.truncate(end);
                next = shown;
                break;
            }
            shown = Some(ActivityCursor::behind(state));
        }
        json.extend_from_slice(b"]}");
        let json = json.into();
        Ok(RoomsPage { json, next })
    }

    /// Moves the read mark of `user` in the room named `name` to `seq`, or to the last entry if that is lower; never back.
    pub async fn set_read(&self, user: &User, name: &str, seq: Seq) -> Result<(), RoomError> {
        self.0.limits.mark(user.id).await?;
        let room = self.own_room(user, name).await?;
        let mut mark = self.0.store.set_read(room.id, user.id, seq).await?;
        if mark.is_none() {
            let room = self.own_room_anew(user, name, &room).await?;
            mark = self.0.store.set_read(room.id, user.id, seq).await?;
        }
        let mark = mark.ok_or_else(|| not_found(name))?;
        if mark.moved {
            self.announce(user.id);
        }
        Ok(())
    }

    /// Sets what `user` wants to be notified of in the room named `name`.
    pub async fn set_notify(&self, user: &User, name: &str, notify: Notify) -> Result<(), RoomError> {
        self.0.limits.mark(user.id).await?;
        let room = self.own_room(user, name).await?;
        let mut is_set = self.0.store.set_notify(room.id, user.id, notify).await?;
        if !is_set {
            let room = self.own_room_anew(user, name, &room).await?;
            is_set = self.0.store.set_notify(room.id, user.id, notify).await?;
        }
        if !is_set {
            return Err(not_found(name));
        }
        self.announce(user.id);
        Ok(())
    }

    /// The direct room of `user` and the one who has this username or public id, and whether it was created for that.
    pub async fn open_direct(&self, user: &User, other: &str) -> Result<(RoomState, bool), NoDirectRoom> {
        let parts = &self.0;
        parts.limits.join(user.id).await?;
        let no_such_user = || NoDirectRoom::NoSuchUser(other.to_owned());
        let other = user_named(&parts.store, other).await?.ok_or_else(no_such_user)?;
        if other == user.id {
            return Err(NoDirectRoom::Oneself);
        }
        let name = RoomName::fresh_direct();
        let (room, created) = parts.store.direct_room(user.id, other, name, Timestamp::now()).await?;
        if created {
            parts.hints.send(room.id);
            self.announce(other);
        }
        self.announce(user.id);
        let states = parts.store.room_states(user.id, &[room.id]).await?;
        // Nobody leaves a direct room.
        let state = states.into_iter().next().ok_or_else(no_such_user)?;
        Ok((state, created))
    }

    /// At most `limit` direct rooms of `user`, by the username of the other member, behind `after`.
    pub async fn direct(&self, user: &User, after: &str, limit: u32) -> Result<Vec<RoomState>, StoreError> {
        self.0.store.direct_rooms(user.id, after, limit).await
    }

    /// The room named `name` in which `user` has a state of their own.
    async fn own_room(&self, user: &User, name: &str) -> Result<Arc<Room>, RoomError> {
        self.0
            .lookup
            .find_or_forbid(name, user, Action::SetOwnState, "set their state in a room that they are not in")
            .await
    }

    /// The same where SQL does not have `user` in the room that was `found`: it may have been deleted since it was looked up, and there
    /// may be another one of this name.
    async fn own_room_anew(&self, user: &User, name: &str, found: &Room) -> Result<Arc<Room>, RoomError> {
        let room = self.0.lookup.find_anew(name, user, Action::SetOwnState).await?;
        if room.id == found.id {
            Err(not_found(name))
        } else {
            Ok(room)
        }
    }

    fn announce(&self, user: UserId) {
        self.0.events.notify(ControlEvent::UserRoomsChanged { user });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_one_spelling() {
        for cursor in [
            ActivityCursor(Position(0), RoomId(1)),
            ActivityCursor(Position(i64::MAX), RoomId(0xabc)),
        ] {
            assert_eq!(ActivityCursor::parse(&cursor.to_string()), Some(cursor));
        }
        for other in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "01-1",
            "1-01",
            "A-1",
            "+1-1",
            "1--1",
            "1-1-1",
            "8000000000000000-1",
            "x-1",
        ] {
            assert_eq!(ActivityCursor::parse(other), None, "{other:?}");
        }
    }
}
