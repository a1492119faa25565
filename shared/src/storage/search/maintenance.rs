//! Keeps the index: adds messages after their commit, and follows changes of messages in their own commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::segment::{Key, Page, Postings, SMALLEST, Segment, Step, decode_all, encode, merge};
use super::{Rows, SearchStatements, TextRow, keys_of};
use crate::blocking::block_in_place_if_large;
use crate::domain::{RoomId, Seq, UserId};
use crate::storage::commit_statements::AlteredMessage;
use crate::telemetry::LogEvent;

/// What each back end reads and writes to keep the index.
pub(in crate::storage) trait IndexStatements: SearchStatements {
    /// How far `room` is indexed, how often messages of it were altered, and its last seq. From its return on, that is counted.
    fn index_state(&self, room: RoomId) -> impl Future<Output = Result<(i64, i64, i64), sqlx::Error>> + Send;

    /// All pages of `segments` of `room`: level, number and postings.
    fn all_pages(&self, room: RoomId, segments: &[Segment]) -> impl Future<Output = Rows<(i64, i64, Vec<u8>)>> + Send;

    /// Writes pages and removes segments in one transaction, after which `room` is indexed up to `to`. It does nothing and returns
    /// false unless the room is as [`Self::index_state`] said.
    fn write_index(
        &self,
        room: RoomId,
        state: (i64, i64),
        to: Seq,
        removed: &[Segment],
        pages: Vec<(Segment, Page)>,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;
}

/// What a commit does to the pages of a room.
pub(in crate::storage) trait PageStatements: Send {
    /// Counts a change of messages in each of `rooms`, and returns how far each is indexed. The rooms cannot be indexed further
    /// until the transaction ends.
    fn count_altered(&mut self, rooms: &[RoomId]) -> impl Future<Output = Rows<(i64, i64)>> + Send;

    /// The page of each key, by its index in `keys`: its first word and its postings.
    fn pages_of(
        &mut self,
        keys: &[(RoomId, Segment, Key)],
    ) -> impl Future<Output = Rows<(i64, Vec<u8>, Vec<u8>)>> + Send;

    /// Replaces pages.
    fn replace_pages(&mut self, edits: &[PageEdit]) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Removes the whole index of `room`, to be made anew.
    fn drop_index(&mut self, room: RoomId) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

static INDEX_DAMAGED: LogEvent = LogEvent::outage(
    "search_index_damaged",
    "a page of the index for searches cannot be read; the room is indexed anew",
);

/// A page, and those that it becomes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::storage) struct PageEdit {
    pub(in crate::storage) room: RoomId,
    pub(in crate::storage) segment: Segment,
    pub(in crate::storage) first_word: Key,
    pub(in crate::storage) pages: Vec<Page>,
}

/// Indexes the oldest messages of `room` that are not. Returns whether there may be more.
///
/// Everything is read and computed before the transaction that writes it. That one only checks that nothing has changed since,
/// so commits hardly wait for it.
pub(in crate::storage) async fn index_next<S: IndexStatements>(store: &S, room: RoomId) -> Result<bool, sqlx::Error> {
    let (indexed, altered, head) = store.index_state(room).await?;
    let Some(step) = Step::next(Seq(indexed), Seq(head)) else {
        return Ok(false);
    };
    let texts = store.texts_between(&[(room, Seq(indexed), step.end.next())]).await?;
    let merged = if step.merged.is_empty() {
        Vec::new()
    } else {
        store.all_pages(room, &step.merged).await?
    };
    let bytes = texts.iter().map(|row| row.text.len()).chain(merged.iter().map(|(.., page)| page.len())).sum();
    let pages = block_in_place_if_large(bytes, || pages_of(&step, texts, &merged))?;
    let written = store.write_index(room, (indexed, altered), step.end, &step.merged, pages).await?;
    Ok(written && head - step.end.0 >= SMALLEST)
}

fn pages_of(
    step: &Step,
    mut texts: Vec<TextRow>,
    merged: &[(i64, i64, Vec<u8>)],
) -> Result<Vec<(Segment, Page)>, sqlx::Error> {
    texts.sort_unstable_by_key(|row| row.seq);
    let mut pages = Vec::new();
    for written in &step.written {
        let mut postings = Postings::new();
        for part in step.merged.iter().rev() {
            let mut of_part = Postings::new();
            let is_part = |(level, number, _): &&(i64, i64, Vec<u8>)| {
                (usize::try_from(*level).ok(), *number) == (Some(part.level), part.number)
            };
            for (.., page) in merged.iter().filter(is_part) {
                decode_all(&mut of_part, page)?;
            }
            merge(&mut postings, *written, of_part, *part);
        }
        for row in &texts {
            let seq = Seq(row.seq);
            if (written.start().next()..=written.end()).contains(&seq) {
                for key in keys_of(UserId(row.sender_id), &row.text) {
                    postings.entry(key).or_default().push(written.offset(seq));
                }
            }
        }
        pages.extend(encode(Key::new(), &postings).into_iter().map(|page| (*written, page)));
    }
    Ok(pages)
}

/// What is to be done to a page: the words that a message loses and gets.
#[derive(Default)]
struct WordChanges(Vec<(Key, u32, bool)>);

/// Removes the words of replaced and deleted texts from the index, and adds those of new texts, in the transaction that changes the
/// messages.
pub(in crate::storage) async fn reindex<T: PageStatements>(
    tx: &mut T,
    altered: &[AlteredMessage],
) -> Result<(), sqlx::Error> {
    let changed: Vec<(&AlteredMessage, &str)> =
        altered.iter().filter_map(|message| Some((message, message.old_text.as_deref()?))).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let rooms: BTreeSet<RoomId> = changed.iter().map(|(message, _)| message.room).collect();
    let indexed: HashMap<i64, i64> = tx.count_altered(&Vec::from_iter(rooms)).await?.into_iter().collect();
    // By room, segment and word, so that each is looked up once.
    let mut words: BTreeMap<(RoomId, Segment, Key), Vec<(u32, bool)>> = BTreeMap::new();
    for (message, old_text) in changed {
        let upto = Seq(indexed.get(&message.room.0).copied().unwrap_or(0));
        let Some(segment) = Segment::of(message.seq, upto) else {
            continue;
        };
        let (old, new) = (keys_of(message.sender, old_text), keys_of(message.sender, &message.text));
        let lost = old.difference(&new).map(|key| (key, false));
        for (key, is_there) in lost.chain(new.difference(&old).map(|key| (key, true))) {
            let offset = segment.offset(message.seq);
            words.entry((message.room, segment, key.clone())).or_default().push((offset, is_there));
        }
    }
    if words.is_empty() {
        return Ok(());
    }
    let keys: Vec<(RoomId, Segment, Key)> = words.keys().cloned().collect();
    let mut pages: BTreeMap<(RoomId, Segment, Key), (Vec<u8>, WordChanges)> = BTreeMap::new();
    for (index, first_word, page) in tx.pages_of(&keys).await? {
        let asked = usize::try_from(index).ok().and_then(|index| keys.get(index)).ok_or(sqlx::Error::RowNotFound)?;
        let (room, segment, key) = asked;
        let (_, of_page) = pages.entry((*room, *segment, first_word)).or_insert_with(|| (page, WordChanges::default()));
        of_page.0.extend(words[asked].iter().map(|(offset, is_there)| (key.clone(), *offset, *is_there)));
    }
    let mut edits = Vec::with_capacity(pages.len());
    let mut damaged: BTreeSet<RoomId> = BTreeSet::new();
    for ((room, segment, first_word), (page, changes)) in pages {
        // No commit may fail for ever because of the index, without which everything is found too.
        let Ok(postings) = changes.apply(&page) else {
            damaged.insert(room);
            continue;
        };
        let pages = encode(first_word.clone(), &postings);
        edits.push(PageEdit {
            room,
            segment,
            first_word,
            pages,
        });
    }
    edits.retain(|edit| !damaged.contains(&edit.room));
    tx.replace_pages(&edits).await?;
    for room in damaged {
        INDEX_DAMAGED.report(format_args!("room {}", room.0), "a message of it was changed");
        tx.drop_index(room).await?;
    }
    Ok(())
}

impl WordChanges {
    fn apply(self, page: &[u8]) -> Result<Postings, sqlx::Error> {
        let mut postings = Postings::new();
        decode_all(&mut postings, page)?;
        for (key, offset, is_there) in self.0 {
            let offsets = postings.entry(key).or_default();
            match (offsets.binary_search(&offset), is_there) {
                (Ok(index), false) => {
                    offsets.remove(index);
                }
                (Err(index), true) => offsets.insert(index, offset),
                (Ok(_), true) | (Err(_), false) => {}
            }
        }
        postings.retain(|_, offsets| !offsets.is_empty());
        Ok(postings)
    }
}
