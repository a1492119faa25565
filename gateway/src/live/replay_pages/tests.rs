use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::try_join_all;
use shared::domain::Epoch;

use shared::storage::RoomHead;

use super::*;
use crate::live::test_fixture::{Fixture, fixture};

const EPOCH: u64 = 9;

/// A room with a history, and how often that was read.
struct StoredHistory {
    fixture: Fixture,
    feed: Feed,
    pages: ReplayPages,
    reads: AtomicUsize,
}

impl StoredHistory {
    async fn of(messages: u32) -> Self {
        let fixture = fixture().await;
        let room = fixture.room("lobby").await;
        let partition = fixture.installation.partition_of(room.id);
        fixture.store_silently(room.id, messages).await;
        Self {
            feed: Feed::new(&room, Epoch(EPOCH), partition),
            fixture,
            pages: ReplayPages::new(DamageReports::default()),
            reads: AtomicUsize::new(0),
        }
    }

    /// Reads on from `cursor` to where the ring of the feed begins. Every segment must begin with the next message.
    async fn catch_up(&self, mut cursor: Seq, gap: Gap) -> Result<(), Arc<ReplayError>> {
        while cursor < gap.floor {
            let read = |after, count| {
                self.reads.fetch_add(1, Ordering::Relaxed);
                let reading = self.fixture.store.entries_after(self.feed.room, after, count);
                async move { Ok(reading.await?) }
            };
            let (segment, last) =
                self.pages.read_behind(&self.feed, (cursor, gap), (PAGE as usize, Framing::Library), read).await?;
            let first = std::str::from_utf8(&segment).unwrap().split("\n\n").next().unwrap();
            assert!(first.ends_with(&format!("\nid: {EPOCH}-{}", cursor.next().0)), "{first}");
            cursor = last;
        }
        assert_eq!(cursor, gap.floor);
        Ok(())
    }
}

#[tokio::test]
async fn cached_page_is_read_without_waiting_until_it_is_forgotten() {
    let history = StoredHistory::of(10).await;
    let gap = Gap {
        floor: Seq(10),
        head: Seq(10),
    };
    let cached = |cursor| history.pages.cached_behind(&history.feed, (Seq(cursor), gap), Framing::Library);
    assert_eq!(cached(7), None, "nothing was read");
    history.catch_up(Seq(7), gap).await.unwrap();
    let segment = cached(7).unwrap();
    let text = std::str::from_utf8(&segment).unwrap();
    assert!(text.split("\n\n").next().unwrap().ends_with("-8") && text.ends_with("-10\n\n"), "{text}");
    history.pages.forget_room(history.feed.room);
    assert_eq!(cached(7), None);
}

#[tokio::test]
async fn five_thousand_readers_at_once_read_each_page_once() {
    const READERS: i64 = 5_000;
    let history = StoredHistory::of(1_000).await;
    // As after a restart: the feed has none of the 1,000 messages, and each reader has another part of them.
    let empty = Gap {
        floor: Seq(1_000),
        head: Seq(1_000),
    };
    // Posting goes on: later readers still need the pages that were read.
    let grown = Gap {
        head: Seq(1_010),
        ..empty
    };
    for gap in [empty, grown] {
        let readers = (0..READERS).map(|reader| history.catch_up(Seq(reader % 1_000), gap));
        try_join_all(readers).await.unwrap();
        assert_eq!(history.reads.load(Ordering::Relaxed), 8, "1,000 messages are eight pages");
    }
}

#[tokio::test]
async fn an_incomplete_page_is_an_error_and_not_cached() {
    let history = StoredHistory::of(100).await;
    let gap = Gap {
        floor: Seq(101),
        head: Seq(101),
    };
    let failed = history.catch_up(Seq::ZERO, gap).await.unwrap_err();
    assert!(matches!(*failed, ReplayError::Hole(_, Seq(101))), "{failed}");
    history.fixture.store_silently(history.feed.room, 1).await;
    history.catch_up(Seq::ZERO, gap).await.unwrap();
}

#[tokio::test]
async fn a_hole_concerns_those_who_have_not_got_what_is_missing() {
    let history = StoredHistory::of(10).await;
    let (floor, head) = (Seq(10), Seq(10));
    let read = async |cursor| {
        let damaged = async |after, count| {
            let entries = history.fixture.store.entries_after(history.feed.room, after, count).await?;
            Ok(entries.into_iter().filter(|entry| entry.seq() != Seq(3)).collect())
        };
        let from = (cursor, Gap { floor, head });
        history.pages.read_behind(&history.feed, from, (PAGE as usize, Framing::Library), damaged).await
    };
    for cursor in [0, 2] {
        let failed = read(Seq(cursor)).await.unwrap_err();
        assert!(matches!(*failed, ReplayError::Hole(_, Seq(3))), "{failed}");
    }
    for cursor in [3, 7] {
        assert_eq!(read(Seq(cursor)).await.unwrap().1, head);
    }
}

#[tokio::test]
async fn readers_that_missed_less_than_a_page_share_one_read() {
    const HEAD: Seq = Seq(1_000);
    let history = StoredHistory::of(1_000).await;
    history.feed.start(RoomHead::unaltered(HEAD));
    let gap = Gap {
        floor: HEAD,
        head: HEAD,
    };
    try_join_all((1..128).map(|missed| history.catch_up(Seq(HEAD.0 - missed), gap))).await.unwrap();
    assert_eq!(history.reads.load(Ordering::Relaxed), 1);
    // The first page of the room is the rest: 1,000 messages are seven full pages and 104 more.
    history.catch_up(Seq::ZERO, gap).await.unwrap();
    assert_eq!(history.reads.load(Ordering::Relaxed), 8);
}
