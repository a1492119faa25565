//! Room directory: rooms by name and the memberships of users, kept in invalidating caches.
//!
//! What is cached may be outdated, so a caller asks [`Revocations::ensure_fresh`](crate::revocation_watcher::Revocations)
//! first.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::{MembershipId, RoomId, RoomName, Timestamp, UserId};
use shared::storage::{JoinMode, JoinOutcome, Room, Store, StoreError, User};

use crate::invalidating_cache::InvalidatingCache;
use crate::outbox_hints::OutboxHints;
use crate::policy::{self, Action};
use crate::rate_limits::{RateLimited, RateLimits};

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
    /// Whether it may have begun with this call: it was not known before.
    pub is_new: bool,
}

/// Why a user is not in a room.
#[derive(Debug, thiserror::Error)]
pub enum NotJoined {
    /// There is no room of this name that they may see.
    #[error("there is no such room")]
    NoRoom,
    /// They were in another room of this name and must say that they mean this one.
    #[error("this is not the room of this name that they were in")]
    Replaced,
    /// They join and leave too often, or it cannot be counted.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Rooms by name, and who is in them.
pub struct RoomDirectory {
    store: Store,
    limits: RateLimits,
    hints: OutboxHints,
    by_name: InvalidatingCache<RoomName, Arc<Room>>,
    members: InvalidatingCache<(RoomId, UserId), MembershipId>,
}

impl RoomDirectory {
    /// The rooms in `store`, joined as often as `limits` allow. Workers learn of it through `hints`.
    #[must_use]
    pub fn new(store: Store, limits: RateLimits, hints: OutboxHints) -> Self {
        Self {
            store,
            limits,
            hints,
            by_name: InvalidatingCache::new(CACHED, CACHED_FOR),
            members: InvalidatingCache::new(CACHED, CACHED_FOR),
        }
    }

    /// The room of this name if `user` may do `action` there. A membership is looked up only where it decides.
    pub async fn find(&self, name: &RoomName, user: &User, action: Action) -> Result<Option<Arc<Room>>, StoreError> {
        let Some(room) = self.by_name(name).await? else {
            return Ok(None);
        };
        let may = policy::non_member_may(user, action, &room)
            || (policy::member_may(action, &room) && self.membership(&room, user.id).await?.is_some());
        Ok(may.then_some(room))
    }

    /// The room of this name with `user` as a member, who becomes one if they may and do `action` there.
    pub async fn join(
        &self,
        name: &RoomName,
        user: &User,
        action: Action,
        mode: JoinMode,
        now: Timestamp,
    ) -> Result<Joined, NotJoined> {
        match self.join_cached(name, user, action, mode, now).await {
            // What is cached of the room may be outdated. SQL says whether there is another one of this name.
            Err(NotJoined::NoRoom) => {
                self.by_name.forget(name);
                self.join_cached(name, user, action, mode, now).await
            }
            outcome => outcome,
        }
    }

    async fn join_cached(
        &self,
        name: &RoomName,
        user: &User,
        action: Action,
        mode: JoinMode,
        now: Timestamp,
    ) -> Result<Joined, NotJoined> {
        let room = self.by_name(name).await?.ok_or(NotJoined::NoRoom)?;
        let known = self.membership(&room, user.id).await?;
        let outcome = match known {
            Some(membership) if policy::member_may(action, &room) => JoinOutcome::Member(membership),
            _ if !policy::non_member_may(user, action, &room) => JoinOutcome::NotFound,
            _ => {
                self.limits.join(user.id).await?;
                let outcome = self.store.join_public(room.id, user.id, mode, now).await?;
                self.hints.send(room.id);
                outcome
            }
        };
        match outcome {
            JoinOutcome::Member(membership) => Ok(Joined {
                room,
                membership,
                is_new: known.is_none(),
            }),
            JoinOutcome::NotFound => Err(NotJoined::NoRoom),
            JoinOutcome::Replaced => Err(NotJoined::Replaced),
        }
    }

    /// Whether SQL says that the room exists and that `user` is in it by this very membership. If not, what is cached of the
    /// two is forgotten.
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

    /// Forgets a room that was deleted. Its memberships may stay: its id is never used again.
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

#[cfg(test)]
mod tests;
