use futures_util::FutureExt as _;
use shared::domain::{Epoch, Partition, Position, UserId};
use shared::storage::{MovedHead, RoomHead};
use tokio::time::{sleep, timeout};

use super::opening::OPEN_TIME;
use super::repair::{RepairGuard, fill};
use super::*;
use crate::history::ReadQueue;
use crate::live::feed::FeedRead;
use crate::live::test_fixture::{Fixture, fixture};

/// The feed of `room` as it is once its subscription is confirmed.
async fn opened(hub: &Hub, room: &Room) -> Arc<FeedEntry> {
    let entry = hub.entry(room);
    hub.shared.cursors.begin(&hub.shared.store, &[entry.feed.partition].into()).await.unwrap();
    entry.feed.start(hub.shared.store.head(room.id).await.unwrap());
    entry.started.set(()).unwrap();
    hub.shared.feeds.lock().insert(room.id, Arc::clone(&entry));
    entry
}

impl Hub {
    /// The feed of `room`, at its head, without a subscription.
    pub(in crate::live) async fn open_for_tests(&self, room: &Room) -> OpenFeed {
        OpenFeed::hold(&opened(self, room).await)
    }
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

    hub.mark_stale(&[claimed]);
    let partitions = hub.shared.resync_queue.next_stale().await;
    hub.compare(|_, feed| partitions.contains(&feed.partition)).await;
    reaches(stale[0], Seq(1)).await;
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
    let event = format!(
        r#"{{"room":{},"messages":[{{"seq":1,"id":"{}","username":"ann","public_id":"ann","kind":"MESSAGE","text":"a ghost","created_on":0}}]}}"#,
        room.id.0,
        uuid::Uuid::nil(),
    );
    hub.on_room_event(room.id, event.as_bytes());
    assert_eq!(entry.feed.head(), Seq::ZERO);
    hub.find_moved(100).await;
    reaches(&entry, Seq(1)).await;
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
    timeout(OPEN_TIME, fill(&fixture.store, &DamageReports::default(), &feed)).await.unwrap().unwrap();
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

/// Waits until the head of the feed is `head`.
async fn reaches(entry: &FeedEntry, head: Seq) {
    reaches_by(&entry.feed, head).await;
}

async fn reaches_by(feed: &Feed, head: Seq) {
    let reached = async {
        while feed.head() != head {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(OPEN_TIME, reached).await.unwrap();
}

fn hub_of(fixture: &Fixture) -> Hub {
    let (subscriber, _commands) = Subscriber::new();
    Hub::new(fixture.store.clone(), fixture.installation, subscriber, ReadQueue::default())
}

#[tokio::test]
async fn silent_messages_of_many_rooms_are_found_in_pages() {
    let fixture = fixture().await;
    let hub = hub_of(&fixture);
    let mut entries = Vec::new();
    for number in 0..9 {
        entries.push(opened(&hub, &fixture.room(&format!("room-{number}")).await).await);
    }
    let not_open = fixture.room("other").await;
    for round in 1..=2 {
        for entry in &entries {
            fixture.store_silently(entry.feed.room, 2).await;
            fixture.store_silently(not_open.id, 1).await;
        }
        hub.find_moved(2).await;
        for entry in &entries {
            reaches(entry, Seq(2 * round)).await;
        }
    }
}

#[tokio::test]
async fn a_message_stored_while_a_feed_opens_is_found() {
    let fixture = fixture().await;
    let hub = hub_of(&fixture);
    let room = fixture.room("lobby").await;
    let entry = hub.entry(&room);
    hub.shared.feeds.lock().insert(room.id, Arc::clone(&entry));
    hub.shared.cursors.begin(&hub.shared.store, &[entry.feed.partition].into()).await.unwrap();
    let head = hub.shared.store.head(room.id).await.unwrap();
    // The head was read, and the feed has not got it yet.
    fixture.store_silently(room.id, 1).await;
    hub.find_moved(100).await;
    entry.feed.start(head);
    hub.note_stored_head(&entry, head.seq);
    reaches(&entry, Seq(1)).await;
}

#[tokio::test]
async fn positions_that_went_back_with_an_epoch_are_followed() {
    let fixture = fixture().await;
    let hub = hub_of(&fixture);
    let room = fixture.room("lobby").await;
    let before = opened(&hub, &room).await;
    fixture.store_silently(room.id, 3).await;
    hub.find_moved(100).await;
    reaches(&before, Seq(3)).await;
    // What a query brings that was sent before the epoch began does not count.
    let open = [before.feed.partition].into();
    let snapshot = hub.shared.cursors.snapshot();
    let late = hub.shared.store.moved_heads(&[(before.feed.partition, Position(0))], 9).await.unwrap();
    hub.begin_epoch(Epoch(2));
    assert!(hub.shared.cursors.snapshot().cursors.is_empty());
    hub.shared.cursors.begin(&hub.shared.store, &open).await.unwrap();
    let current = hub.shared.cursors.snapshot().cursors;
    let far = late.iter().map(|head| MovedHead {
        position: Position(1_000),
        ..*head
    });
    hub.shared.cursors.advance(&snapshot, &far.collect::<Vec<_>>());
    assert_eq!(hub.shared.cursors.snapshot().cursors, current);
    let after = opened(&hub, &room).await;
    fixture.store_silently(room.id, 1).await;
    hub.find_moved(100).await;
    reaches(&after, Seq(4)).await;
}

#[tokio::test]
async fn partition_without_feeds_has_no_cursor() {
    let fixture = fixture().await;
    let hub = hub_of(&fixture);
    let entry = opened(&hub, &fixture.room("lobby").await).await;
    let partition = entry.feed.partition;
    let cursors = || hub.shared.cursors.snapshot().cursors;
    hub.tend();
    assert_eq!(cursors(), [(partition, Position(0))]);
    hub.shared.feeds.lock().clear();
    hub.tend();
    assert!(cursors().is_empty());
}

#[tokio::test]
async fn a_head_whose_position_is_wrong_is_found_within_a_minute() {
    let fixture = fixture().await;
    let hub = hub_of(&fixture);
    let entry = opened(&hub, &fixture.room("lobby").await).await;
    fixture.store_silently(entry.feed.room, 1).await;
    let head = hub.shared.store.moved_heads(&[(entry.feed.partition, Position(0))], 9).await.unwrap()[0];
    let snapshot = hub.shared.cursors.snapshot();
    let far = MovedHead {
        position: Position(1_000),
        ..head
    };
    hub.shared.cursors.advance(&snapshot, &[far]);
    hub.find_moved(100).await;
    assert_eq!(entry.feed.known_head(), Seq::ZERO);
    for round in 0..60 {
        hub.compare(|room, _| comparison::is_turn_of(room, round)).await;
    }
    reaches(&entry, Seq(1)).await;
}

#[tokio::test]
async fn a_repair_that_failed_is_tried_again() {
    let fixture = fixture().await;
    let hub = hub_of(&fixture);
    let entry = opened(&hub, &fixture.room("lobby").await).await;
    // Another task has the right to repair, and fails.
    let guard = RepairGuard::acquire(&entry).unwrap();
    fixture.store_silently(entry.feed.room, 1).await;
    hub.find_moved(100).await;
    drop(guard);
    assert!(entry.feed.has_gap());
    hub.find_moved(100).await;
    assert!(entry.feed.has_gap(), "the head has not moved again");
    hub.repair_gaps(&hub.tend());
    reaches(&entry, Seq(1)).await;
}

/// A hub whose subscriptions are confirmed at once.
fn subscribed_hub_of(fixture: &Fixture) -> Hub {
    let (subscriber, commands) = Subscriber::new();
    tokio::spawn(commands.confirm_all());
    Hub::new(fixture.store.clone(), fixture.installation, subscriber, ReadQueue::default())
}

async fn rooms(fixture: &Fixture, count: usize) -> Vec<Room> {
    let mut rooms = Vec::new();
    for number in 0..count {
        rooms.push(fixture.room(&format!("room-{number}")).await);
    }
    rooms
}

#[tokio::test]
async fn feeds_of_many_rooms_open_together_in_the_order_asked() {
    let fixture = fixture().await;
    let hub = subscribed_hub_of(&fixture);
    let mut rooms = rooms(&fixture, 300).await;
    fixture.store_silently(rooms[7].id, 2).await;
    let warm = hub.open(&rooms[3]).await.unwrap();
    rooms.reverse();
    rooms.push(rooms[0].clone());
    let open = hub.open_all(&rooms).await.unwrap();
    assert!(open.iter().map(|feed| feed.room).eq(rooms.iter().map(|room| room.id)));
    let heads: i64 = open.iter().map(|feed| feed.head().0).sum();
    assert_eq!((heads, open[292].head()), (2, Seq(2)));
    assert!(Arc::ptr_eq(&warm.0, &open[296].0), "a feed that was open is the same");
    assert!(open.iter().all(|feed| feed.0.started.initialized()));
    assert!(hub.open_all(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn readers_of_a_deleted_room_are_told() {
    let fixture = fixture().await;
    let hub = subscribed_hub_of(&fixture);
    let rooms = rooms(&fixture, 2).await;
    let open = hub.open_all(&rooms).await.unwrap();
    hub.note_room_deleted(rooms[0].id);
    assert_eq!([open[0].is_deleted(), open[1].is_deleted()], [true, false]);
}

#[tokio::test]
async fn readers_that_come_together_start_a_feed_once() {
    let fixture = fixture().await;
    let hub = subscribed_hub_of(&fixture);
    let rooms = rooms(&fixture, 20).await;
    let opens = (0..50).map(|number| {
        let (hub, rooms) = (hub.clone(), rooms.clone());
        tokio::spawn(async move { hub.open_all(&rooms[number % 10..]).await.map(|open| open.len()) })
    });
    for (number, open) in opens.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(open.await.unwrap().unwrap(), 20 - number % 10);
    }
    assert_eq!(hub.shared.feeds.lock().len(), 20);
}

#[tokio::test]
async fn feeds_open_while_nothing_can_be_subscribed_to() {
    let fixture = fixture().await;
    let (subscriber, commands) = Subscriber::new();
    let hub = Hub::new(fixture.store.clone(), fixture.installation, subscriber, ReadQueue::default());
    let rooms = rooms(&fixture, 3).await;
    let open = hub.open_all(&rooms).await.unwrap();
    assert_eq!(hub.shared.resync_queue.next_stale().now_or_never(), None);
    // Later the subscription is confirmed: what came in between is to be found.
    tokio::spawn(commands.confirm_all());
    let mut stale = timeout(OPEN_TIME, hub.shared.resync_queue.next_stale()).await.unwrap();
    while !open.iter().all(|feed| stale.contains(&feed.partition)) {
        stale.extend(timeout(OPEN_TIME, hub.shared.resync_queue.next_stale()).await.unwrap());
    }
}

#[tokio::test]
async fn a_process_that_stops_opens_no_feeds() {
    let fixture = fixture().await;
    let (subscriber, commands) = Subscriber::new();
    let hub = Hub::new(fixture.store.clone(), fixture.installation, subscriber, ReadQueue::default());
    commands.close();
    assert!(matches!(hub.open_all(&rooms(&fixture, 3).await).await, Err(OpenError::Stopping)));
}

#[tokio::test]
async fn feeds_whose_heads_cannot_be_read_are_opened_later() {
    let fixture = fixture().await;
    let hub = subscribed_hub_of(&fixture);
    let rooms = rooms(&fixture, 3).await;
    fixture.store.close().await;
    assert!(matches!(hub.open_all(&rooms).await, Err(OpenError::Store(_))));
    assert!(hub.shared.feeds.lock().values().all(|entry| !entry.started.initialized()));
}
