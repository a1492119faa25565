//! What senders are called, for the events that tell of their messages.
//!
//! It is what SQL says, and not what an entry of the accept log could claim. Neither name of a user ever changes, so what was read
//! once is not asked for again. A restore gives the ids of lost users to others: it empties the memory.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::UserId;

/// Users that are remembered, at some 200 bytes each. Past it all are forgotten, and looked up again as they post.
const MAX_SENDERS: usize = 100_000;

/// A user as others see them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) username: String,
    pub(super) public_id: String,
}

/// A user as SQL hands it over: id, username, public id.
pub(super) type SenderRow = (i64, String, String);

/// Reads such users.
pub(super) fn decode_senders(rows: Vec<SenderRow>) -> Vec<(UserId, Sender)> {
    let read = |(id, username, public_id): SenderRow| (UserId(id), Sender { username, public_id });
    rows.into_iter().map(read).collect()
}

/// The users who have posted lately. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct SenderCache(Arc<Mutex<HashMap<UserId, Arc<Sender>>>>);

impl SenderCache {
    /// Adds those of `users` that are known to `found`, and returns the others.
    pub(super) fn look_up(
        &self,
        users: impl Iterator<Item = UserId>,
        found: &mut HashMap<UserId, Arc<Sender>>,
    ) -> HashSet<UserId> {
        // Every change is one call on the map.
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Remembers what was read of some users, and adds them to `found`.
    pub(super) fn learn(&self, read: Vec<(UserId, Sender)>, found: &mut HashMap<UserId, Arc<Sender>>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + read.len() > MAX_SENDERS {
            known.clear();
        }
        for (user, sender) in read {
            let sender = Arc::new(sender);
            known.insert(user, Arc::clone(&sender));
            found.insert(user, sender);
        }
    }

    /// Forgets everybody.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_asked_for_once_and_the_memory_is_bounded() {
        let cache = SenderCache::default();
        let sender = |id: i64| {
            let (username, public_id) = (format!("user {id}"), format!("user-{id}"));
            (UserId(id), Sender { username, public_id })
        };
        let mut found = HashMap::new();
        assert_eq!(cache.look_up([1, 2, 1].map(UserId).into_iter(), &mut found), [1, 2].map(UserId).into());
        // The second one does not exist.
        cache.learn(vec![sender(1)], &mut found);
        let mut again = HashMap::new();
        assert_eq!(cache.look_up([1, 2].map(UserId).into_iter(), &mut again), [2].map(UserId).into());
        assert_eq!((&found, again.len()), (&again, 1));
        cache.learn((0..i64::try_from(MAX_SENDERS).unwrap()).map(sender).collect(), &mut found);
        cache.learn(vec![sender(-1)], &mut found);
        assert_eq!(cache.0.lock().unwrap().len(), 1);
    }
}
