use shared::domain::{
    Accepted, Email, MessageId, MessageText, PublicId, RoomName, StreamId, Timestamp, UserId, Username,
};
use shared::storage::{Content, Entry, NewUser, PartitionBatch, Role};

use super::*;

const PARTITIONS: u16 = 4;

async fn store(directory: &std::path::Path) -> (Store, Installation) {
    let url = format!("sqlite://{}", directory.join("roomcast.db").display());
    let store = Store::open(&url, Role::Worker).await.unwrap();
    let installation = store.migrate(PARTITIONS, 1).await.unwrap();
    (store, installation)
}

async fn someone(store: &Store) -> UserId {
    let new = NewUser {
        public_id: PublicId::parse("ann").unwrap(),
        email: Email::parse("ann", false).unwrap(),
        username: Username::parse("ann").unwrap(),
        password_hash: "hash".to_owned(),
        admin_if_first: false,
    };
    store.create_user(new, Timestamp(0)).await.unwrap().id
}

/// Stores a message in `room` and tells nobody.
async fn store_silently(store: &Store, partition: Partition, room: RoomId, sender: UserId) {
    let message = Accepted {
        id: MessageId::fresh(),
        room,
        sender,
        username: "ann".to_owned(),
        text: MessageText::parse("stored").unwrap(),
        created_on: Timestamp(0),
        reply_to: None,
    };
    let entry = Entry {
        stream_id: StreamId { ms: 1, counter: 0 },
        content: Content::Message(message),
    };
    let claim = store.claim(&[partition], "worker").await.unwrap()[0];
    let batch = PartitionBatch {
        claim,
        entries: vec![entry],
    };
    store.append(Arc::new([batch]), Timestamp(0), async {}).await.unwrap();
}

/// The feed of `room` as it is when its subscription stands.
async fn opened(hub: &Hub, room: &Room) -> Arc<Slot> {
    let slot = Arc::new(hub.slot(room));
    slot.feed.start(hub.shared.store.head(room.id).await.unwrap());
    slot.started.set(()).unwrap();
    lock(&hub.shared.feeds).insert(room.id, Arc::clone(&slot));
    slot
}

#[tokio::test]
async fn a_takeover_shows_what_was_stored_silently_in_the_rooms_of_its_partitions() {
    let directory = tempfile::tempdir().unwrap();
    let (store, installation) = store(directory.path()).await;
    let ann = someone(&store).await;
    let (subscriber, _commands) = Subscriber::new();
    let hub = Hub::new(store.clone(), installation, subscriber);
    let mut slots = Vec::new();
    for name in ["one", "two", "three", "four", "five", "six"] {
        let name = RoomName::parse(name).unwrap();
        let room = store.create_room(name, ann, false, Timestamp(0)).await.unwrap();
        slots.push(opened(&hub, &room).await);
    }
    let taken = slots[0].feed.partition;
    let in_doubt: Vec<_> = slots.iter().filter(|slot| slot.feed.partition == taken).collect();
    let others: Vec<_> = slots.iter().filter(|slot| slot.feed.partition != taken).collect();
    assert!(!others.is_empty());
    store_silently(&store, taken, in_doubt[0].feed.room, ann).await;
    store_silently(&store, others[0].feed.partition, others[0].feed.room, ann).await;

    let mut moved = in_doubt[0].feed.follow();
    hub.doubt(&[taken]);
    let partitions = hub.shared.doubts.take().await;
    hub.compare(|feed| partitions.contains(&feed.partition)).await;
    timeout(OPEN_TIME, moved.changed()).await.unwrap().unwrap();
    assert_eq!(in_doubt[0].feed.head(), Seq(1));
    assert_eq!(others[0].feed.head(), Seq::ZERO);
}
