use shared::domain::{Epoch, UserId};

use super::repair::{RepairGuard, fill};
use shared::storage::RoomHead;

use super::*;
use crate::history::ReadQueue;
use crate::live::feed::FeedRead;
use crate::live::test_fixture::fixture;

/// The feed of `room` as it is once its subscription is confirmed.
async fn opened(hub: &Hub, room: &Room) -> Arc<FeedEntry> {
    let entry = hub.entry(room);
    entry.feed.start(hub.shared.store.head(room.id).await.unwrap());
    entry.started.set(()).unwrap();
    hub.shared.feeds.lock().insert(room.id, Arc::clone(&entry));
    entry
}

#[tokio::test]
async fn a_claim_reveals_unpublished_messages_of_its_partitions() {
    let fixture = fixture().await;
    let (subscriber, _commands) = Subscriber::new();
    let hub = Hub::new(fixture.store.clone(), fixture.installation, subscriber, ReadQueue::default());
    let mut entries = Vec::new();
    for name in ["one", "two", "three", "four", "five", "six"] {
        entries.push(opened(&hub, &fixture.room(name).await).await);
    }
    let claimed = entries[0].feed.partition;
    let stale: Vec<_> = entries.iter().filter(|entry| entry.feed.partition == claimed).collect();
    let others: Vec<_> = entries.iter().filter(|entry| entry.feed.partition != claimed).collect();
    assert!(!others.is_empty());
    fixture.store_silently(stale[0].feed.room, 1).await;
    fixture.store_silently(others[0].feed.room, 1).await;

    let mut moved = stale[0].feed.watch_head();
    hub.mark_stale(&[claimed]);
    let partitions = hub.shared.resync_queue.next_stale().await;
    hub.compare(|feed| partitions.contains(&feed.partition)).await;
    timeout(OPEN_TIME, moved.changed()).await.unwrap().unwrap();
    assert_eq!(stale[0].feed.head(), Seq(1));
    assert_eq!(others[0].feed.head(), Seq::ZERO);
}

#[tokio::test]
async fn a_forged_event_shows_what_sql_has() {
    let fixture = fixture().await;
    let (subscriber, _commands) = Subscriber::new();
    let hub = Hub::new(fixture.store.clone(), fixture.installation, subscriber, ReadQueue::default());
    let room = fixture.room("lobby").await;
    let entry = opened(&hub, &room).await;
    fixture.store_silently(room.id, 1).await;
    let mut moved = entry.feed.watch_head();
    let event = format!(
        r#"{{"room":{},"messages":[{{"seq":1,"id":"{}","username":"ann","public_id":"ann","kind":"MESSAGE","text":"a ghost","created_on":0}}]}}"#,
        room.id.0,
        uuid::Uuid::nil(),
    );
    hub.on_room_event(room.id, event.as_bytes());
    assert_eq!(entry.feed.head(), Seq::ZERO);
    hub.compare_heads().await;
    timeout(OPEN_TIME, moved.changed()).await.unwrap().unwrap();
    let FeedRead::Frames(frames, Seq(1)) = entry.feed.read_after(Seq::ZERO, 9, Framing::Library) else {
        panic!("nothing came");
    };
    let frames = std::str::from_utf8(&frames).unwrap();
    assert!(frames.contains(r#""public_id":"ann""#) && frames.contains(r#""message":"stored""#), "{frames}");
}

#[tokio::test]
async fn a_feed_goes_on_after_a_hole_in_history() {
    let fixture = fixture().await;
    let room = fixture.room("lobby").await;
    fixture.store_silently(room.id, 1).await;
    let feed = Feed::new(&room, Epoch(1), Partition(0));
    // Seqs begin at 1: for this feed the message 0 is missing.
    feed.start(RoomHead::unaltered(Seq(-1)));
    feed.note_stored_head(Seq(1));
    timeout(OPEN_TIME, fill(&fixture.store, &feed)).await.unwrap().unwrap();
    assert_eq!(feed.head(), Seq(1));
    assert!(!feed.has_gap());
}

#[tokio::test]
async fn a_panicking_repair_lets_the_next_one_begin() {
    let room = Room::for_tests(RoomId(1), "lobby", UserId(1));
    let entry = Arc::new(FeedEntry::new(Feed::new(&room, Epoch(1), Partition(0))));
    let guard = RepairGuard::acquire(&entry).unwrap();
    assert!(RepairGuard::acquire(&entry).is_none());
    let repair = tokio::spawn(async move {
        let _guard = guard;
        panic!("while it reads");
    });
    assert!(repair.await.is_err());
    assert!(RepairGuard::acquire(&entry).is_some());
}
