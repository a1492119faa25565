//! Giving the users of earlier releases their keys.
//!
//! SQL has no tables of Unicode, so the program computes keys: when a user registers, and here for those who were there
//! before. Of two whose keys are equal the first one has it. The other goes on under the spelling they have, and nobody new
//! comes beside them. Nothing is written where nothing is to be done.

use std::collections::HashSet;

use sqlx::FromRow;
use tracing::{info, warn};

use super::StoreError;
use crate::domain::{Email, PublicId, Username};

/// Users at once.
const PAGE: u32 = 500;

/// How often a page is read again because another process was at it too, or somebody registered meanwhile.
const TRIES: u32 = 10;

/// Ids of users that a log line names at most.
const NAMED: usize = 20;

/// A user who lacks a key.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Unkeyed {
    pub(super) id: i64,
    pub(super) email: String,
    pub(super) username: String,
    pub(super) public_id: String,
    pub(super) has_email_key: bool,
    pub(super) has_username_key: bool,
    pub(super) has_public_id_key: bool,
}

/// NewKeys for a user; those that are `None` stay as they are.
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

/// What a back end does for it.
pub(super) trait UserKeys {
    /// Users above `after` who lack a key, ascending by id.
    async fn unkeyed(&self, after: i64, limit: u32) -> Result<Vec<Unkeyed>, StoreError>;

    /// Those of the keys that some user has: of e-mails, usernames and public ids, in this order.
    async fn taken(&self, keys: [Vec<String>; 3]) -> Result<[HashSet<String>; 3], StoreError>;

    /// Writes keys; false if one of them is taken by now, and then none is written.
    async fn set_keys(&self, keys: &[NewKeys]) -> Result<bool, StoreError>;
}

/// Gives every user the keys that are free.
pub(super) async fn fill(store: &impl UserKeys) -> Result<(), StoreError> {
    let (mut after, mut filled, mut tries) = (0, 0, 0);
    let mut without = Vec::new();
    loop {
        let page = store.unkeyed(after, PAGE).await?;
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
        filled += if is_written { some.len() } else { 0 };
        (after, tries) = (last.id, 0);
    }
    if filled > 0 {
        info!(users.count = filled, "gave {filled} users of an earlier release the keys that compare names");
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

/// The keys that `user` lacks. What no release ever took has none.
fn wanted(user: &Unkeyed) -> NewKeys {
    let lacking = |has: bool, key: Option<String>| key.filter(|_| !has);
    NewKeys {
        id: user.id,
        email: lacking(user.has_email_key, Email::parse(&user.email, false).ok().map(|email| email.key())),
        username: lacking(user.has_username_key, Username::parse(&user.username).ok().map(|name| name.key())),
        public_id: lacking(user.has_public_id_key, PublicId::parse(&user.public_id).ok().map(|id| id.key())),
    }
}

/// Those of the keys `wanted` that nobody has, each for the first who wants it.
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
