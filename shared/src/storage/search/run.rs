//! The search itself: room by room, each from its newest message down, until nothing newer can be found.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::segment::{Key, Postings, SMALLEST, Segment, decode_into};
use super::{
    FoundMessage, FoundRow, KeyRange, RoomRow, Search, SearchError, SearchPage, SearchStatements, TextRange, TextRow,
    key_of_sender, key_of_word,
};
use crate::blocking::block_in_place_if_large;
use crate::domain::{RoomId, Seq};

/// Seqs of messages that are not indexed yet and are read at once.
const TAIL_STEP: i64 = 1_024;

/// Segments in which words are looked up at once: at first, and at most. The newest ones are enough for a frequent word.
const SEGMENTS: (usize, usize) = (4, 32);

/// Messages whose texts are read at once, at most: at first as many as are wanted.
const CANDIDATES: usize = 256;

/// Rooms whose newest messages are read at once, and how many of each. Most rooms have no more that are not indexed.
const NEWEST: (usize, i64) = (16, SMALLEST);

/// Words of a query that are looked up, the longest ones. The texts are compared with all of them.
const WORDS: usize = 8;

/// Runs `search`, for whom the room is visible that it names; `None` if it is not.
pub(in crate::storage) async fn run<S: SearchStatements>(
    store: &S,
    search: &Search,
) -> Result<Option<SearchPage>, SearchError> {
    let mut run = Run::new(store, search);
    let mut rooms = store.rooms(search.user, search.room).await?;
    if search.room.is_some() && rooms.is_empty() {
        return Ok(None);
    }
    if search.query.is_empty() {
        return Ok(Some(SearchPage::default()));
    }
    // The rooms with the newest messages first: those whose newest message is older than all that was found need not be searched.
    rooms.sort_unstable_by_key(|(.., position)| std::cmp::Reverse(*position));
    let ends = run.ends(&rooms).await?;
    let count = rooms.len();
    for rows in rooms.chunks(NEWEST.0) {
        let mut rooms: Vec<RoomSearch> = rows.iter().map(|row| RoomSearch::new(*row, &ends)).collect();
        rooms.retain(|room| !run.best.is_full_above(room.newest));
        run.search_newest(&mut rooms).await?;
        for room in &mut rooms {
            if run.search_room(room).await? == Ended::Late {
                if count > 1 {
                    return Err(SearchError::TooSlow);
                }
                // Everything from the end on has been searched.
                let below = store.position_from(room.id, room.end).await?;
                return run.page(below).await.map(Some);
            }
        }
    }
    run.page(None).await.map(Some)
}

/// How searching a room ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Nothing that is wanted is left in it.
    Done,
    /// The time was over.
    Late,
}

/// A room while it is searched.
struct RoomSearch {
    id: RoomId,
    indexed: Seq,
    /// Everything from this seq on has been searched.
    end: Seq,
    /// The position of its last message.
    newest: i64,
    /// Whether the rest is older than all that is wanted.
    is_done: bool,
}

impl RoomSearch {
    fn new((id, indexed, head, newest): RoomRow, ends: &BTreeMap<i64, i64>) -> Self {
        Self {
            id: RoomId(id),
            indexed: Seq(indexed),
            end: Seq(ends.get(&id).copied().unwrap_or(head + 1)),
            newest,
            is_done: false,
        }
    }

    /// The seq below the newest `count` ones that are not indexed and not searched.
    fn below_newest(&self, count: i64) -> Seq {
        Seq(self.indexed.0.max(self.end.0 - 1 - count))
    }
}

struct Run<'a, S> {
    store: &'a S,
    search: &'a Search,
    ranges: Vec<KeyRange>,
    best: Best,
    deadline: Instant,
    bytes_read: usize,
}

impl<'a, S: SearchStatements> Run<'a, S> {
    fn new(store: &'a S, search: &'a Search) -> Self {
        Self {
            store,
            search,
            ranges: ranges(search),
            best: Best::new(search.limit as usize),
            deadline: Instant::now() + search.timeout,
            bytes_read: 0,
        }
    }

    /// Where to begin in the rooms that have messages at or above the position below which is searched.
    async fn ends(&self, rooms: &[RoomRow]) -> Result<BTreeMap<i64, i64>, SearchError> {
        let Some(before) = self.search.before else {
            return Ok(BTreeMap::new());
        };
        let above = rooms.iter().filter(|(.., newest)| *newest >= before).map(|(id, ..)| RoomId(*id));
        let above: Vec<RoomId> = above.collect();
        Ok(self.store.ends(&above, before).await?.into_iter().collect())
    }

    /// Searches the newest messages of `rooms` that are not indexed.
    async fn search_newest(&mut self, rooms: &mut [RoomSearch]) -> Result<(), SearchError> {
        let ranges: Vec<TextRange> =
            rooms.iter().map(|room| (room.id, room.below_newest(NEWEST.1), room.end)).collect();
        if ranges.is_empty() {
            return Ok(());
        }
        let mut texts: HashMap<i64, Vec<TextRow>> = HashMap::new();
        for row in self.store.texts_between(&ranges).await? {
            texts.entry(row.room_id).or_default().push(row);
        }
        for room in rooms {
            room.is_done = self.add(texts.remove(&room.id.0).unwrap_or_default());
            room.end = room.end.min(room.below_newest(NEWEST.1).next());
        }
        Ok(())
    }

    async fn search_room(&mut self, room: &mut RoomSearch) -> Result<Ended, SearchError> {
        if room.is_done || self.best.is_full_above(room.newest) {
            return Ok(Ended::Done);
        }
        loop {
            while room.end > room.indexed.next() {
                let after = room.below_newest(TAIL_STEP);
                let texts = self.store.texts_between(&[(room.id, after, room.end)]).await?;
                if self.add(texts) {
                    return Ok(Ended::Done);
                }
                room.end = after.next();
                if self.is_late() {
                    return Ok(Ended::Late);
                }
            }
            let segments: Vec<Segment> =
                Segment::all(room.indexed).filter(|segment| segment.start().next() < room.end).collect();
            let mut rest = segments.as_slice();
            let mut count = SEGMENTS.0;
            while !rest.is_empty() {
                let (these, others) = rest.split_at(count.min(rest.len()));
                let Some(candidates) = self.candidates(room, these).await? else {
                    break;
                };
                let mut candidates = candidates.as_slice();
                let mut at_once = self.search.limit as usize + 1;
                while !candidates.is_empty() {
                    let (at, others) = candidates.split_at(at_once.min(CANDIDATES).min(candidates.len()));
                    let texts = self.store.texts_at(room.id, at).await?;
                    if self.add(texts) {
                        return Ok(Ended::Done);
                    }
                    room.end = at.last().copied().unwrap_or(room.end);
                    if self.is_late() {
                        return Ok(Ended::Late);
                    }
                    (candidates, at_once) = (others, at_once * 2);
                }
                room.end = these.last().map_or(room.end, |last| last.start().next());
                if self.is_late() {
                    return Ok(Ended::Late);
                }
                (rest, count) = (others, (count * 2).min(SEGMENTS.1));
            }
            if rest.is_empty() {
                return Ok(Ended::Done);
            }
            if self.is_late() {
                return Ok(Ended::Late);
            }
            let indexed = self.store.indexed(room.id).await?;
            // The room was indexed further meanwhile, and its segments are others now. Otherwise the index lacks some, and the texts
            // are read.
            room.indexed = if indexed == room.indexed { Seq::ZERO } else { indexed };
        }
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// The messages of `segments` that can match, the newest first; `None` if these are no longer the segments of the room.
    async fn candidates(&mut self, room: &RoomSearch, segments: &[Segment]) -> Result<Option<Vec<Seq>>, SearchError> {
        let pages = self.store.pages(room.id, segments, &self.ranges).await?;
        if pages.first().is_none_or(|(indexed, ..)| *indexed != room.indexed.0) {
            return Ok(None);
        }
        let bytes: usize = pages.iter().map(|(.., page)| page.len()).sum();
        self.bytes_read += bytes;
        let ranges = &self.ranges;
        let read = || -> Result<Vec<Seq>, sqlx::Error> {
            let mut seqs = Vec::new();
            for segment in segments {
                let mut all: Option<Vec<u32>> = None;
                for (index, (low, high)) in ranges.iter().enumerate() {
                    let mut postings = Postings::new();
                    let place = (i64::try_from(segment.level).ok(), segment.number, i64::try_from(index).ok());
                    let is_wanted = |(_, level, number, range, _): &&(i64, i64, i64, i64, Vec<u8>)| {
                        (Some(*level), *number, Some(*range)) == place
                    };
                    for (.., page) in pages.iter().filter(is_wanted) {
                        decode_into(&mut postings, page, (low, high))?;
                    }
                    let offsets = union(postings);
                    all = Some(match all {
                        None => offsets,
                        Some(mut all) => {
                            all.retain(|offset| offsets.binary_search(offset).is_ok());
                            all
                        }
                    });
                }
                let start = segment.start();
                let of_segment = all.into_iter().flatten().rev().map(|offset| Seq(start.0 + i64::from(offset)));
                seqs.extend(of_segment.filter(|seq| *seq < room.end));
            }
            Ok(seqs)
        };
        Ok(Some(block_in_place_if_large(bytes, read)?))
    }

    /// Adds the messages of `texts`, which are of one room, that match. Returns true if the rest of the room is older than all that is
    /// wanted.
    fn add(&mut self, mut texts: Vec<TextRow>) -> bool {
        let bytes: usize = texts.iter().map(|row| row.text.len()).sum();
        self.bytes_read += bytes;
        let (search, best) = (self.search, &mut self.best);
        block_in_place_if_large(bytes, || {
            texts.sort_unstable_by_key(|row| std::cmp::Reverse(row.seq));
            for row in texts {
                if best.is_full_above(row.position) {
                    return true;
                }
                let is_from = search.from.is_none_or(|from| from.0 == row.sender_id);
                if is_from && search.query.find(&row.text).is_some() {
                    best.add(row.position, (RoomId(row.room_id), Seq(row.seq)));
                }
            }
            false
        })
    }

    /// The page of what was found. Everything from position `below` on was searched; everything, if it is `None`.
    async fn page(self, below: Option<i64>) -> Result<SearchPage, SearchError> {
        let (at, more_below) = self.best.into_newest();
        let next = more_below.or(below);
        let found = if at.is_empty() {
            "[]".to_owned()
        } else {
            self.store.found(self.search.user, &at).await?
        };
        let bytes_read = self.bytes_read + found.len();
        let rows: Vec<FoundRow> = block_in_place_if_large(found.len(), || serde_json::from_str(&found))
            .map_err(|error| sqlx::Error::Decode(error.into()))?;
        let messages = rows.into_iter().map(|(_, room, position, message)| FoundMessage {
            room,
            position,
            message,
        });
        // Messages may have been changed since their texts were compared.
        let mut messages: Vec<FoundMessage> =
            messages.filter(|found| self.search.query.find(&found.message.text).is_some()).collect();
        messages.sort_unstable_by_key(|found| std::cmp::Reverse(found.position));
        Ok(SearchPage {
            messages,
            next,
            bytes_read,
        })
    }
}

/// The newest matches so far, of which one more than wanted is kept: it tells whether there are more.
struct Best {
    wanted: usize,
    by_position: BTreeMap<i64, (RoomId, Seq)>,
}

impl Best {
    fn new(wanted: usize) -> Self {
        Self {
            wanted,
            by_position: BTreeMap::new(),
        }
    }

    /// Whether as many as wanted are known above `position`, and one more.
    fn is_full_above(&self, position: i64) -> bool {
        let lowest = self.by_position.first_key_value().map(|(lowest, _)| *lowest);
        self.by_position.len() > self.wanted && lowest.is_some_and(|lowest| lowest > position)
    }

    fn add(&mut self, position: i64, at: (RoomId, Seq)) {
        self.by_position.insert(position, at);
        if self.by_position.len() > self.wanted + 1 {
            self.by_position.pop_first();
        }
    }

    /// The wanted ones, and the position below which there are more.
    fn into_newest(mut self) -> (Vec<(RoomId, Seq)>, Option<i64>) {
        let mut next = None;
        if self.by_position.len() > self.wanted {
            self.by_position.pop_first();
            next = self.by_position.first_key_value().map(|(lowest, _)| *lowest);
        }
        (self.by_position.into_values().collect(), next)
    }
}

/// The ranges of words that a message must have one of each of.
fn ranges(search: &Search) -> Vec<KeyRange> {
    let mut words: Vec<(&[u8], bool)> = search
        .query
        .words()
        .map(|(word, is_prefix)| (key_of_word(word), is_prefix && key_of_word(word).len() == word.len()))
        .collect();
    words.sort_unstable_by_key(|(word, is_prefix)| (std::cmp::Reverse(word.len()), *is_prefix));
    words.dedup();
    words.truncate(WORDS);
    let range = |(word, is_prefix): (&[u8], bool)| {
        let mut high: Key = word.to_vec();
        if is_prefix {
            // No word has this byte, which is not part of UTF-8.
            high.push(u8::MAX);
        }
        (word.to_vec(), high)
    };
    let sender = search.from.map(key_of_sender).map(|key| (key.clone(), key));
    sender.into_iter().chain(words.into_iter().map(range)).collect()
}

/// All offsets of `postings`, ascending.
fn union(postings: Postings) -> Vec<u32> {
    let mut lists = postings.into_values();
    let mut all = lists.next().unwrap_or_default();
    let count = all.len();
    all.extend(lists.flatten());
    if all.len() > count {
        all.sort_unstable();
        all.dedup();
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{SearchQuery, UserId};

    fn search(query: &str, from: Option<UserId>) -> Search {
        Search {
            query: SearchQuery::parse(query).unwrap(),
            user: UserId(1),
            room: None,
            from,
            before: None,
            limit: 2,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_longest_words_are_looked_up() {
        let ranges = ranges(&search("a bb ccc dddd eeeee ffffff ggggggg hhhhhhhh \"i wor*\"", Some(UserId(12))));
        let shown: Vec<_> = ranges.iter().map(|(low, high)| (str(low), str(high))).collect();
        assert_eq!(
            shown[..2],
            [
                ("\u{1}12".into(), "\u{1}12".into()),
                ("hhhhhhhh".into(), "hhhhhhhh".into())
            ]
        );
        assert_eq!(shown[7], ("wor".into(), "wor\u{FFFD}".into()));
        assert_eq!(ranges.len(), 1 + WORDS);
        let long = "x".repeat(100);
        let cut = [("x".repeat(40), "x".repeat(40))];
        for query in [long.clone(), long + "*"] {
            let ranges = super::ranges(&search(&query, None));
            assert_eq!(ranges.iter().map(|(low, high)| (str(low), str(high))).collect::<Vec<_>>(), cut);
        }
    }

    fn str(key: &[u8]) -> String {
        String::from_utf8_lossy(key).into_owned()
    }

    #[test]
    fn the_newest_matches_are_kept_and_one_more() {
        let mut best = Best::new(2);
        for position in [5, 9, 1, 7] {
            assert!(!best.is_full_above(position));
            best.add(position, (RoomId(1), Seq(position)));
        }
        assert!(best.is_full_above(4) && !best.is_full_above(5));
        assert_eq!(best.into_newest(), (vec![(RoomId(1), Seq(7)), (RoomId(1), Seq(9))], Some(7)));
        let mut few = Best::new(2);
        few.add(3, (RoomId(1), Seq(3)));
        assert_eq!(few.into_newest(), (vec![(RoomId(1), Seq(3))], None));
    }
}
