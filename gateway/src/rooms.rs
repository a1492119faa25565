//! Rooms: listing, creating, looking up, deleting, joining and leaving them, and listing who is in them.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::ControlEvent;
use shared::domain::{RoomKind, RoomName, Timestamp, UserId};
use shared::storage::{CreateRoom, CreateRoomError, JoinMode, Room, Store, StoreError, User};

use crate::event_dispatch::{ChangeError, EventDispatcher};
use crate::outbox_hints::OutboxHints;
use crate::policy::{self, Action};
use crate::rate_limits::{RateLimited, RateLimits};
use crate::revocation_watcher::{RevocationCheckError, Revocations};
use crate::room_directory::{Joined, NotJoined, RoomDirectory};

/// How often a room is looked up that somebody else deletes in the same moment.
const LOOKUPS_AT_MOST: u32 = 3;

/// Why something in a room was not done.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// There is no room of this name that the user may see.
    #[error("there is no room named '{0}'")]
    NotFound(String),
    /// The user was in another room of this name and must join this one expressly.
    #[error("this is not the room named '{0}' that they were in")]
    Replaced(String),
    /// The user sees the room and may not do this.
    #[error("they may not do this")]
    Forbidden,
    /// They do it too often, or it cannot be counted.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// It is not known whether what is cached is still true.
    #[error(transparent)]
    Stale(#[from] RevocationCheckError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A change was not carried through.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Why a room was not created.
#[derive(Debug, thiserror::Error)]
pub enum NotCreated {
    /// They create rooms too often, or it cannot be counted.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// The database refused or failed.
    #[error(transparent)]
    Create(#[from] CreateRoomError),
    /// The change was not carried through.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Finds rooms by the names that clients send. Clones share it.
#[derive(Clone)]
pub struct RoomLookup {
    directory: Arc<RoomDirectory>,
    revocations: Arc<Revocations>,
    events: Arc<EventDispatcher>,
}

impl RoomLookup {
    /// Rooms of `directory`, which is used while `revocations` finds it fresh. Who joins one is announced through `events`.
    #[must_use]
    pub fn new(directory: Arc<RoomDirectory>, revocations: Arc<Revocations>, events: Arc<EventDispatcher>) -> Self {
        Self {
            directory,
            revocations,
            events,
        }
    }

    /// The room named `name`, if `user` may do `action` there.
    pub async fn find(&self, name: &str, user: &User, action: Action) -> Result<Arc<Room>, RoomError> {
        let parsed = parse(name)?;
        self.revocations.ensure_fresh().await?;
        self.directory.find(&parsed, user, action).await?.ok_or_else(|| not_found(name))
    }

    /// The same for an action that not everybody may do who sees the room: `what` it is called in the log, where they are told
    /// from those to whom the room does not exist.
    pub async fn find_or_forbid(
        &self,
        name: &str,
        user: &User,
        action: Action,
        what: &'static str,
    ) -> Result<Arc<Room>, RoomError> {
        match self.find(name, user, action).await {
            Err(RoomError::NotFound(_)) => {
                self.find(name, user, Action::See).await?;
                policy::report_forbidden(user.id, what);
                Err(RoomError::Forbidden)
            }
            outcome => outcome,
        }
    }

    /// The same, from SQL: what is cached of the name is forgotten first.
    pub async fn find_anew(&self, name: &str, user: &User, action: Action) -> Result<Arc<Room>, RoomError> {
        if let Ok(parsed) = RoomName::parse(name) {
            self.directory.forget_room(&parsed);
        }
        self.find(name, user, action).await
    }

    /// The room named `name` with `user` as a member, who becomes one if they may and do `action` there.
    pub async fn join(&self, name: &str, user: &User, action: Action, mode: JoinMode) -> Result<Joined, RoomError> {
        let parsed = parse(name)?;
        self.revocations.ensure_fresh().await?;
        let joined = self.directory.join(&parsed, user, action, mode, Timestamp::now()).await;
        let joined = joined.map_err(|cause| match cause {
            NotJoined::NoRoom => not_found(name),
            NotJoined::Replaced => RoomError::Replaced(shown(name)),
            NotJoined::RateLimited(cause) => cause.into(),
            NotJoined::Store(cause) => cause.into(),
        })?;
        if joined.is_new {
            self.events.notify(ControlEvent::UserRoomsChanged { user: user.id });
        }
        Ok(joined)
    }

    /// Whether SQL still has this membership of `user`: see [`RoomDirectory::is_current`].
    pub async fn is_current(&self, joined: &Joined, user: UserId) -> Result<bool, StoreError> {
        self.directory.is_current(joined, user).await
    }
}

fn parse(name: &str) -> Result<RoomName, RoomError> {
    RoomName::parse(name).map_err(|_| not_found(name))
}

/// The error for a name that leads to no room.
#[must_use]
pub fn not_found(name: &str) -> RoomError {
    RoomError::NotFound(shown(name))
}

/// As much of a name as fits an error message.
fn shown(name: &str) -> String {
    name.chars().take(RoomName::MAX_LEN).collect()
}

/// What users own and how long names are reserved.
#[derive(Debug, Clone, Copy)]
pub struct RoomSettings {
    /// Rooms that one user may own; any number if 0.
    pub rooms_per_user: u32,
    /// How long the name of a deleted room stays with its owner.
    pub name_kept: Duration,
}

/// What the service of rooms needs.
pub struct RoomParts {
    /// Where rooms are.
    pub store: Store,
    /// A cache of some of them.
    pub directory: Arc<RoomDirectory>,
    /// Finds them by name.
    pub lookup: RoomLookup,
    /// How often rooms are created, joined and left.
    pub limits: RateLimits,
    /// Carries changes through that end something.
    pub events: Arc<EventDispatcher>,
    /// Tells workers of changes that become entries of the log.
    pub hints: OutboxHints,
    /// What users own and how long names are reserved.
    pub settings: RoomSettings,
}

/// The service of rooms.
pub struct Rooms(RoomParts);

impl Rooms {
    /// The service of `parts`.
    #[must_use]
    pub fn new(parts: RoomParts) -> Self {
        Self(parts)
    }

    /// Names of the rooms that `user` may see, sorted, behind `after`.
    pub async fn list(&self, user: &User, after: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        self.0.store.list_rooms(user.id, after, limit).await
    }

    /// Creates a room of `creator`. From its return on every gateway means this room by the name.
    pub async fn create(&self, creator: &User, name: RoomName, is_private: bool) -> Result<(), NotCreated> {
        let now = Timestamp::now();
        self.0.limits.create_room(creator.id).await?;
        let may_take_reserved = policy::may_anywhere(creator, Action::TakeReservedName);
        let new = CreateRoom {
            name: name.clone(),
            owner: creator.id,
            is_private,
            // Whoever may take the name frees it.
            reserved_since: (!may_take_reserved).then(|| now.minus(self.0.settings.name_kept)),
        };
        let most = match self.0.settings.rooms_per_user {
            0 => u32::MAX,
            most => most,
        };
        let room = self.0.store.create_room_within(most, new, now).await?;
        self.0.hints.send(room.id);
        self.0.events.notify(ControlEvent::UserRoomsChanged { user: creator.id });
        if room.has_predecessor() {
            self.0.events.change(async move { Ok(Some(ControlEvent::RoomReplaced { name })) }).await?;
        }
        Ok(())
    }

    /// The room named `name`, if `user` may see it.
    pub async fn get(&self, name: &str, user: &User) -> Result<Arc<Room>, RoomError> {
        self.0.lookup.find(name, user, Action::See).await
    }

    /// Deletes the room named `name`, and ends its streams.
    pub async fn delete(&self, name: &str, user: &User) -> Result<(), RoomError> {
        let parsed = parse(name)?;
        for _ in 0..LOOKUPS_AT_MOST {
            let room = self.0.lookup.find_or_forbid(name, user, Action::DeleteRoom, "delete a room").await?;
            let (store, id, name_of_it, now) = (self.0.store.clone(), room.id, parsed.clone(), Timestamp::now());
            let delete = async move {
                let deleted = store.delete_room(id, now).await?;
                Ok(deleted.then_some(ControlEvent::RoomDeleted {
                    room: id,
                    name: name_of_it,
                }))
            };
            if self.0.events.change(delete).await? {
                return Ok(());
            }
            // Somebody else was first. There may be another room of this name since.
            self.0.directory.forget_room(&parsed);
        }
        Err(not_found(name))
    }

    /// The room named `name` and the usernames of its members, sorted, behind `after`.
    pub async fn members(
        &self,
        name: &str,
        user: &User,
        after: &str,
        limit: u32,
    ) -> Result<(Arc<Room>, Vec<String>), RoomError> {
        let mut room = self.0.lookup.find(name, user, Action::See).await?;
        let mut names = self.0.store.list_members(room.id, user.id, after, limit).await?;
        if names.is_empty() {
            // The room may have been deleted since it was looked up.
            room = self.0.lookup.find_anew(&room.name, user, Action::See).await?;
            names = self.0.store.list_members(room.id, user.id, after, limit).await?;
        }
        Ok((room, names))
    }

    /// Makes `user` a member of the room named `name`, also if they were in an earlier room of this name.
    pub async fn join(&self, name: &str, user: &User) -> Result<(), RoomError> {
        self.0.lookup.join(name, user, Action::Join, JoinMode::Explicit).await.map(drop)
    }

    /// Ends the membership of `user` in the room named `name`, and their streams of it. A direct room is hidden instead.
    pub async fn leave(&self, name: &str, user: &User) -> Result<(), RoomError> {
        let user_id = user.id;
        self.0.limits.join(user_id).await?;
        let room = self.0.lookup.find(name, user, Action::Leave).await?;
        let (store, kind, room) = (self.0.store.clone(), room.kind, room.id);
        if kind == RoomKind::Direct {
            store.hide_direct(room, user_id).await?;
            self.0.events.notify(ControlEvent::UserRoomsChanged { user: user_id });
            return Ok(());
        }
        let leave = async move {
            let membership = store.leave(room, user_id, Timestamp::now()).await?;
            Ok(Some(ControlEvent::MemberRemoved {
                room,
                user: user_id,
                membership,
            }))
        };
        let left = self.0.events.change(leave).await;
        // Now that no gateway accepts messages under that membership: those before stand before the hint.
        self.0.hints.send(room);
        self.0.events.notify(ControlEvent::UserRoomsChanged { user: user_id });
        left?;
        Ok(())
    }
}
