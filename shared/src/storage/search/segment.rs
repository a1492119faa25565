//! How the index divides a room's log into segments, and what the pages of a segment hold.
//!
//! A segment covers a fixed range of seqs, of one of three sizes. It is a list of words in their order, each with the seqs of the
//! messages that have it, cut into pages. A page is found by its first word.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::domain::Seq;

/// Seqs of a segment by its level. Sixteen full segments of one level become one of the next: a word is then looked up in few
/// places, and is written three times at most.
pub(in crate::storage) const SIZES: [i64; 3] = [64, 1_024, 16_384];

/// Seqs of the smallest segment. Up to so many of the newest messages of a room, and those that came since, are searched without
/// the index.
pub(in crate::storage) const SMALLEST: i64 = SIZES[0];

/// The highest level.
const TOP: usize = SIZES.len() - 1;

/// Bytes of a page, unless a single word takes more. Two of them fit into a page of SQLite, and Postgres keeps rows of up to 2 KB
/// in one piece.
const PAGE_BYTES: usize = 1_800;

/// A word, as the index has it.
pub(in crate::storage) type Key = Vec<u8>;

/// The seqs of messages by word, each counted from the start of the segment and ascending.
pub(in crate::storage) type Postings = BTreeMap<Key, Vec<u32>>;

/// A page with its first word. That of the first page of a segment is empty, so that every word has a page.
pub(in crate::storage) type Page = (Key, Vec<u8>);

/// A part of the log of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::storage) struct Segment {
    /// Index in [`SIZES`].
    pub(in crate::storage) level: usize,
    /// How many of its size are before it.
    pub(in crate::storage) number: i64,
}

impl Segment {
    /// The segment of `level` that begins after `start`.
    pub(in crate::storage) fn after(start: Seq, level: usize) -> Self {
        Self {
            level,
            number: start.0 / SIZES[level],
        }
    }

    /// The seq before its first one.
    pub(in crate::storage) fn start(self) -> Seq {
        Seq(self.number * SIZES[self.level])
    }

    /// Its last seq.
    pub(in crate::storage) fn end(self) -> Seq {
        Seq((self.number + 1) * SIZES[self.level])
    }

    /// The segments of a room that is indexed up to `indexed`, the newest first.
    pub(in crate::storage) fn all(indexed: Seq) -> impl Iterator<Item = Self> {
        (0..SIZES.len()).flat_map(move |level| {
            let first = if level == TOP {
                0
            } else {
                indexed.0 / SIZES[level + 1] * (SIZES[level + 1] / SIZES[level])
            };
            (first..indexed.0 / SIZES[level]).rev().map(move |number| Self { level, number })
        })
    }

    /// The segment that covers `seq` in a room that is indexed up to `indexed`; `None` if none does.
    pub(in crate::storage) fn of(seq: Seq, indexed: Seq) -> Option<Self> {
        let covering = (0..SIZES.len()).rev().map(|level| Self::after(Seq(seq.0 - 1), level));
        covering.into_iter().find(|segment| segment.end() <= indexed)
    }

    /// Counts `seq` from the start of the segment.
    pub(in crate::storage) fn offset(self, seq: Seq) -> u32 {
        u32::try_from(seq.0 - self.start().0).unwrap_or(u32::MAX)
    }
}

/// What is indexed next in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::storage) struct Step {
    /// The room is indexed up to here after it.
    pub(in crate::storage) end: Seq,
    /// The segments that are written.
    pub(in crate::storage) written: Vec<Segment>,
    /// The segments that become part of the written one.
    pub(in crate::storage) merged: Vec<Segment>,
}

impl Step {
    /// The next step in a room that is indexed up to `indexed` and whose log ends at `head`; `None` if nothing is due.
    pub(in crate::storage) fn next(indexed: Seq, head: Seq) -> Option<Self> {
        let end = (indexed.0 / SIZES[1] + 1) * SIZES[1];
        let end = Seq(end.min(head.0 / SMALLEST * SMALLEST));
        if end <= indexed {
            return None;
        }
        let level = (0..SIZES.len()).rev().find(|level| end.0 % SIZES[*level] == 0).unwrap_or(0);
        if level == 0 {
            let written = (indexed.0 / SMALLEST..end.0 / SMALLEST).map(|number| Segment { level, number }).collect();
            let merged = Vec::new();
            return Some(Self { end, written, merged });
        }
        let segment = Segment::after(Seq(end.0 - 1), level);
        let merged = Segment::all(indexed).filter(|part| part.start() >= segment.start()).collect();
        Some(Self {
            end,
            written: vec![segment],
            merged,
        })
    }
}

/// Adds `part`, the postings of a smaller segment, to those of `whole`. Segments are added in the order of their seqs.
pub(in crate::storage) fn merge(whole: &mut Postings, segment: Segment, part: Postings, of: Segment) {
    let shift = segment.offset(of.start());
    for (word, offsets) in part {
        let offsets = offsets.into_iter().map(|offset| offset + shift);
        match whole.entry(word) {
            Entry::Occupied(mut known) => known.get_mut().extend(offsets),
            Entry::Vacant(vacant) => {
                vacant.insert(offsets.collect());
            }
        }
    }
}

/// Encodes the pages of `postings`, which come after a page that begins with `first`.
pub(in crate::storage) fn encode(first: Key, postings: &Postings) -> Vec<Page> {
    let mut pages = vec![(first, Vec::new())];
    let mut previous: &[u8] = &[];
    for (word, offsets) in postings.iter().filter(|(_, offsets)| !offsets.is_empty()) {
        let (_, full) = pages.last().expect("there is one from the start");
        if full.len() >= PAGE_BYTES {
            pages.push((word.clone(), Vec::new()));
            previous = &[];
        }
        let (first, page) = pages.last_mut().expect("there is one from the start");
        if page.is_empty() && !first.is_empty() {
            first.clone_from(word);
        }
        let common = previous.iter().zip(word).take_while(|(a, b)| a == b).count();
        write_number(page, common);
        write_number(page, word.len() - common);
        page.extend_from_slice(&word[common..]);
        write_number(page, offsets.len());
        let mut last = 0;
        for offset in offsets {
            write_number(page, (offset - last) as usize);
            last = *offset;
        }
        previous = word;
    }
    // The first page of a segment stays even if it is empty.
    pages.retain(|(first, page)| !page.is_empty() || first.is_empty());
    pages
}

/// Adds the words of `page` from `low` to `high` to `postings`, each `shift` further from the start.
pub(in crate::storage) fn decode_into(
    postings: &mut Postings,
    page: &[u8],
    (low, high): (&[u8], &[u8]),
) -> Result<(), sqlx::Error> {
    let mut reader = Reader(page);
    let mut word = Vec::new();
    while !reader.0.is_empty() {
        let (common, rest) = (reader.number()?, reader.number()?);
        word.truncate(common);
        word.extend_from_slice(reader.bytes(rest)?);
        if word.as_slice() > high {
            break;
        }
        let count = reader.number()?;
        if word.as_slice() < low {
            for _ in 0..count {
                reader.number()?;
            }
            continue;
        }
        let offsets = postings.entry(word.clone()).or_default();
        offsets.reserve(count.min(reader.0.len()));
        let mut last = 0_u32;
        for _ in 0..count {
            let delta = u32::try_from(reader.number()?).map_err(|_| damaged("a seq is too high"))?;
            last = last.checked_add(delta).ok_or_else(|| damaged("a seq is too high"))?;
            offsets.push(last);
        }
    }
    Ok(())
}

/// All words of `page`.
pub(in crate::storage) fn decode_all(postings: &mut Postings, page: &[u8]) -> Result<(), sqlx::Error> {
    decode_into(postings, page, (&[], &[u8::MAX]))
}

/// Numbers are written seven bits at a time, the lowest first (LEB128).
fn write_number(out: &mut Vec<u8>, mut number: usize) {
    loop {
        let seven_bits = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            out.push(seven_bits);
            return;
        }
        out.push(seven_bits | 0x80);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Result<usize, sqlx::Error> {
        let mut number = 0;
        for shift in (0..).step_by(7).take(5) {
            let (&byte, rest) = self.0.split_first().ok_or_else(|| damaged("it ends within a number"))?;
            self.0 = rest;
            number |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(damaged("a number is too long"))
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], sqlx::Error> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or_else(|| damaged("it ends within a word"))?;
        self.0 = rest;
        Ok(bytes)
    }
}

fn damaged(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("a page of the search index is damaged: {what}").into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn postings(words: &[(&str, &[u32])]) -> Postings {
        words.iter().map(|(word, offsets)| (word.as_bytes().to_vec(), offsets.to_vec())).collect()
    }

    #[test]
    fn segments_cover_every_indexed_seq_once() {
        for indexed in [
            0,
            64,
            1_024,
            1_088,
            16_384,
            16_384 + 2 * 1_024 + 3 * 64,
            3 * 16_384 - 64,
        ] {
            let indexed = Seq(indexed);
            let mut end = indexed;
            for segment in Segment::all(indexed) {
                assert_eq!(segment.end(), end, "{segment:?} of {indexed:?}");
                end = segment.start();
                assert_eq!(Segment::of(segment.start().next(), indexed), Some(segment));
                assert_eq!(Segment::of(segment.end(), indexed), Some(segment));
            }
            assert_eq!(end, Seq(0));
            assert_eq!(Segment::of(indexed.next(), indexed), None);
        }
    }

    #[test]
    fn every_step_leads_to_the_segments_of_its_end() {
        for head_step in [64, 100, 1_000, 5_000] {
            let (mut indexed, mut segments) = (Seq(0), BTreeSet::new());
            for head in (0..=40_000).step_by(head_step) {
                while let Some(step) = Step::next(indexed, Seq(head)) {
                    for merged in &step.merged {
                        assert!(segments.remove(merged), "{merged:?} was not there");
                    }
                    segments.extend(step.written);
                    indexed = step.end;
                    assert!(segments == Segment::all(indexed).collect());
                }
                assert!(indexed.0 + SMALLEST > head);
            }
        }
    }

    #[test]
    fn pages_hold_what_was_written() {
        let many: Vec<(String, Vec<u32>)> =
            (0..2_000).map(|n| (format!("word{n}"), (n..=n + n % 7).map(|seq| seq * 3).collect())).collect();
        let many: Postings = many.into_iter().map(|(word, offsets)| (word.into_bytes(), offsets)).collect();
        let pages = encode(Vec::new(), &many);
        assert!(pages.len() > 5);
        let mut read = Postings::new();
        for (index, (first, page)) in pages.iter().enumerate() {
            assert!(page.len() < PAGE_BYTES + 100);
            let mut of_page = Postings::new();
            decode_all(&mut of_page, page).unwrap();
            assert!(if index == 0 {
                first.is_empty()
            } else {
                of_page.keys().next() == Some(first)
            });
            read.extend(of_page);
        }
        assert_eq!(read, many);
        let mut range = Postings::new();
        for (_, page) in &pages {
            decode_into(&mut range, page, (b"word19", b"word19\xff")).unwrap();
        }
        assert_eq!(range.len(), 111);
        assert_eq!(encode(Vec::new(), &Postings::new()), [(Vec::new(), Vec::new())]);
        assert_eq!(encode(b"gone".to_vec(), &postings(&[("gone", &[])])), []);
        assert_eq!(encode(b"gone".to_vec(), &postings(&[("gone", &[]), ("stays", &[1])]))[0].0, b"stays");
    }

    #[test]
    fn parts_are_merged_by_their_place() {
        let whole = Segment { level: 1, number: 1 };
        let mut merged = Postings::new();
        for number in 16..18 {
            merge(&mut merged, whole, postings(&[("a", &[1, 64])]), Segment { level: 0, number });
        }
        assert_eq!(merged, postings(&[("a", &[1, 64, 65, 128])]));
    }

    #[test]
    fn damaged_pages_are_errors() {
        let (_, page) = encode(Vec::new(), &postings(&[("hello", &[1, 200])])).remove(0);
        for length in 1..page.len() {
            assert!(decode_all(&mut Postings::new(), &page[..length]).is_err(), "{length}");
        }
        assert!(decode_all(&mut Postings::new(), &[0xff; 9]).is_err());
    }
}
