//! Heads are found by their positions when they move, whoever wrote them.

use std::sync::Arc;

use shared::domain::{
    AcceptedChange, ChangeRequest, Command, Emoji, LogEntryId, MessageId, Partition, Position, RoomId, Seq, UserId,
};
use shared::storage::{Claim, MovedHead, PartitionBatch, list_statements};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, SqliteConnection};
use tokio::sync::oneshot;

use crate::support::{BackEnd, Database, FIRST, NOW, command, entry, message, on_both_back_ends};

on_both_back_ends![
    heads_that_moved_are_found,
    pages_of_moved_heads_lose_none,
    heads_are_found_in_later_blocks,
    heads_of_earlier_releases_get_positions,
    moved_heads_are_ranges_of_an_index,
];

const SECOND: Partition = Partition(1);

/// The heads that moved above `after` in its partitions, which goes on after them.
async fn moved(db: &Database, after: &mut [(Partition, Position)]) -> Vec<(RoomId, Seq)> {
    let heads = db.store.moved_heads(after, 100).await.unwrap();
    advance(after, &heads);
    heads.iter().map(|head| (head.room, head.seq)).collect()
}

fn advance(after: &mut [(Partition, Position)], heads: &[MovedHead]) {
    for head in heads {
        let (_, position) = after.iter_mut().find(|(partition, _)| *partition == head.partition).unwrap();
        assert!(head.position > *position, "they ascend");
        *position = head.position;
    }
}

/// Stores one message in each of `rooms`, in their order.
async fn post(db: &Database, claim: &mut Claim, sender: UserId, rooms: &[RoomId]) {
    let first = claim.cursor.ms + 1;
    let entries = (first..).zip(rooms).map(|(ms, room)| entry(ms, message(*room, sender, "x"))).collect();
    db.commit(claim, entries).await.unwrap();
}

async fn heads_that_moved_are_found(db: Database) {
    let ann = db.user("ann").await;
    let mut rooms = Vec::new();
    for name in ["a", "b", "c", "d"] {
        rooms.push(db.room(name, &ann).await.id);
    }
    let mut claims = db.store.claim(&[FIRST, SECOND], "worker").await.unwrap();
    let mut after = db.store.last_positions(&[FIRST, SECOND]).await.unwrap();
    assert_eq!(after, [(FIRST, Position(0)), (SECOND, Position(0))]);
    post(&db, &mut claims[1], ann.id, &rooms[3..]).await;
    post(&db, &mut claims[0], ann.id, &[rooms[0], rooms[1], rooms[0]]).await;
    let both = moved(&db, &mut after).await;
    assert_eq!(both, [(rooms[1], Seq(1)), (rooms[0], Seq(2)), (rooms[3], Seq(1))]);
    assert_eq!(after, db.store.last_positions(&[FIRST, SECOND]).await.unwrap());
    assert!(moved(&db, &mut after).await.is_empty());
    // Only the partition that is asked for.
    post(&db, &mut claims[1], ann.id, &rooms[3..]).await;
    assert!(moved(&db, &mut after[..1]).await.is_empty());
    assert_eq!(moved(&db, &mut after).await, [(rooms[3], Seq(2))]);

    // A change moves the head too. What is refused, or known, moves nothing.
    let target = message(rooms[2], ann.id, "hello");
    let id = target.id;
    let change = |request| AcceptedChange {
        id: MessageId::fresh(),
        room: rooms[2],
        sender: ann.id,
        created_on: NOW,
        receipt_to: None,
        target: id,
        request,
    };
    let emoji = Emoji::parse("👍").unwrap();
    let reacted = change(ChangeRequest::React { emoji, on: true });
    let commands = [Command::Message(target.clone()), Command::Change(reacted.clone())];
    let first = claims[0].cursor.ms + 1;
    let entries = (first..).zip(commands).map(|(ms, done)| command(ms, done)).collect();
    db.commit(&mut claims[0], entries).await.unwrap();
    assert_eq!(moved(&db, &mut after).await, [(rooms[2], Seq(2))]);
    let again = [Command::Message(target), Command::Change(reacted)];
    let entries = (claims[0].cursor.ms + 1..).zip(again).map(|(ms, done)| command(ms, done)).collect();
    db.commit(&mut claims[0], entries).await.unwrap();
    assert!(moved(&db, &mut after).await.is_empty());
    db.positions_grow_with_seqs().await;
}

async fn pages_of_moved_heads_lose_none(db: Database) {
    const ROOMS: usize = 7;
    let ann = db.user("ann").await;
    let mut rooms = Vec::new();
    for number in 0..ROOMS {
        rooms.push(db.room(&format!("room-{number}"), &ann).await.id);
    }
    let mut claims = db.store.claim(&[FIRST, SECOND], "worker").await.unwrap();
    let mut after = db.store.last_positions(&[SECOND, FIRST]).await.unwrap();
    post(&db, &mut claims[0], ann.id, &rooms[..4]).await;
    post(&db, &mut claims[1], ann.id, &rooms[4..]).await;
    let mut found = Vec::new();
    loop {
        let page = db.store.moved_heads(&after, 3).await.unwrap();
        advance(&mut after, &page);
        found.extend(page.iter().map(|head| (head.room, head.seq)));
        if found.len() == 3 {
            // One that was found moves again, and one that was not.
            post(&db, &mut claims[0], ann.id, &[rooms[0], rooms[3]]).await;
        }
        if page.len() < 3 {
            break;
        }
    }
    let expected = [(0, 1), (1, 1), (2, 1), (0, 2), (3, 2), (4, 1), (5, 1), (6, 1)];
    assert_eq!(found, expected.map(|(room, seq)| (rooms[room], Seq(seq))));
}

/// Heads are indexed by blocks of 1,024 positions.
async fn heads_are_found_in_later_blocks(db: Database) {
    let ann = db.user("ann").await;
    let (quiet, busy) = (db.room("quiet", &ann).await.id, db.room("busy", &ann).await.id);
    let mut claim = db.claim().await;
    let mut after = [(FIRST, Position(0))];
    post(&db, &mut claim, ann.id, &[quiet]).await;
    assert_eq!(moved(&db, &mut after).await, [(quiet, Seq(1))]);
    for round in 1..=5 {
        post(&db, &mut claim, ann.id, &[busy; 500]).await;
        let behind = db.store.moved_heads(&[(FIRST, Position(0))], 9).await.unwrap();
        assert_eq!(behind.iter().map(|head| head.room).collect::<Vec<_>>(), [quiet, busy]);
        assert_eq!(moved(&db, &mut after).await, [(busy, Seq(500 * round))]);
        assert_eq!(db.store.last_positions(&[FIRST]).await.unwrap(), after);
    }
    post(&db, &mut claim, ann.id, &[quiet]).await;
    assert_eq!(moved(&db, &mut after).await, [(quiet, Seq(2))]);
}

/// Positions of all heads, with their partitions.
async fn all_heads(db: &Database) -> Vec<MovedHead> {
    let partitions: Vec<_> = (0..4).map(|number| (Partition(number), Position(-1))).collect();
    db.store.moved_heads(&partitions, 100).await.unwrap()
}

async fn heads_of_earlier_releases_get_positions(db: Database) {
    let ann = db.user("ann").await;
    let mut rooms = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        rooms.push(db.room(name, &ann).await.id);
    }
    let mut claims = db.store.claim(&[0, 1, 2, 3].map(Partition), "worker").await.unwrap();
    claims.sort_unstable_by_key(|claim| claim.partition);
    for room in &rooms {
        let partition = Partition::of(*room, 4);
        post(&db, &mut claims[usize::from(partition.0)], ann.id, &[*room, *room]).await;
    }
    let before = all_heads(&db).await;
    assert_eq!(before.len(), rooms.len());
    db.execute("UPDATE room_heads SET partition = NULL, position = NULL, block = NULL WHERE room_id <> 2")
        .await;
    assert_eq!(all_heads(&db).await.len(), 1);
    db.store.migrate(4, 1).await.unwrap();
    assert_eq!(all_heads(&db).await, before);
    // The last entry is missing: the position is not known, and the head is found when it moves.
    db.execute("DELETE FROM messages WHERE room_id = 2 AND seq = 2").await;
    db.execute("UPDATE room_heads SET partition = NULL, position = NULL, block = NULL").await;
    db.store.migrate(4, 1).await.unwrap();
    let expected = before.iter().map(|head| MovedHead {
        position: if head.room == RoomId(2) {
            Position(0)
        } else {
            head.position
        },
        ..*head
    });
    let mut expected: Vec<MovedHead> = expected.collect();
    expected.sort_unstable_by_key(|head| (head.partition, head.position));
    assert_eq!(all_heads(&db).await, expected);
}

async fn moved_heads_are_ranges_of_an_index(db: Database) {
    let ann = db.user("ann").await;
    let mut claims = db.store.claim(&[FIRST, SECOND], "worker").await.unwrap();
    for number in 0..400 {
        let room = db.room(&format!("room-{number}"), &ann).await.id;
        post(&db, &mut claims[number % 2], ann.id, &[room]).await;
    }
    let plan: Vec<String> = match db.back_end {
        BackEnd::Sqlite => {
            let mut connection = SqliteConnection::connect(&db.url).await.unwrap();
            connection.execute("ANALYZE").await.unwrap();
            let explain = format!("EXPLAIN QUERY PLAN {}", list_statements::MOVED_HEADS_ON_SQLITE);
            let rows = sqlx::query(AssertSqlSafe(explain)).fetch_all(&mut connection).await.unwrap();
            rows.iter().map(|row| row.get::<String, _>("detail")).collect()
        }
        BackEnd::Postgres => {
            let mut connection = PgConnection::connect(&db.url).await.unwrap();
            connection.execute("ANALYZE").await.unwrap();
            // The plan for any parameters, as of a statement that is prepared.
            connection.execute("SET plan_cache_mode = force_generic_plan").await.unwrap();
            let prepare = format!(
                "PREPARE moved (bigint[], bigint[], bigint[], bigint) AS {}",
                list_statements::MOVED_HEADS_ON_POSTGRES
            );
            sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut connection).await.unwrap();
            let explain = "EXPLAIN EXECUTE moved (ARRAY[0, 1], ARRAY[10, 10], ARRAY[0, 0], 100)";
            sqlx::query_scalar(explain).persistent(false).fetch_all(&mut connection).await.unwrap()
        }
    };
    assert!(plan.iter().any(|step| step.contains("room_heads_block")), "{plan:#?}");
    let scans = |step: &&String| step.contains("Seq Scan") || step.starts_with("SCAN ") && !step.contains("SCAN j");
    assert!(!plan.iter().any(|step| scans(&step)), "{plan:#?}");
}

/// A commit shows a lower position after one of another partition showed a higher one: both are found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_that_ends_late_is_found() {
    let db = Database::new(BackEnd::Postgres).await;
    let ann = db.user("ann").await;
    let (slow, fast) = (db.room("slow", &ann).await.id, db.room("fast", &ann).await.id);
    let claims = db.store.claim(&[FIRST, SECOND], "worker").await.unwrap();
    let batch = |claim: Claim, room| -> Arc<[PartitionBatch]> {
        let ms = LogEntryId::ZERO.ms + 1;
        let entries = vec![entry(ms, message(room, ann.id, "x"))];
        Arc::new([PartitionBatch { claim, entries }])
    };
    let mut after = db.store.last_positions(&[FIRST, SECOND]).await.unwrap();
    let (written, is_written) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel();
    let before_commit = async move {
        written.send(()).unwrap();
        may_go_on.await.unwrap();
    };
    let (store, first) = (db.store.clone(), batch(claims[0], slow));
    let late = tokio::spawn(async move { store.commit(first, NOW, before_commit).await });
    is_written.await.unwrap();
    db.store.commit(batch(claims[1], fast), NOW, async {}).await.unwrap();
    assert_eq!(moved(&db, &mut after).await, [(fast, Seq(1))]);
    go_on.send(()).unwrap();
    late.await.unwrap().unwrap();
    assert_eq!(moved(&db, &mut after).await, [(slow, Seq(1))]);
    assert!(after[0].1 < after[1].1, "{after:?}");
}
