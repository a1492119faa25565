//! Registry of the streams that are open here, by user: it ends them when the user may no longer read.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, MutexGuard};
use shared::domain::{MembershipId, RoomId, SessionId, UserId};
use tokio::sync::Notify;

use super::bye_reason::ByeReason;

/// One open stream. It leaves the registry when it is dropped.
pub struct RegisteredStream {
    /// The user who follows.
    pub user: UserId,
    /// The session that opened it.
    pub session: SessionId,
    /// The room it follows.
    pub room: RoomId,
    /// The membership it was opened by. It ends with this one, even if the user joins again.
    pub membership: MembershipId,
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
    }
}

/// The registry of open streams. Clones share it.
#[derive(Clone, Default)]
pub struct StreamRegistry {
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    /// Why all streams end, once they have to.
    ended: Option<ByeReason>,
    by_user: HashMap<UserId, Vec<Weak<RegisteredStream>>>,
}

impl StreamRegistry {
    /// Registers a stream of `room`.
    #[must_use]
    pub fn register(
        &self,
        user: UserId,
        session: SessionId,
        room: RoomId,
        membership: MembershipId,
    ) -> Arc<RegisteredStream> {
        let stream = Arc::new(RegisteredStream {
            user,
            session,
            room,
            membership,
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
        self.end_where(Some(user), ByeReason::Revoked, |stream| stream.session == session);
    }

    /// Ends a user's streams of a room that were opened by `membership`.
    pub fn end_membership(&self, room: RoomId, user: UserId, membership: MembershipId) {
        let by_it = |stream: &RegisteredStream| stream.room == room && stream.membership == membership;
        self.end_where(Some(user), ByeReason::Removed, by_it);
    }

    /// Ends all streams of a room.
    pub fn end_room(&self, room: RoomId) {
        self.end_where(None, ByeReason::Removed, |stream| stream.room == room);
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

    fn end_where(&self, user: Option<UserId>, reason: ByeReason, which: impl Fn(&RegisteredStream) -> bool) {
        let candidates: Vec<Arc<RegisteredStream>> = match user {
            Some(user) => {
                let open = self.open();
                open.by_user.get(&user).into_iter().flatten().filter_map(Weak::upgrade).collect()
            }
            None => self.all(),
        };
        // Outside the lock: whoever drops the last reference to a stream takes the lock.
        for stream in candidates {
            if which(&stream) {
                stream.end(reason);
            }
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

    fn open(registry: &StreamRegistry, user: i64, session: u128, room: i64) -> Arc<RegisteredStream> {
        let session = SessionId(Uuid::from_u128(session));
        registry.register(UserId(user), session, RoomId(room), MembershipId(1))
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
