//! Searching for messages, and what an app is shown of those that are found.

mod snippet;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::blocking::block_in_place_if_large;
use shared::domain::SearchQuery;
use shared::storage::{FoundMessage, Room, Search, SearchPage, Store, StoreError, User};

use self::snippet::snippet;
use crate::history::{HistoryPages, PAGE_MAX_BYTES, ReadError};
use crate::message_json;
use crate::policy::Action;
use crate::rooms::{RoomError, RoomLookup, not_found};
use crate::user_lookup::user_named;

/// How long a search may take. In one room it then answers with what it has, and says where to go on.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Why nothing was searched.
#[derive(Debug, thiserror::Error)]
pub enum NotSearched {
    /// The room cannot be read.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// There is no such user, whose messages are wanted.
    #[error("there is no user '{0}'")]
    NoSuchUser(String),
    /// Reading failed or was refused.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a user searches for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The words.
    pub query: SearchQuery,
    /// Name of the room; otherwise all rooms that the user is in.
    pub room: Option<String>,
    /// Username or public id of the sender.
    pub from: Option<String>,
    /// Only messages below this position.
    pub before: Option<i64>,
    /// Messages at most.
    pub limit: u32,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchAnswer {
    /// The messages as JSON, in an object.
    pub json: Bytes,
    /// The search goes on below this position; `None` if nothing is left.
    pub next: Option<i64>,
}

/// The service of searches.
pub struct Searches {
    store: Store,
    rooms: RoomLookup,
    history: HistoryPages,
}

impl Searches {
    /// Searches in `store`, as reads of `history`.
    #[must_use]
    pub fn new(store: Store, rooms: RoomLookup, history: HistoryPages) -> Self {
        Self { store, rooms, history }
    }

    /// Searches for `wanted` in what `user` may read.
    pub async fn search(&self, user: &User, wanted: Wanted) -> Result<SearchAnswer, NotSearched> {
        let mut room = match &wanted.room {
            Some(name) => Some(self.rooms.find(name, user, Action::Read).await?),
            None => None,
        };
        let from = match wanted.from {
            Some(name) => {
                let found = user_named(&self.store, &name).await?;
                Some(found.ok_or(NotSearched::NoSuchUser(name))?)
            }
            None => None,
        };
        let search = |room: &Option<Arc<Room>>| Search {
            query: wanted.query.clone(),
            user: user.id,
            room: room.as_ref().map(|room| room.id),
            from,
            before: wanted.before,
            limit: wanted.limit,
            timeout: TIMEOUT,
        };
        let mut found = self.history.search(&search(&room)).await?;
        if let (None, Some(name)) = (&found, &wanted.room) {
            // The room was deleted or closed to this user since it was looked up. There may be another one of this name.
            room = Some(self.rooms.find_anew(name, user, Action::Read).await?);
            found = self.history.search(&search(&room)).await?;
        }
        let found = found.ok_or_else(|| not_found(wanted.room.as_deref().unwrap_or_default()))?;
        let bytes = found.messages.iter().map(|found| found.message.text.len()).sum();
        Ok(block_in_place_if_large(bytes, || encode(&wanted.query, &found)))
    }
}

/// The answer with the messages of `page`, or the newest of them if they are too many for one.
fn encode(query: &SearchQuery, page: &SearchPage) -> SearchAnswer {
    let mut json = br#"{"data":["#.to_vec();
    let mut next = page.next;
    let mut last: Option<i64> = None;
    for FoundMessage {
        room,
        position,
        message,
    } in &page.messages
    {
        let end = json.len();
        if last.is_some() {
            json.push(b',');
        }
        let matches = query.find(&message.text).unwrap_or_default();
        message_json::write_found(&mut json, room, message, &snippet(&message.text, &matches));
        if last.is_some() && json.len() > PAGE_MAX_BYTES {
            json.truncate(end);
            next = last;
            break;
        }
        last = Some(*position);
    }
    json.extend_from_slice(b"]}");
    SearchAnswer {
        json: json.into(),
        next,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use shared::domain::StoredMessage;

    use super::*;

    #[test]
    fn large_answer_is_cut_where_the_search_goes_on() {
        let query = SearchQuery::parse("x").unwrap();
        let message = |seq: i64| FoundMessage {
            room: "lobby".to_owned(),
            position: seq * 10,
            message: StoredMessage::for_tests(seq, format!("x {}", "\u{1}".repeat(PAGE_MAX_BYTES / 24))),
        };
        let page = SearchPage {
            messages: (1..=10).rev().map(message).collect(),
            next: Some(5),
            bytes_read: 0,
        };
        let answer = encode(&query, &page);
        assert!(answer.json.len() <= PAGE_MAX_BYTES);
        let shown: Value = serde_json::from_slice(&answer.json).unwrap();
        let seqs: Vec<i64> =
            shown["data"].as_array().unwrap().iter().map(|found| found["seq"].as_i64().unwrap()).collect();
        assert_eq!((seqs, answer.next), (vec![10, 9, 8], Some(80)));
        assert!(shown["data"][0]["snippet"].as_str().unwrap().starts_with("<mark>x</mark> "));
        let empty = encode(&query, &SearchPage::default());
        assert_eq!((&*empty.json, empty.next), (&br#"{"data":[]}"#[..], None));
    }
}
