//! What happens to a user's rooms beside their entries, until a stream of the user takes it.
//!
//! What ends a membership is taken before the next entry is sent, without a question to SQL: whoever lost a room gets nothing of it from
//! then on. Everything else that changes is counted by the user's topic, and read from SQL. Ephemeral events are bounded, and the oldest
//! are dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use shared::domain::{MembershipId, RoomId, RoomsVersion};

use super::topics::UserTopic;
use super::user_events::{Ephemeral, PresentUser};

/// Rooms whose loss is kept one by one; with more, the stream reads from SQL which ones it has.
const LOST_AT_MOST: usize = 1_000;

/// Ephemeral events that are kept for one stream.
const EPHEMERAL_AT_MOST: usize = 32;

/// A room that the user may no longer read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It was deleted.
    Room(RoomId),
    /// The user's membership has ended.
    Membership(RoomId, MembershipId),
}

/// What waits for one stream.
pub struct UserInbox {
    /// The topic of the user, which wakes the stream.
    pub topic: Arc<UserTopic>,
    /// The version of the rooms that the stream has read; -1 before the first time.
    version: AtomicI64,
    has_pending: AtomicBool,
    pending: Mutex<PendingNotices>,
}

/// What has come since the stream took it last.
#[derive(Default)]
pub(super) struct PendingNotices {
    /// Rooms that are lost.
    pub(super) lost: Vec<Lost>,
    /// More were lost than are named: nothing may be sent until SQL has said which rooms are left.
    pub(super) has_lost_others: bool,
    /// Events without a position.
    pub(super) ephemeral: VecDeque<Ephemeral>,
}

impl UserInbox {
    /// An empty one of a stream of the user that `topic` is about.
    #[must_use]
    pub fn new(topic: Arc<UserTopic>) -> Self {
        Self {
            topic,
            version: AtomicI64::new(-1),
            has_pending: AtomicBool::new(false),
            pending: Mutex::default(),
        }
    }

    /// Notes what rooms the stream has read.
    pub(super) fn note_rooms_read(&self, version: RoomsVersion) {
        self.version.fetch_max(version.0, Ordering::AcqRel);
    }

    /// Whether the stream has read rooms, and they have changed since then, up to `version`.
    #[must_use]
    pub fn is_behind(&self, version: RoomsVersion) -> bool {
        let read = self.version.load(Ordering::Acquire);
        read >= 0 && read < version.0
    }

    /// Notes that a room is lost. Streams that do not follow it look at it for nothing, and ask SQL for nothing.
    pub fn note_lost(&self, lost: Lost) {
        let is_kept = self.put(|pending| {
            let is_kept = pending.lost.len() < LOST_AT_MOST;
            if is_kept {
                pending.lost.push(lost);
            }
            pending.has_lost_others |= !is_kept;
            is_kept
        });
        if is_kept {
            self.topic.wake();
        } else {
            self.topic.note_change();
        }
    }

    /// Notes that some rooms may be lost, and it is not known which.
    pub fn note_unknown_losses(&self) {
        self.put(|pending| pending.has_lost_others = true);
        self.topic.note_change();
    }

    /// Adds what became of the presence of some users.
    pub fn push_presence(&self, users: &[PresentUser]) {
        self.push_ephemeral(Ephemeral::presence(users));
    }

    /// Adds an event without a position. The oldest one is dropped if there are too many.
    pub fn push_ephemeral(&self, event: Ephemeral) {
        self.put(|pending| {
            if pending.ephemeral.len() >= EPHEMERAL_AT_MOST {
                pending.ephemeral.pop_front();
            }
            pending.ephemeral.push_back(event);
        });
        self.topic.wake();
    }

    /// Takes what has come.
    pub(super) fn take(&self) -> Option<PendingNotices> {
        // Cleared before it is taken: what comes after that is found next time.
        self.has_pending.swap(false, Ordering::AcqRel).then(|| std::mem::take(&mut *self.pending.lock()))
    }

    /// The data of the events without a position that have come.
    #[cfg(test)]
    pub(crate) fn take_ephemeral(&self) -> Vec<String> {
        let events = self.take().map(|pending| pending.ephemeral).unwrap_or_default();
        events.iter().map(|event| String::from_utf8_lossy(&event.data).into_owned()).collect()
    }

    fn put<T>(&self, add: impl FnOnce(&mut PendingNotices) -> T) -> T {
        let added = add(&mut self.pending.lock());
        self.has_pending.store(true, Ordering::Release);
        added
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::UserId;

    use super::*;
    use crate::live::event_kind::Kind;
    use crate::live::topics::UserTopics;

    #[test]
    fn the_latest_ephemeral_events_are_kept() {
        let inbox = UserInbox::new(UserTopics::default().open(UserId(1)));
        assert!(inbox.take().is_none());
        for number in 0..EPHEMERAL_AT_MOST + 3 {
            inbox.push_ephemeral(Ephemeral {
                kind: Kind::Typing,
                data: number.to_string().into(),
            });
        }
        let kept = inbox.take().unwrap().ephemeral;
        assert_eq!((kept.len(), &kept[0].data[..]), (EPHEMERAL_AT_MOST, &b"3"[..]));
        assert_eq!(inbox.topic.changes(), 0, "no room has changed");
    }

    #[test]
    fn rooms_that_are_lost_beyond_the_bound_are_not_forgotten() {
        let inbox = UserInbox::new(UserTopics::default().open(UserId(1)));
        for room in 0..=LOST_AT_MOST {
            inbox.note_lost(Lost::Room(RoomId(room.try_into().unwrap())));
        }
        let pending = inbox.take().unwrap();
        assert_eq!((pending.lost.len(), pending.has_lost_others), (LOST_AT_MOST, true));
        assert!(inbox.topic.changes() > 0);
    }
}
