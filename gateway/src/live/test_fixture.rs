//! Fixture of tests of live streams and history: a database with rooms and one user who writes.

use std::sync::Arc;

use shared::domain::{Accepted, LogEntryId, MessageId, MessageText, RoomId, RoomName, Timestamp, UserId};
use shared::storage::{CreateRoom, Entry, EntryContent, Installation, NewUser, PartitionBatch, Role, Room, Store};
use tempfile::TempDir;

const PARTITIONS: u16 = 4;

/// An installation on SQLite, with the user ann, who owns no room: what the outbox has about its owner is not stored with her
/// messages, so that they are the whole log.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) installation: Installation,
    ann: UserId,
    owner: UserId,
    _directory: TempDir,
}

pub(crate) async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("roomcast.db").display());
    let store = Store::open(&url, Role::Worker).await.unwrap();
    let installation = store.migrate(PARTITIONS, 1).await.unwrap();
    let [ann, owner] = ["ann", "owner"].map(NewUser::for_tests);
    Fixture {
        ann: store.create_user(ann, Timestamp(0)).await.unwrap().id,
        owner: store.create_user(owner, Timestamp(0)).await.unwrap().id,
        store,
        installation,
        _directory: directory,
    }
}

impl Fixture {
    /// A new room.
    pub(crate) async fn room(&self, name: &str) -> Room {
        self.store
            .create_room(CreateRoom::public(RoomName::parse(name).unwrap(), self.owner), Timestamp(0))
            .await
            .unwrap()
    }

    /// Stores `count` messages in `room` without publishing them.
    pub(crate) async fn store_silently(&self, room: RoomId, count: u32) {
        let partition = self.installation.partition_of(room);
        let claim = self.store.claim(&[partition], "worker").await.unwrap()[0];
        let entry = |number| Entry {
            log_entry_id: LogEntryId {
                ms: claim.cursor.ms + i64::from(number),
                counter: 0,
            },
            content: EntryContent::Message(Accepted {
                id: MessageId::fresh(),
                room,
                sender: self.ann,
                text: MessageText::parse("stored").unwrap(),
                in_reply_to: None,
                mentions: Vec::new(),
                created_on: Timestamp(0),
                reply_to: None,
            }),
        };
        let batch = PartitionBatch {
            claim,
            entries: (1..=count).map(entry).collect(),
        };
        self.store.commit(Arc::new([batch]), Timestamp(0), async {}).await.unwrap();
    }
}
