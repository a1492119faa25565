//! Registry of the streams that are open here, by user: it ends them when the user may no longer read.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, MutexGuard};
use shared::domain::{MembershipId, RoomId, SessionId, UserId};
use tokio::sync::Notify;

use super::bye_reason::ByeReason;
use super::user_inbox::{Lost, UserInbox};
use crate::fanout::Endings;

/// What a stream follows.
pub enum Followed {
    /// One room, by the membership it was opened by. It ends with this one, even if the user joins again.
    Room {
        /// The room.
        room: RoomId,
        /// The membership.
        membership: MembershipId,
    },
    /// All rooms of the user. It outlives each of them, and is told which are lost.
    AllRooms(Arc<UserInbox>),
}

impl Followed {
    /// The id of the room, or 0: streams of a client replace each other if they follow the same.
    #[must_use]
    pub(super) fn number(&self) -> i64 {
        match self {
            Self::Room { room, .. } => room.0,
            Self::AllRooms(_) => 0,
        }
    }
}

/// One open stream. It leaves the registry when it is dropped.
pub struct RegisteredStream {
    /// The user who follows.
    pub user: UserId,
    /// The session that opened it.
    pub session: SessionId,
    /// What it follows.
    pub followed: Followed,
    ended: Notify,
    reason: OnceLock<ByeReason>,
    registry: StreamRegistry,
}

impl RegisteredStream {
    /// Waits until the stream must end, and returns why.
    pub async fn ended(&self) -> ByeReason {
        loop {
            // Registered before the check: an end that comes after the check wakes it.
            let ended = self.ended.notified();
            if let Some(reason) = self.must_end() {
                return reason;
            }
            ended.await;
        }
    }

    /// Why the stream must end, if it must.
    #[must_use]
    pub fn must_end(&self) -> Option<ByeReason> {
        self.reason.get().copied()
    }

    /// Makes the stream end. The first reason stays.
    pub fn end(&self, reason: ByeReason) {
        let _ = self.reason.set(reason);
        self.ended.notify_waiters();
        self.registry.endings.note();
    }
}

/// The registry of open streams. Clones share it.
#[derive(Clone, Default)]
pub struct StreamRegistry {
    open: Arc<Mutex<Open>>,
    endings: Endings,
}

#[derive(Default)]
struct Open {
    /// Why all streams end, once they have to.
    ended: Option<ByeReason>,
    by_user: BTreeMap<UserId, Vec<Weak<RegisteredStream>>>,
}

impl StreamRegistry {
    /// An empty one, which notes the ends of its streams in `endings`.
    #[must_use]
    pub fn new(endings: Endings) -> Self {
        Self {
            open: Arc::default(),
            endings,
        }
    }

    /// Registers a stream of `user` that `session` opens.
    #[must_use]
    pub fn register(&self, user: UserId, session: SessionId, followed: Followed) -> Arc<RegisteredStream> {
        let stream = Arc::new(RegisteredStream {
            user,
            session,
            followed,
            ended: Notify::new(),
            reason: OnceLock::new(),
            registry: self.clone(),
        });
        let mut open = self.open();
        if let Some(reason) = open.ended {
            stream.end(reason);
        }
        open.by_user.entry(user).or_default().push(Arc::downgrade(&stream));
        drop(open);
        stream
    }

    /// Ends the streams that a session has opened.
    pub fn end_session(&self, user: UserId, session: SessionId) {
        for stream in self.of(Some(user)).into_iter().filter(|stream| stream.session == session) {
            stream.end(ByeReason::Revoked);
        }
    }

    /// Ends a user's streams of a room that were opened by `membership`, and ends the room for those of all their rooms.
    pub fn end_membership(&self, room: RoomId, user: UserId, membership: MembershipId) {
        for stream in self.of(Some(user)) {
            match &stream.followed {
                Followed::Room {
                    room: followed,
                    membership: by,
                } if (*followed, *by) == (room, membership) => stream.end(ByeReason::Removed),
                Followed::Room { .. } => {}
                Followed::AllRooms(inbox) => inbox.note_lost(Lost::Membership(room, membership)),
            }
        }
    }

    /// Ends all streams of a room, and ends the room for those of all rooms of a user.
    pub fn end_room(&self, room: RoomId) {
        for stream in self.of(None) {
            match &stream.followed {
                Followed::Room { room: followed, .. } if *followed == room => stream.end(ByeReason::Removed),
                Followed::Room { .. } => {}
                Followed::AllRooms(inbox) => inbox.note_lost(Lost::Room(room)),
            }
        }
    }

    /// Ends all streams, and every one that is registered from now on, for `reason`.
    pub fn end_all(&self, reason: ByeReason) {
        self.open().ended = Some(reason);
        for stream in self.all() {
            stream.end(reason);
        }
    }

    /// All open streams.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<RegisteredStream>> {
        self.open().by_user.values().flatten().filter_map(Weak::upgrade).collect()
    }

    /// The streams of the next `count` users above `last`, ascending by user.
    #[must_use]
    pub fn of_users_above(&self, last: UserId, count: usize) -> Vec<Arc<RegisteredStream>> {
        let open = self.open();
        let users = open.by_user.range((Bound::Excluded(last), Bound::Unbounded)).take(count);
        users.flat_map(|(_, streams)| streams).filter_map(Weak::upgrade).collect()
    }

    /// The open streams of `user`, or of everybody. Whoever drops the last reference to a stream takes the lock, so they are looked at
    /// outside it.
    fn of(&self, user: Option<UserId>) -> Vec<Arc<RegisteredStream>> {
        match user {
            Some(user) => {
                let open = self.open();
                open.by_user.get(&user).into_iter().flatten().filter_map(Weak::upgrade).collect()
            }
            None => self.all(),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }
}

impl Drop for RegisteredStream {
    fn drop(&mut self) {
        let mut open = self.registry.open();
        if let Some(of_user) = open.by_user.get_mut(&self.user) {
            of_user.retain(|stream| stream.strong_count() > 0);
            if of_user.is_empty() {
                open.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::live::topics::UserTopics;

    fn open(registry: &StreamRegistry, user: i64, session: u128, room: i64) -> Arc<RegisteredStream> {
        let session = SessionId(Uuid::from_u128(session));
        let followed = Followed::Room {
            room: RoomId(room),
            membership: MembershipId(1),
        };
        registry.register(UserId(user), session, followed)
    }

    #[test]
    fn a_stream_ends_with_its_session_membership_or_room() {
        let registry = StreamRegistry::default();
        let streams = [
            open(&registry, 1, 1, 1),
            open(&registry, 1, 2, 1),
            open(&registry, 2, 3, 1),
            open(&registry, 2, 3, 2),
        ];
        let ended = || streams.iter().map(|stream| stream.must_end()).collect::<Vec<_>>();
        registry.end_session(UserId(1), SessionId(Uuid::from_u128(1)));
        assert_eq!(ended(), [Some(ByeReason::Revoked), None, None, None]);
        registry.end_membership(RoomId(1), UserId(2), MembershipId(2));
        assert_eq!(ended(), [Some(ByeReason::Revoked), None, None, None], "another membership has ended");
        registry.end_membership(RoomId(1), UserId(2), MembershipId(1));
        assert_eq!(ended(), [Some(ByeReason::Revoked), None, Some(ByeReason::Removed), None]);
        registry.end_room(RoomId(1));
        assert_eq!(
            ended(),
            [
                Some(ByeReason::Revoked),
                Some(ByeReason::Removed),
                Some(ByeReason::Removed),
                None
            ]
        );
    }

    #[test]
    fn a_stream_of_all_rooms_outlives_each_of_them() {
        let (registry, user) = (StreamRegistry::default(), UserId(1));
        let inbox = Arc::new(UserInbox::new(UserTopics::default().open(user)));
        let session = SessionId(Uuid::from_u128(1));
        let stream = registry.register(user, session, Followed::AllRooms(Arc::clone(&inbox)));
        registry.end_membership(RoomId(1), user, MembershipId(2));
        registry.end_room(RoomId(3));
        registry.end_membership(RoomId(4), UserId(2), MembershipId(5));
        let lost = inbox.take().unwrap().lost;
        assert_eq!(lost, [Lost::Membership(RoomId(1), MembershipId(2)), Lost::Room(RoomId(3))]);
        assert_eq!(stream.must_end(), None);
        registry.end_session(user, session);
        assert_eq!(stream.must_end(), Some(ByeReason::Revoked));
    }

    #[test]
    fn a_stream_registered_after_the_end_of_all_ends_too() {
        let registry = StreamRegistry::default();
        let before = open(&registry, 1, 1, 1);
        registry.end_all(ByeReason::Shutdown);
        let after = open(&registry, 1, 1, 1);
        assert_eq!([before.must_end(), after.must_end()], [Some(ByeReason::Shutdown); 2]);
    }

    #[test]
    fn a_dropped_stream_leaves_the_registry() {
        let registry = StreamRegistry::default();
        let streams = [open(&registry, 1, 1, 1), open(&registry, 1, 1, 2)];
        assert_eq!(registry.all().len(), 2);
        drop(streams);
        assert!(registry.open().by_user.is_empty());
    }
}
