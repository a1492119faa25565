use shared::domain::{MessageId, StoredChange, StoredMessage, Timestamp, UserId};

use super::*;
use crate::live::block::SEGMENT_BYTES;

const LIBRARY: Framing = Framing::Library;

fn feed() -> Feed {
    let room = Room::for_tests(RoomId(1), "lobby", UserId(1));
    Feed::new(&room, Epoch(9), Partition(0))
}

fn message(seq: i64, text: String) -> RoomEntry {
    RoomEntry::Message(StoredMessage::for_tests(seq, text))
}

fn messages(seqs: std::ops::RangeInclusive<i64>) -> Vec<RoomEntry> {
    seqs.map(|seq| message(seq, format!("message {seq}"))).collect()
}

fn large(seqs: std::ops::RangeInclusive<i64>, size: usize) -> Vec<RoomEntry> {
    seqs.map(|seq| message(seq, "x".repeat(size))).collect()
}

fn start(feed: &Feed, seq: i64) {
    feed.start(RoomHead::unaltered(Seq(seq)));
}

/// The seqs in what a reader at `cursor` gets.
fn read(feed: &Feed, cursor: i64) -> Vec<i64> {
    match feed.read_after(Seq(cursor), usize::MAX, LIBRARY) {
        FeedRead::Frames(frames, last) => {
            let text = String::from_utf8(frames.to_vec()).unwrap();
            let ids = text.lines().filter_map(|line| line.strip_prefix("id: 9-"));
            let seqs: Vec<i64> = ids.map(|id| id.parse().unwrap()).collect();
            assert_eq!(seqs.last(), Some(&last.0));
            seqs
        }
        FeedRead::UpToDate => vec![],
        FeedRead::Behind(_) => vec![-1],
    }
}

#[test]
fn a_reader_gets_all_after_its_cursor_at_once() {
    let feed = feed();
    start(&feed, 5);
    assert!(!feed.append(&messages(6..=8)));
    assert_eq!(read(&feed, 5), [6, 7, 8]);
    assert_eq!(read(&feed, 7), [8]);
    assert!(read(&feed, 8).is_empty());
    let gap = Gap {
        floor: Seq(5),
        head: Seq(8),
    };
    assert_eq!(feed.read_after(Seq(1), usize::MAX, LIBRARY), FeedRead::Behind(gap));
    assert!(matches!(feed.read_after(Seq(5), 2, LIBRARY), FeedRead::Frames(_, Seq(7))));
}

#[test]
fn a_cursor_ahead_of_the_feed_waits() {
    let feed = feed();
    start(&feed, 5);
    assert!(read(&feed, 9).is_empty());
}

#[test]
fn repetitions_are_dropped_and_gaps_reported() {
    let feed = feed();
    start(&feed, 5);
    assert!(!feed.append(&messages(4..=6)));
    assert!(feed.append(&messages(8..=9)));
    assert_eq!(read(&feed, 5), [6]);
    assert!(!feed.append(&messages(7..=9)));
    assert_eq!(read(&feed, 5), [6, 7, 8, 9]);
}

#[test]
fn a_message_from_before_the_start_is_not_forgotten() {
    let feed = feed();
    assert!(!feed.append(&messages(6..=6)));
    start(&feed, 5);
    assert!(feed.note_stored_head(Seq(0)));
    assert!(read(&feed, 5).is_empty());
}

#[test]
fn the_ring_is_bounded_in_bytes() {
    let feed = feed();
    start(&feed, 0);
    feed.append(&messages(1..=40_000));
    assert!((3_000_000..5_000_000).contains(&feed.kept_bytes()), "{}", feed.kept_bytes());
    assert_eq!(read(&feed, 30_000)[0], 30_001);
    assert_eq!(read(&feed, 1_000), [-1]);
    feed.append(&large(40_001..=40_500, 16_000));
    assert!((3_000_000..5_000_000).contains(&feed.kept_bytes()), "{}", feed.kept_bytes());
    assert_eq!(read(&feed, 40_400)[0], 40_401);
    assert_eq!(read(&feed, 40_000), [-1]);
}

#[test]
fn a_deletion_drops_the_frames_before_it() {
    let feed = feed();
    start(&feed, 0);
    feed.append(&messages(1..=300));
    let change = Change::Delete {
        target: MessageId::fresh(),
        target_seq: Seq(3),
    };
    let deletion = RoomEntry::Change(StoredChange {
        seq: Seq(301),
        username: "ann".to_owned(),
        public_id: "ann".to_owned(),
        created_on: Timestamp(0),
        change,
    });
    assert!(!feed.append(&[deletion, message(302, "after".to_owned())]));
    assert_eq!(feed.changed(), Seq(301));
    let gap = Gap {
        floor: Seq(300),
        head: Seq(302),
    };
    for behind in [0, 3, 299] {
        assert_eq!(feed.read_after(Seq(behind), usize::MAX, LIBRARY), FeedRead::Behind(gap));
    }
    assert_eq!(read(&feed, 300), [301, 302]);
}

#[test]
fn segments_lead_from_any_position_to_the_head() {
    let feed = feed();
    start(&feed, 0);
    feed.append(&messages(1..=1_000));
    for start in [0, 1, 200, 255, 256, 257, 511, 700, 999] {
        let mut seqs = Vec::new();
        let mut cursor = start;
        while cursor < 1_000 {
            seqs.extend(read(&feed, cursor));
            cursor = *seqs.last().unwrap();
        }
        assert!(seqs.into_iter().eq(start + 1..=1_000), "from {start}");
    }
    assert!(matches!(feed.read_after(Seq(100), 3, LIBRARY), FeedRead::Frames(_, Seq(103))));
}

#[test]
fn a_segment_is_bounded_and_shared_by_all_readers() {
    let feed = feed();
    start(&feed, 0);
    feed.append(&large(1..=1_000, 1_000));
    let segment = |cursor| match feed.read_after(Seq(cursor), usize::MAX, Framing::Chunked) {
        FeedRead::Frames(frames, last) => (frames, last),
        other => panic!("{other:?}"),
    };
    let (first, last) = segment(0);
    assert!((SEGMENT_BYTES..SEGMENT_BYTES + 2_000).contains(&first.len()), "{}", first.len());
    let (later, same) = segment(10);
    assert_eq!(last, same);
    assert!(first.as_ptr_range().contains(&later.as_ptr()));
    // The newest frames are not in a block yet: readers at the same position share what is joined for them.
    assert_eq!(segment(998).1, Seq(1_000));
    assert_eq!(segment(998).0.as_ptr(), segment(998).0.as_ptr());
}
