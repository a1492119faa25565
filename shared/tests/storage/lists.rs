//! A page of a list is one range of an index, so that it costs the same however much other users own.

use shared::domain::RoomName;
use shared::storage::{CreateRoom, CreateRoomError, JoinMode, list_statements};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, SqliteConnection};

use crate::support::{BackEnd, Database, NOW, on_both_back_ends};

on_both_back_ends![
    lists_are_ranges_of_indexes,
    lists_follow_changes_of_rooms_and_names,
    a_user_cannot_own_more_rooms_than_allowed,
];

/// The plan of the statement of a list, one line per step.
async fn plan(db: &Database, statement: &str) -> Vec<String> {
    match db.back_end {
        BackEnd::Sqlite => {
            let mut connection = SqliteConnection::connect(&db.url).await.unwrap();
            connection.execute("ANALYZE").await.unwrap();
            let explain = format!("EXPLAIN QUERY PLAN {statement}");
            let rows = sqlx::query(AssertSqlSafe(explain)).fetch_all(&mut connection).await.unwrap();
            rows.iter().map(|row| row.get::<String, _>("detail")).collect()
        }
        BackEnd::Postgres => {
            let mut connection = PgConnection::connect(&db.url).await.unwrap();
            connection.execute("ANALYZE").await.unwrap();
            let values = ["''", "1", "10", "10"];
            let mut explain = format!("EXPLAIN {statement}");
            // The parameters of the list of members begin with the room.
            let is_members = statement.contains("m.username");
            let values = if is_members { ["1", "1", "''", "10"] } else { values };
            for (number, value) in (1..).zip(values) {
                explain = explain.replace(&format!("${number}"), value);
            }
            sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&mut connection).await.unwrap()
        }
    }
}

async fn lists_are_ranges_of_indexes(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let lobby = db.room("lobby", &ann).await;
    for number in 0..300 {
        db.private_room(&format!("secret-{number}"), &bob).await;
        db.room(&format!("open-{number}"), &bob).await;
        let member = db.user(&format!("member-{number}")).await;
        db.store.join_public(lobby.id, member.id, JoinMode::ByName, NOW).await.unwrap();
    }
    let rooms = plan(&db, list_statements::LIST_ROOMS).await;
    let members = plan(&db, list_statements::LIST_MEMBERS).await;
    for (plan, indexes) in [
        (&rooms, ["rooms_public", "members_private"]),
        (&members, ["members_by_name", "members_by_name"]),
    ] {
        for index in indexes {
            assert!(plan.iter().any(|step| step.contains(index)), "{index} is not used: {plan:#?}");
        }
        assert!(!plan.iter().any(|step| step.contains("Seq Scan")), "{plan:#?}");
        let scans_a_table =
            |step: &&String| step.starts_with("SCAN ") && step.contains("USING") || step.contains("SCAN rooms");
        assert!(!plan.iter().any(|step| scans_a_table(&step)), "{plan:#?}");
    }
    assert_eq!(db.store.list_rooms(ann.id, "secret", 10).await.unwrap(), Vec::<String>::new());
    assert_eq!(db.store.list_rooms(bob.id, "open-99", 2).await.unwrap(), ["secret-0", "secret-1"]);
}

async fn lists_follow_changes_of_rooms_and_names(db: Database) {
    let ann = db.user("ann").await;
    let first = db.private_room("secret", &ann).await;
    assert_eq!(db.store.list_rooms(ann.id, "", 10).await.unwrap(), ["secret"]);
    assert!(db.store.delete_room(first.id, NOW).await.unwrap());
    assert_eq!(db.store.list_rooms(ann.id, "", 10).await.unwrap(), Vec::<String>::new());
    let second = db.private_room("secret", &ann).await;
    assert_eq!(db.store.list_rooms(ann.id, "", 10).await.unwrap(), ["secret"]);
    assert_eq!(db.store.list_members(second.id, ann.id, "", 10).await.unwrap(), ["ann"]);
    let rename = "UPDATE users SET username = 'zoe' WHERE username = 'ann'";
    match db.back_end {
        BackEnd::Sqlite => drop(SqliteConnection::connect(&db.url).await.unwrap().execute(rename).await.unwrap()),
        BackEnd::Postgres => drop(PgConnection::connect(&db.url).await.unwrap().execute(rename).await.unwrap()),
    }
    assert_eq!(db.store.list_members(second.id, ann.id, "", 10).await.unwrap(), ["zoe"]);
}

async fn a_user_cannot_own_more_rooms_than_allowed(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = |number: usize, owner| CreateRoom {
        is_private: number.is_multiple_of(2),
        ..CreateRoom::public(RoomName::parse(&format!("room-{number}")).unwrap(), owner)
    };
    let creations = (0..20).map(|number| db.store.create_room_within(3, room(number, ann.id), NOW));
    let made = futures_util::future::join_all(creations).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 3, "also when all are created at once");
    assert!(refused.iter().all(|refused| matches!(refused, Err(CreateRoomError::TooMany))), "{refused:?}");
    db.store.create_room_within(3, room(100, bob.id), NOW).await.unwrap();
    let gone = made.into_iter().next().unwrap().unwrap();
    db.store.delete_room(gone.id, NOW).await.unwrap();
    db.store.create_room_within(3, room(101, ann.id), NOW).await.unwrap();
}
