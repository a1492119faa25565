//! Which rooms there are, who is in them, and what of it a caller may see.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::{RoomId, RoomName, Timestamp, UserId};
use shared::storage::{Room, Store, StoreError, User};

use crate::coherent::CoherentCache;

/// Rooms and memberships kept in memory, each.
const CACHED: u64 = 100_000;

/// How long one is kept before it is read again.
const CACHED_FOR: Duration = Duration::from_secs(30);

/// The rooms as a caller sees them.
pub struct Rooms {
    store: Store,
    by_name: CoherentCache<RoomName, Arc<Room>>,
    members: CoherentCache<(RoomId, UserId), ()>,
}

impl Rooms {
    /// The rooms in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            by_name: CoherentCache::new(CACHED, CACHED_FOR),
            members: CoherentCache::new(CACHED, CACHED_FOR),
        }
    }

    /// The room of this name if `user` may see it: it is public, or they are in it.
    pub async fn visible(&self, name: &RoomName, user: UserId) -> Result<Option<Arc<Room>>, StoreError> {
        match self.by_name(name).await? {
            Some(room) if room.is_private && self.check_member(&room, user).await?.is_none() => Ok(None),
            found => Ok(found),
        }
    }

    /// The room of this name with `user` as a member: a public one is joined on the way.
    pub async fn joined(&self, name: &RoomName, user: UserId, now: Timestamp) -> Result<Option<Arc<Room>>, StoreError> {
        let Some(room) = self.by_name(name).await? else {
            return Ok(None);
        };
        let mut member = self.check_member(&room, user).await?;
        if member.is_none() && !room.is_private {
            let joined = self.store.join_public(room.id, user, now).await?;
            member = joined.then_some(());
            if !joined {
                // A public room is joined by whoever asks, unless it is gone: what was known of it is outdated.
                self.by_name.forget(name);
            }
        }
        Ok(member.map(|()| room))
    }

    /// The room of this name if `user` may know of it: they see it, own it, or are an admin.
    pub async fn known_to(&self, name: &RoomName, user: &User) -> Result<Option<Arc<Room>>, StoreError> {
        match self.by_name(name).await? {
            Some(room) if user.is_admin || room.owner_id == user.id => Ok(Some(room)),
            _ => self.visible(name, user.id).await,
        }
    }

    /// True if `room` still exists and `user` is in it.
    pub async fn is_open_to(&self, room: &Room, name: &RoomName, user: UserId) -> Result<bool, StoreError> {
        let exists = self.by_name(name).await?.is_some_and(|known| known.id == room.id);
        Ok(exists && self.check_member(room, user).await?.is_some())
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

    async fn check_member(&self, room: &Room, user: UserId) -> Result<Option<()>, StoreError> {
        let load = async { Ok(self.store.is_member(room.id, user).await?.then_some(())) };
        self.members.get_or_load(&(room.id, user), load).await
    }
}
