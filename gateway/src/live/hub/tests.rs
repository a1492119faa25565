use shared::domain::{Epoch, UserId};

use super::repair::{Turn, fill};
use super::*;
use crate::history::Reads;
use crate::live::feed::Read;
use crate::live::scene::scene;

/// The feed of `room` as it is when its subscription stands.
async fn opened(hub: &Hub, room: &Room) -> Arc<Slot> {
    let slot = hub.slot(room);
    slot.feed.start(hub.shared.store.head(room.id).await.unwrap());
    slot.started.set(()).unwrap();
    lock(&hub.shared.feeds).insert(room.id, Arc::clone(&slot));
    slot
}

#[tokio::test]
async fn a_takeover_shows_what_was_stored_silently_in_the_rooms_of_its_partitions() {
    let scene = scene().await;
    let (subscriber, _commands) = Subscriber::new();
    let hub = Hub::new(scene.store.clone(), scene.installation, subscriber, Reads::default());
    let mut slots = Vec::new();
    for name in ["one", "two", "three", "four", "five", "six"] {
        slots.push(opened(&hub, &scene.room(name).await).await);
    }
    let taken = slots[0].feed.partition;
    let in_doubt: Vec<_> = slots.iter().filter(|slot| slot.feed.partition == taken).collect();
    let others: Vec<_> = slots.iter().filter(|slot| slot.feed.partition != taken).collect();
    assert!(!others.is_empty());
    scene.store_silently(in_doubt[0].feed.room, 1).await;
    scene.store_silently(others[0].feed.room, 1).await;

    let mut moved = in_doubt[0].feed.follow();
    hub.doubt(&[taken]);
    let partitions = hub.shared.doubts.take().await;
    hub.compare(|feed| partitions.contains(&feed.partition)).await;
    timeout(OPEN_TIME, moved.changed()).await.unwrap().unwrap();
    assert_eq!(in_doubt[0].feed.head(), Seq(1));
    assert_eq!(others[0].feed.head(), Seq::ZERO);
}

#[tokio::test]
async fn an_event_that_anybody_could_have_published_shows_what_sql_has() {
    let scene = scene().await;
    let (subscriber, _commands) = Subscriber::new();
    let hub = Hub::new(scene.store.clone(), scene.installation, subscriber, Reads::default());
    let room = scene.room("lobby").await;
    let slot = opened(&hub, &room).await;
    scene.store_silently(room.id, 1).await;
    let mut moved = slot.feed.follow();
    let event = format!(
        r#"{{"room":{},"messages":[{{"seq":1,"id":"{}","username":"ann","public_id":"ann","kind":"MESSAGE","text":"a ghost","created_on":0}}]}}"#,
        room.id.0,
        uuid::Uuid::nil(),
    );
    hub.hear(room.id, event.as_bytes());
    assert_eq!(slot.feed.head(), Seq::ZERO);
    hub.compare_heads().await;
    timeout(OPEN_TIME, moved.changed()).await.unwrap().unwrap();
    let Read::Frames(frames, Seq(1)) = slot.feed.read_after(Seq::ZERO, 9, Framing::Library) else {
        panic!("nothing came");
    };
    let frames = std::str::from_utf8(&frames).unwrap();
    assert!(frames.contains(r#""public_id":"ann""#) && frames.contains(r#""message":"stored""#), "{frames}");
}

#[tokio::test]
async fn a_feed_goes_on_behind_a_hole_in_history() {
    let scene = scene().await;
    let room = scene.room("lobby").await;
    scene.store_silently(room.id, 1).await;
    let feed = Feed::new(&room, Epoch(1), Partition(0));
    // Seqs begin at 1: for this feed the message 0 is missing.
    feed.start(Seq(-1));
    feed.hear_of(Seq(1));
    timeout(OPEN_TIME, fill(&scene.store, &feed)).await.unwrap().unwrap();
    assert_eq!(feed.head(), Seq(1));
    assert!(!feed.is_missing_some());
}

#[tokio::test]
async fn a_repair_that_panics_does_not_end_all_repairs_of_its_room() {
    let room = Room::for_tests(RoomId(1), "lobby", UserId(1));
    let slot = Arc::new(Slot::new(Feed::new(&room, Epoch(1), Partition(0))));
    let turn = Turn::take(&slot).unwrap();
    assert!(Turn::take(&slot).is_none());
    let repair = tokio::spawn(async move {
        let _turn = turn;
        panic!("while it reads");
    });
    assert!(repair.await.is_err());
    assert!(Turn::take(&slot).is_some());
}
