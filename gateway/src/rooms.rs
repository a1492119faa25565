//! Which rooms there are, who is in them, and what of it a caller may see.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::{MembershipId, RoomId, RoomName, Timestamp, UserId};
use shared::storage::{JoinMode, JoinOutcome, Room, Store, StoreError, User};

use crate::invalidating_cache::InvalidatingCache;
use crate::limits::{Limited, Limits};

/// Rooms and memberships kept in memory, each.
const CACHED: u64 = 100_000;

/// How long one is kept before it is read again.
const CACHED_FOR: Duration = Duration::from_secs(30);

/// A room, and the membership by which a user is in it.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The room.
    pub room: Arc<Room>,
    /// The membership.
    pub membership: MembershipId,
}

/// Why somebody is not in a room.
#[derive(Debug, thiserror::Error)]
pub enum NotJoined {
    /// There is none of this name that they may know of.
    #[error("there is no such room")]
    NoRoom,
    /// They were in another room of this name and must say that they mean this one.
    #[error("this is not the room of this name that they were in")]
    Replaced,
    /// They join and leave too often, or it cannot be counted.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// It could not be found out.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The rooms as a caller sees them.
pub struct Rooms {
    store: Store,
    limits: Limits,
    by_name: InvalidatingCache<RoomName, Arc<Room>>,
    members: InvalidatingCache<(RoomId, UserId), MembershipId>,
}

impl Rooms {
    /// The rooms in `store`, joined as often as `limits` allow.
    #[must_use]
    pub fn new(store: Store, limits: Limits) -> Self {
        Self {
            store,
            limits,
            by_name: InvalidatingCache::new(CACHED, CACHED_FOR),
            members: InvalidatingCache::new(CACHED, CACHED_FOR),
        }
    }

    /// The room of this name if `user` may see it: it is public, or they are in it.
    pub async fn visible(&self, name: &RoomName, user: UserId) -> Result<Option<Arc<Room>>, StoreError> {
        match self.by_name(name).await? {
            Some(room) if room.is_private && self.membership(&room, user).await?.is_none() => Ok(None),
            found => Ok(found),
        }
    }

    /// The room of this name with `user` as a member: a public one is joined on the way.
    pub async fn joined(
        &self,
        name: &RoomName,
        user: UserId,
        mode: JoinMode,
        now: Timestamp,
    ) -> Result<Joined, NotJoined> {
        match self.join(name, user, mode, now).await {
            // What was known of the room may be outdated. SQL says whether there is another one of this name.
            Err(NotJoined::NoRoom) => {
                self.by_name.forget(name);
                self.join(name, user, mode, now).await
            }
            known => known,
        }
    }

    async fn join(&self, name: &RoomName, user: UserId, mode: JoinMode, now: Timestamp) -> Result<Joined, NotJoined> {
        let room = self.by_name(name).await?.ok_or(NotJoined::NoRoom)?;
        let outcome = match self.membership(&room, user).await? {
            Some(membership) => JoinOutcome::Member(membership),
            None if room.is_private => JoinOutcome::NotFound,
            None => {
                self.limits.join(user).await?;
                self.store.join_public(room.id, user, mode, now).await?
            }
        };
        match outcome {
            JoinOutcome::Member(membership) => Ok(Joined { room, membership }),
            JoinOutcome::NotFound => Err(NotJoined::NoRoom),
            JoinOutcome::Replaced => Err(NotJoined::Replaced),
        }
    }

    /// The room of this name if `user` may know of it: they see it, own it, or are an admin.
    pub async fn known_to(&self, name: &RoomName, user: &User) -> Result<Option<Arc<Room>>, StoreError> {
        match self.by_name(name).await? {
            Some(room) if user.is_admin || room.owner_id == user.id => Ok(Some(room)),
            _ => self.visible(name, user.id).await,
        }
    }

    /// True if SQL says that the room exists and that `user` is in it by this very membership. What is known of the two is
    /// forgotten if not.
    pub async fn is_current(&self, joined: &Joined, user: UserId) -> Result<bool, StoreError> {
        let current = self.store.membership(joined.room.id, user).await? == Some(joined.membership);
        if !current {
            if let Ok(name) = RoomName::parse(&joined.room.name) {
                self.forget_room(&name);
            }
            self.forget_member(joined.room.id, user);
        }
        Ok(current)
    }

    /// Forgets a room that was deleted. Its memberships need not be: its id is never used again.
    pub fn forget_room(&self, name: &RoomName) {
        self.by_name.forget(name);
    }

    /// Forgets that `user` was in `room`.
    pub fn forget_member(&self, room: RoomId, user: UserId) {
        self.members.forget(&(room, user));
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        self.by_name.forget_all();
        self.members.forget_all();
    }

    async fn by_name(&self, name: &RoomName) -> Result<Option<Arc<Room>>, StoreError> {
        let load = async { Ok(self.store.room_by_name(name).await?.map(Arc::new)) };
        self.by_name.get_or_load(name, load).await
    }

    async fn membership(&self, room: &Room, user: UserId) -> Result<Option<MembershipId>, StoreError> {
        self.members.get_or_load(&(room.id, user), self.store.membership(room.id, user)).await
    }
}
