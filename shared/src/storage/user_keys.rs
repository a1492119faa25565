//! Computes the keys of users whom an earlier release has created without them.
//!
//! SQL has no Unicode tables, so the program computes keys: when a user registers, and here for the users from before. Of two
//! whose keys are equal, the first one gets the key. The other keeps signing in under their exact spelling, and no new user can
//! take a name like it. If every user has their keys, nothing is written.

use std::collections::HashSet;

use sqlx::FromRow;
use tracing::{info, warn};

use super::StoreError;
use crate::domain::{Email, PublicId, Username};

/// Users that are read at once.
const PAGE: u32 = 500;

/// How often a page is tried again, because another process works on it too or somebody registers meanwhile.
const TRIES: u32 = 10;

/// The most public ids in the log line.
const NAMED: usize = 20;

/// A user who lacks at least one key.
#[derive(Debug, Clone, FromRow)]
pub(super) struct UserWithoutKey {
    pub(super) id: i64,
    pub(super) email: String,
    pub(super) username: String,
    pub(super) public_id: String,
    pub(super) has_email_key: bool,
    pub(super) has_username_key: bool,
    pub(super) has_public_id_key: bool,
}

/// Keys to write for a user. Those that are `None` stay as they are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct NewKeys {
    pub(super) id: i64,
    pub(super) email: Option<String>,
    pub(super) username: Option<String>,
    pub(super) public_id: Option<String>,
}

impl NewKeys {
    fn is_empty(&self) -> bool {
        self.email.is_none() && self.username.is_none() && self.public_id.is_none()
    }
}

/// The statements that a back end adds.
pub(super) trait UserKeys {
    /// At most `limit` users with an id above `after` who lack a key, ascending by id.
    async fn users_without_key(&self, after: i64, limit: u32) -> Result<Vec<UserWithoutKey>, StoreError>;

    /// Those of the `keys` that some user has. Both are of e-mails, usernames and public ids, in this order.
    async fn taken(&self, keys: [Vec<String>; 3]) -> Result<[HashSet<String>; 3], StoreError>;

    /// Writes all `keys`, or none and returns false if a user has one of them by now.
    async fn set_keys(&self, keys: &[NewKeys]) -> Result<bool, StoreError>;
}

/// Gives every user the keys that nobody has.
pub(super) async fn backfill(store: &impl UserKeys) -> Result<(), StoreError> {
    let (mut after, mut written, mut tries) = (0, 0, 0);
    let mut without = Vec::new();
    loop {
        let page = store.users_without_key(after, PAGE).await?;
        let Some(last) = page.last() else {
            break;
        };
        let wanted: Vec<NewKeys> = page.iter().map(wanted).collect();
        let all = |key: fn(&NewKeys) -> &Option<String>| wanted.iter().filter_map(|keys| key(keys).clone()).collect();
        let taken = store.taken([all(|k| &k.email), all(|k| &k.username), all(|k| &k.public_id)]).await?;
        let free = choose(&wanted, taken);
        let some: Vec<NewKeys> = free.iter().filter(|keys| !keys.is_empty()).cloned().collect();
        let is_written = some.is_empty() || store.set_keys(&some).await?;
        if !is_written && tries < TRIES {
            tries += 1;
            continue;
        }
        let collide = wanted.iter().zip(&free).zip(&page).filter(|((wanted, free), _)| wanted != free);
        without.extend(collide.map(|(_, user)| user.public_id.clone()));
        written += if is_written { some.len() } else { 0 };
        (after, tries) = (last.id, 0);
    }
    if written > 0 {
        info!(users.count = written, "gave {written} users of an earlier release the keys that compare names");
    }
    if !without.is_empty() {
        let count = without.len();
        without.truncate(NAMED);
        warn!(
            users.count = count,
            users.public_ids = without.join(" "),
            "{count} users have an e-mail, username or public_id that reads like that of an earlier user; they go on under \
             the exact spelling"
        );
    }
    Ok(())
}

/// The keys that `user` lacks. A value that no release accepts has no key.
fn wanted(user: &UserWithoutKey) -> NewKeys {
    let lacking = |has: bool, key: Option<String>| key.filter(|_| !has);
    NewKeys {
        id: user.id,
        email: lacking(user.has_email_key, Email::parse(&user.email, false).ok().map(|email| email.key())),
        username: lacking(user.has_username_key, Username::parse(&user.username).ok().map(|name| name.key())),
        public_id: lacking(user.has_public_id_key, PublicId::parse(&user.public_id).ok().map(|id| id.key())),
    }
}

/// Those of the `wanted` keys that nobody has, each for the first user who wants it.
fn choose(wanted: &[NewKeys], [mut emails, mut usernames, mut public_ids]: [HashSet<String>; 3]) -> Vec<NewKeys> {
    let first = |key: &Option<String>, taken: &mut HashSet<String>| key.clone().filter(|key| taken.insert(key.clone()));
    let free = wanted.iter().map(|keys| NewKeys {
        id: keys.id,
        email: first(&keys.email, &mut emails),
        username: first(&keys.username, &mut usernames),
        public_id: first(&keys.public_id, &mut public_ids),
    });
    free.collect()
}
