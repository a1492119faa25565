//! A cache of the names of senders, for the events about their messages.
//!
//! Names come from SQL, and not from entries of the accept log, which could claim anything. A user's username and public id
//! never change, so they are read once. A restore of the database gives the ids of lost users to others; it clears the cache.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::UserId;

/// The most users in the cache, at some 200 bytes each. Beyond it the cache is cleared, and users are read again as they post.
const MAX_SENDERS: usize = 100_000;

/// The names of a user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) username: String,
    pub(super) public_id: String,
}

/// The row of a sender: id, username, public id.
pub(super) type SenderRow = (i64, String, String);

/// Converts rows of senders.
pub(super) fn decode_senders(rows: Vec<SenderRow>) -> Vec<(UserId, Sender)> {
    let read = |(id, username, public_id): SenderRow| (UserId(id), Sender { username, public_id });
    rows.into_iter().map(read).collect()
}

/// The names of users who have posted lately. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct SenderCache(Arc<Mutex<HashMap<UserId, Arc<Sender>>>>);

impl SenderCache {
    /// Adds the cached ones among `users` to `found`, and returns the others.
    pub(super) fn look_up(
        &self,
        users: impl Iterator<Item = UserId>,
        found: &mut HashMap<UserId, Arc<Sender>>,
    ) -> HashSet<UserId> {
        let known = self.0.lock();
        let mut unknown = HashSet::new();
        for user in users {
            match known.get(&user) {
                Some(sender) => {
                    found.entry(user).or_insert_with(|| Arc::clone(sender));
                }
                None => {
                    unknown.insert(user);
                }
            }
        }
        unknown
    }

    /// Adds `read` users to the cache and to `found`.
    pub(super) fn insert(&self, read: Vec<(UserId, Sender)>, found: &mut HashMap<UserId, Arc<Sender>>) {
        let mut known = self.0.lock();
        if known.len() + read.len() > MAX_SENDERS {
            known.clear();
        }
        for (user, sender) in read {
            let sender = Arc::new(sender);
            known.insert(user, Arc::clone(&sender));
            found.insert(user, sender);
        }
    }

    /// Removes everything.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_read_once_and_the_cache_is_bounded() {
        let cache = SenderCache::default();
        let sender = |id: i64| {
            let (username, public_id) = (format!("user {id}"), format!("user-{id}"));
            (UserId(id), Sender { username, public_id })
        };
        let mut found = HashMap::new();
        assert_eq!(cache.look_up([1, 2, 1].map(UserId).into_iter(), &mut found), [1, 2].map(UserId).into());
        // The second one does not exist.
        cache.insert(vec![sender(1)], &mut found);
        let mut again = HashMap::new();
        assert_eq!(cache.look_up([1, 2].map(UserId).into_iter(), &mut again), [2].map(UserId).into());
        assert_eq!((&found, again.len()), (&again, 1));
        cache.insert((0..i64::try_from(MAX_SENDERS).unwrap()).map(sender).collect(), &mut found);
        cache.insert(vec![sender(-1)], &mut found);
        assert_eq!(cache.0.lock().len(), 1);
    }
}
