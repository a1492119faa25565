//! Positions: the seqs of rooms at one of them, and the last one that can no longer be preceded by a commit.

use std::sync::Arc;

use shared::domain::{
    AcceptedChange, ChangeRequest, Command, Emoji, MessageId, Partition, Position, RoomId, Seq, UserId,
};
use shared::storage::{Claim, HorizonSample, PartitionBatch};
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tokio::sync::oneshot;

use crate::support::{BackEnd, Database, FIRST, NOW, command, entry, message, on_both_back_ends, within_ten_seconds};

on_both_back_ends![
    seqs_at_a_position_are_those_of_a_linear_search,
    seqs_are_found_before_heads_have_positions,
    a_sample_without_open_transactions_is_confirmed,
];

/// Every entry: room, seq and position.
async fn entries(db: &Database) -> Vec<(i64, i64, i64)> {
    let query = "SELECT room_id, seq, position FROM messages UNION ALL SELECT room_id, seq, position FROM changes";
    match db.back_end {
        BackEnd::Sqlite => {
            let mut connection = SqliteConnection::connect(&db.url).await.unwrap();
            sqlx::query_as(query).fetch_all(&mut connection).await.unwrap()
        }
        BackEnd::Postgres => {
            let mut connection = PgConnection::connect(&db.url).await.unwrap();
            sqlx::query_as(query).fetch_all(&mut connection).await.unwrap()
        }
    }
}

fn react(room: RoomId, sender: UserId, target: MessageId, on: bool) -> Command {
    Command::Change(AcceptedChange {
        id: MessageId::fresh(),
        room,
        sender,
        created_on: NOW,
        receipt_to: None,
        target,
        request: ChangeRequest::React {
            emoji: Emoji::parse("👍").unwrap(),
            on,
        },
    })
}

/// Three rooms with messages and changes in turns, and a fourth without entries.
async fn filled(db: &Database) -> Vec<RoomId> {
    let ann = db.user("ann").await;
    let mut rooms = Vec::new();
    for name in ["a", "b", "c", "empty"] {
        rooms.push(db.room(name, &ann).await.id);
    }
    let mut claim = db.claim().await;
    let mut last = [None; 3];
    for number in 0_usize..120 {
        // The first room has most entries, and the third a single one.
        let index = match number {
            60 => 2,
            number if number % 5 == 0 => 1,
            _ => 0,
        };
        let room = rooms[index];
        let next = match last[index] {
            Some(target) if number % 3 == 0 => react(room, ann.id, target, number % 2 == 0),
            _ => {
                let posted = message(room, ann.id, "x");
                last[index] = Some(posted.id);
                Command::Message(posted)
            }
        };
        let ms = claim.cursor.ms + 1;
        db.commit(&mut claim, vec![command(ms, next)]).await.unwrap();
    }
    rooms
}

async fn seqs_at_a_position_are_those_of_a_linear_search(db: Database) {
    let rooms = filled(&db).await;
    // Holes: at the start, in the middle, several in a row, and at the head.
    for holes in [
        "SELECT 1",
        "DELETE FROM messages WHERE room_id = 1 AND seq IN (1, 2, 30, 31, 32, 33, 34)",
        "DELETE FROM changes WHERE room_id = 1 AND seq BETWEEN 25 AND 45",
        "DELETE FROM messages WHERE seq > 80 OR room_id = 2 AND seq > 12",
    ] {
        db.execute(holes).await;
        let entries = entries(&db).await;
        let last = entries.iter().map(|(.., position)| *position).max().unwrap();
        for position in 0..=last + 1 {
            let seq_at = |room: RoomId| {
                let of_room = entries.iter().filter(|(id, _, at)| *id == room.0 && *at <= position);
                (room, Seq(of_room.map(|(_, seq, _)| *seq).max().unwrap_or(0)))
            };
            let found = db.store.seqs_at(&rooms, Position(position)).await.unwrap();
            let expected: Vec<(RoomId, Seq)> = rooms.iter().map(|room| seq_at(*room)).collect();
            assert_eq!(found, expected, "{holes} at {position}");
        }
    }
    assert!(db.store.seqs_at(&[], Position(1)).await.unwrap().is_empty());
    assert_eq!(db.store.seqs_at(&[RoomId(99)], Position(1)).await.unwrap(), [(RoomId(99), Seq::ZERO)]);
}

async fn seqs_are_found_before_heads_have_positions(db: Database) {
    let rooms = filled(&db).await;
    let before = db.store.seqs_at(&rooms, Position(50)).await.unwrap();
    let at_the_end = db.store.seqs_at(&rooms, Position(500)).await.unwrap();
    db.execute("UPDATE room_heads SET partition = NULL, position = NULL, block = NULL").await;
    assert_eq!(db.store.seqs_at(&rooms, Position(50)).await.unwrap(), before);
    assert_eq!(db.store.seqs_at(&rooms, Position(500)).await.unwrap(), at_the_end);
}

/// A later sample that confirms `sample`. On Postgres, transactions of other databases count too, such as those of other tests.
async fn confirming(db: &Database, sample: &HorizonSample) -> HorizonSample {
    within_ten_seconds(async {
        loop {
            let later = db.store.horizon_sample().await.unwrap();
            if sample.is_confirmed_by(&later) {
                return later;
            }
        }
    })
    .await
}

async fn a_sample_without_open_transactions_is_confirmed(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let empty = db.store.horizon_sample().await.unwrap();
    assert_eq!(empty.last, Position(0));
    let mut claim = db.claim().await;
    db.post(&mut claim, room, ann.id, &["1", "2"]).await;
    let first = db.store.horizon_sample().await.unwrap();
    let later = confirming(&db, &first).await;
    let head = db.store.last_positions(&[FIRST]).await.unwrap()[0].1;
    assert_eq!((first.last, later.last), (head, head));
    assert!(empty.is_confirmed_by(&later));
}

/// A transaction that has taken a position below the last one is still open, and others have begun and ended since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_commit_keeps_a_sample_from_being_confirmed() {
    let db = Database::new(BackEnd::Postgres).await;
    let ann = db.user("ann").await;
    let (slow, fast) = (db.room("slow", &ann).await.id, db.room("fast", &ann).await.id);
    let claims = db.store.claim(&[FIRST, Partition(1)], "worker").await.unwrap();
    let batch = |claim: Claim, room| -> Arc<[PartitionBatch]> {
        let entries = vec![entry(claim.cursor.ms + 1, message(room, ann.id, "x"))];
        Arc::new([PartitionBatch { claim, entries }])
    };
    let (written, is_written) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel();
    let before_commit = async move {
        written.send(()).unwrap();
        may_go_on.await.unwrap();
    };
    let (store, first) = (db.store.clone(), batch(claims[0], slow));
    let late = tokio::spawn(async move { store.commit(first, NOW, before_commit).await });
    is_written.await.unwrap();
    // Nothing has ended since the open one began: the end of a snapshot would not be above it.
    let early = db.store.horizon_sample().await.unwrap();
    db.store.commit(batch(claims[1], fast), NOW, async {}).await.unwrap();
    let sample = db.store.horizon_sample().await.unwrap();
    for _ in 0..5 {
        let later = db.store.horizon_sample().await.unwrap();
        assert!(!early.is_confirmed_by(&later) && !sample.is_confirmed_by(&later), "{early:?} {sample:?} {later:?}");
    }
    go_on.send(()).unwrap();
    late.await.unwrap().unwrap();
    assert!(early.is_confirmed_by(&confirming(&db, &sample).await));
    assert_eq!((early.last, sample.last), (Position(1), Position(2)));
}
