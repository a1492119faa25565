//! Topics of the fan-out: one for each room, and one for each user.
//!
//! The topic of a room moves with its feed. That of a user moves with everything that concerns all streams of this user and is
//! no entry of a room: a room that they joined, created or lost, wherever they did. A stream of many rooms follows both kinds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use shared::domain::{RoomId, UserId};

use crate::fanout::{Topic, TopicWaker, TopicWakers};

/// The topic of a room. Ids of rooms and users begin at 1.
#[must_use]
pub fn room_topic(room: RoomId) -> Topic {
    room.0
}

/// The topic of a user: below those of all rooms.
fn user_topic(user: UserId) -> Topic {
    -user.0
}

/// The topic of one user. It leaves the registry when it is dropped.
pub struct UserTopic {
    /// The user.
    pub user: UserId,
    changes: AtomicU64,
    wakers: TopicWakers,
    registry: UserTopics,
}

impl UserTopic {
    /// Its number.
    #[must_use]
    pub fn topic(&self) -> Topic {
        user_topic(self.user)
    }

    /// How often the user's rooms may have changed since the topic was opened. Read before SQL is asked for the rooms: what
    /// changes after that is counted once more.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Wakes `waker` from now on whenever the topic moves, for as long as somebody holds it.
    pub fn add_waker(&self, waker: &Arc<TopicWaker>) {
        self.wakers.add(waker);
    }

    /// Notes that the rooms have changed.
    pub fn note_change(&self) {
        // First counted, then woken: whoever is woken sees it.
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.wakers.wake();
    }

    /// Wakes the streams of the user, for something that is no change of their rooms.
    pub(super) fn wake(&self) {
        self.wakers.wake();
    }
}

impl Drop for UserTopic {
    fn drop(&mut self) {
        let mut open = self.registry.open_topics();
        // The user may have come back, and have another topic by now.
        if open.get(&self.user).is_some_and(|topic| topic.strong_count() == 0) {
            open.remove(&self.user);
        }
    }
}

/// The topics of all users who have streams of many rooms here. Clones share them. It is as large as the number of such streams.
#[derive(Clone, Default)]
pub struct UserTopics {
    by_user: Arc<Mutex<HashMap<UserId, Weak<UserTopic>>>>,
}

impl UserTopics {
    /// The topic of `user`, which all streams of this user share.
    #[must_use]
    pub fn open(&self, user: UserId) -> Arc<UserTopic> {
        let mut open = self.open_topics();
        if let Some(topic) = open.get(&user).and_then(Weak::upgrade) {
            return topic;
        }
        let topic = Arc::new(UserTopic {
            user,
            changes: AtomicU64::new(0),
            wakers: TopicWakers::default(),
            registry: self.clone(),
        });
        open.insert(user, Arc::downgrade(&topic));
        topic
    }

    /// Wakes the streams of `user`, whose rooms have changed: the set of them, or what one of them is for this user.
    pub fn note_rooms_changed(&self, user: UserId) {
        let topic = self.open_topics().get(&user).and_then(Weak::upgrade);
        // Outside the lock: whoever drops the last reference to a topic takes the lock.
        if let Some(topic) = topic {
            topic.note_change();
        }
    }

    /// The topics that are open, of users in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<UserTopic>> {
        self.open_topics().values().filter_map(Weak::upgrade).collect()
    }

    fn open_topics(&self) -> MutexGuard<'_, HashMap<UserId, Weak<UserTopic>>> {
        self.by_user.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reaches_the_streams_of_one_user() {
        let topics = UserTopics::default();
        let (ann, same, bob) = (topics.open(UserId(1)), topics.open(UserId(1)), topics.open(UserId(2)));
        topics.note_rooms_changed(UserId(1));
        topics.note_rooms_changed(UserId(3));
        assert_eq!([&ann, &same, &bob].map(|topic| topic.changes()), [1, 1, 0]);
        assert!(ann.topic() != bob.topic() && ann.topic() < room_topic(RoomId(1)));
    }

    #[test]
    fn a_topic_without_streams_leaves_the_registry() {
        let topics = UserTopics::default();
        let (ann, bob) = (topics.open(UserId(1)), topics.open(UserId(2)));
        drop(ann);
        assert_eq!(topics.all().len(), 1);
        assert_eq!(topics.open_topics().len(), 1);
        drop(bob);
        assert!(topics.open_topics().is_empty());
    }
}
