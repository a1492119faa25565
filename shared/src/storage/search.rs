//! Search for words in messages, and the index that it uses.
//!
//! The index is kept in ordinary tables, so that both databases have the same one and answer alike. For each room and each word
//! it has the seqs of the messages with this word, in the pages of [segments](segment): a word is looked up in 61 to 91 of them
//! per million messages, and of a frequent word only the newest ones are read.
//!
//! New messages are added to the index after their commit, by the worker, and in batches: a commit costs nothing more than without a
//! search. `search_rooms.indexed` says how far a room is indexed. Messages above it are searched one by one, so that a search
//! finds what is committed, whether the worker is quick, late or was killed, and also while a database of an earlier version is
//! indexed for the first time. Only how long a search takes depends on the index.
//!
//! A change of a message changes the index in its own transaction: the words of a deleted text are in no page from its commit on.
//!
//! The index leads to messages that can match. Their texts decide, as they are when they are read.

mod maintenance;
mod run;
pub(super) mod segment;

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use sqlx::FromRow;

use self::segment::{Key, Segment};
use super::StoreError;
use crate::domain::{RoomId, SearchQuery, Seq, StoredMessage, UserId, Words};

pub(super) use self::maintenance::{IndexStatements, PageEdit, PageStatements, index_next, reindex};
pub(super) use self::run::run;

/// A search by a user.
#[derive(Debug, Clone)]
pub struct Search {
    /// What the texts must have.
    pub query: SearchQuery,
    /// Who searches: only rooms that they may see are searched.
    pub user: UserId,
    /// The room to search; otherwise all that the user is in.
    pub room: Option<RoomId>,
    /// Whose messages are wanted; otherwise everybody's.
    pub from: Option<UserId>,
    /// Only messages below this position.
    pub before: Option<i64>,
    /// Messages at most.
    pub limit: u32,
    /// After so long it ends with what it has.
    pub timeout: Duration,
}

/// A message that was found.
#[derive(Clone)]
pub struct FoundMessage {
    /// Name of its room.
    pub room: String,
    /// Its position, which orders the messages of all rooms.
    pub position: i64,
    /// The message.
    pub message: StoredMessage,
}

/// What a search has found.
#[derive(Clone, Default)]
pub struct SearchPage {
    /// The messages, the newest first.
    pub messages: Vec<FoundMessage>,
    /// The search goes on below this position; `None` if nothing is left.
    pub next: Option<i64>,
    /// Bytes of the texts and pages that were read for it.
    pub bytes_read: usize,
}

/// Why a search failed.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The user is in many rooms, and searching all of them takes too long.
    #[error("searching all rooms takes too long")]
    TooSlow,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for SearchError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError(error))
    }
}

/// Searching, and keeping the index that makes it fast.
#[async_trait]
pub trait SearchIndex {
    /// Searches messages; `None` if a room is named that does not exist or that the user may not see.
    async fn search(&self, search: &Search) -> Result<Option<SearchPage>, SearchError>;

    /// At most `limit` rooms above `after` that have messages to be indexed, ascending.
    async fn rooms_to_index(&self, after: RoomId, limit: u32) -> Result<Vec<RoomId>, StoreError>;

    /// Indexes the oldest messages of `room` that are not, at most a thousand. Returns whether there may be more.
    ///
    /// It returns false as well if another worker, or a change of a message in this room, was faster: the room remains one to be
    /// indexed.
    async fn index_room(&self, room: RoomId) -> Result<bool, StoreError>;
}

/// A message as a search reads it.
#[derive(FromRow, Deserialize)]
pub(super) struct TextRow {
    pub(super) room_id: i64,
    pub(super) seq: i64,
    pub(super) position: i64,
    pub(super) sender_id: i64,
    pub(super) text: String,
}

/// The messages of a room between two seqs, both excluded.
pub(super) type TextRange = (RoomId, Seq, Seq);

/// A room that is searched: its id, how far it is indexed, its last seq, and the position of its last message.
pub(super) type RoomRow = (i64, i64, i64, i64);

/// A page of the index: how far the room was indexed when it was read, its segment, which of the ranges that were asked for it may
/// have words of, and its postings.
pub(super) type PageRow = (i64, i64, i64, i64, Vec<u8>);

/// A range of words, both ends included.
pub(super) type KeyRange = (Key, Key);

/// What is read of found messages, in JSON: room, name of the room, position, message.
pub(super) type FoundRow = (RoomId, String, i64, StoredMessage);

/// What each back end reads for a search.
pub(super) trait SearchStatements: Sync {
    /// The room that is searched, or all rooms of the user; none that they may not see.
    fn rooms(&self, user: UserId, room: Option<RoomId>) -> impl Future<Output = Rows<RoomRow>> + Send;

    /// For each of `rooms` the lowest seq from which on no message has a position below `before`.
    fn ends(&self, rooms: &[RoomId], before: i64) -> impl Future<Output = Rows<(i64, i64)>> + Send;

    /// The messages in `ranges`, in any order.
    fn texts_between(&self, ranges: &[TextRange]) -> impl Future<Output = Rows<TextRow>> + Send;

    /// The messages of `room` with these `seqs`, in any order.
    fn texts_at(&self, room: RoomId, seqs: &[Seq]) -> impl Future<Output = Rows<TextRow>> + Send;

    /// The pages of `segments` that can have words of `ranges`, all of the same moment. None of them if the segments do not exist.
    fn pages(
        &self,
        room: RoomId,
        segments: &[Segment],
        ranges: &[KeyRange],
    ) -> impl Future<Output = Rows<PageRow>> + Send;

    /// How far `room` is indexed.
    fn indexed(&self, room: RoomId) -> impl Future<Output = Result<Seq, sqlx::Error>> + Send;

    /// The position of the first message of `room` from `seq` on.
    fn position_from(&self, room: RoomId, seq: Seq) -> impl Future<Output = Result<Option<i64>, sqlx::Error>> + Send;

    /// The messages of rooms that `user` may see, by room and seq, as an array of [`FoundRow`] in JSON.
    fn found(&self, user: UserId, at: &[(RoomId, Seq)]) -> impl Future<Output = Result<String, sqlx::Error>> + Send;
}

type Rows<T> = Result<Vec<T>, sqlx::Error>;

/// Bytes of a word in the index. Of longer ones it has the beginning, and finds what only the text can tell apart.
const KEY_BYTES: usize = 40;

/// The first byte of the key by which the messages of a sender are found. No word begins with it.
const SENDER: u8 = 1;

/// The key of a folded word.
fn key_of_word(word: &str) -> &[u8] {
    &word.as_bytes()[..word.floor_char_boundary(KEY_BYTES)]
}

fn key_of_sender(sender: UserId) -> Key {
    let mut key = vec![SENDER];
    key.extend_from_slice(sender.0.to_string().as_bytes());
    key
}

/// The keys of a message. Without a text it is deleted, and has none.
fn keys_of(sender: UserId, text: &str) -> std::collections::BTreeSet<Key> {
    let mut keys = std::collections::BTreeSet::new();
    if !text.is_empty() {
        keys.extend(Words::of(text).iter().map(|(word, _)| key_of_word(word).to_vec()));
        keys.insert(key_of_sender(sender));
    }
    keys
}
