//! A database from before the log of rooms held changes: everything in it stays what and where it was.

use rig::{Backend, Method, Stack};
use serde_json::json;

use crate::fixture::{SOON, fill, with_lobby};

/// Makes the triggers what they were before.
const TRIGGERS_ON_SQLITE: [&str; 7] = [
    "DROP TRIGGER members_joined",
    "DROP TRIGGER members_changed",
    "DROP TRIGGER members_departed",
    "DROP TRIGGER members_listed",
    "DROP TRIGGER removals_of_rooms",
    "CREATE TRIGGER members_listed AFTER INSERT ON members BEGIN
         UPDATE members SET
             username = COALESCE((SELECT username FROM users WHERE id = NEW.user_id), ''),
             private_name = (SELECT name FROM rooms WHERE id = NEW.room_id AND is_private AND deleted_on IS NULL)
         WHERE room_id = NEW.room_id AND user_id = NEW.user_id;
     END",
    "CREATE TRIGGER removals_of_rooms AFTER UPDATE OF deleted_on ON rooms
     WHEN OLD.deleted_on IS NULL AND NEW.deleted_on IS NOT NULL BEGIN
         INSERT INTO removals (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = removals.count + 1;
         INSERT INTO removal_log (count, room_id) SELECT count, NEW.id FROM removals;
     END",
];

/// The same. The migration replaces the other functions.
const TRIGGERS_ON_POSTGRES: [&str; 7] = [
    "DROP TRIGGER members_joined ON members",
    "DROP TRIGGER members_changed ON members",
    "DROP TRIGGER members_departed ON members",
    "DROP FUNCTION join_member",
    "DROP FUNCTION change_member",
    "DROP FUNCTION depart_member",
    "DROP FUNCTION next_rooms_version",
];

/// Makes the schema what it was before.
const BEFORE: [&str; 33] = [
    "DROP TABLE departures",
    "DROP INDEX rooms_direct_key",
    "ALTER TABLE rooms DROP COLUMN kind",
    "ALTER TABLE rooms DROP COLUMN direct_key",
    "ALTER TABLE rooms DROP COLUMN removal",
    "ALTER TABLE users DROP COLUMN rooms_version",
    "ALTER TABLE members DROP COLUMN version",
    "ALTER TABLE members DROP COLUMN read_seq",
    "ALTER TABLE members DROP COLUMN joined",
    "ALTER TABLE members DROP COLUMN read_messages",
    "ALTER TABLE members DROP COLUMN notify",
    "ALTER TABLE members DROP COLUMN notify_until",
    "ALTER TABLE members DROP COLUMN hidden_upto",
    "DROP TABLE search_rooms",
    "DROP TABLE search_pages",
    "DROP TABLE changes",
    "DROP TABLE outbox",
    "DROP TABLE reactions",
    "DROP TABLE replies",
    "DROP TABLE mentions",
    "ALTER TABLE messages DROP COLUMN others",
    "ALTER TABLE messages DROP COLUMN extra",
    "DROP INDEX room_heads_block",
    "DROP INDEX room_heads_without_position",
    "ALTER TABLE room_heads DROP COLUMN partition",
    "ALTER TABLE room_heads DROP COLUMN position",
    "ALTER TABLE room_heads DROP COLUMN block",
    "ALTER TABLE room_heads DROP COLUMN others",
    "ALTER TABLE room_heads DROP COLUMN changed",
    // There was no entry of the creation. In two steps, since no two messages may have a seq in between.
    "UPDATE messages SET seq = -seq",
    "UPDATE messages SET seq = -seq - 1",
    "UPDATE room_heads SET seq = seq - 1",
    "DELETE FROM _sqlx_migrations WHERE version >= 12",
];

async fn check(backend: Backend) {
    let stack = Stack::builder().without_rates().backend(backend).start().await.unwrap();
    let (mut stack, ann) = with_lobby(stack).await;
    fill(&ann, 150).await.unwrap();
    let mut history = ann.whole_history("lobby").await.unwrap();
    for (seq, message) in (1..).zip(&mut history) {
        message["seq"] = json!(seq);
    }
    let id = ann.stream("lobby").open().await.unwrap().ready().id.clone();
    let (epoch, _) = id.rsplit_once('-').unwrap();
    let cursor = format!("{epoch}-150");
    stack.gateways[0].process.stop(SOON).await.unwrap();
    stack.worker.process.stop(SOON).await.unwrap();
    let mut database = stack.database().await.unwrap();
    let triggers = match backend {
        Backend::Sqlite => TRIGGERS_ON_SQLITE,
        Backend::Postgres => TRIGGERS_ON_POSTGRES,
    };
    for statement in triggers.into_iter().chain(BEFORE) {
        database.execute(statement).await.unwrap();
    }
    database.close().await.unwrap();

    stack.worker.start().unwrap();
    stack.gateways[0].start().unwrap();
    stack.wait_ready().await.unwrap();
    assert_eq!(ann.whole_history("lobby").await.unwrap(), history);
    // Who was a member before has read everything.
    let rooms = ann.get("/user/rooms").await.unwrap().expect(200).unwrap().json().unwrap();
    let room = &rooms["data"][0];
    assert_eq!((&room["unread"], &room["read_seq"], &room["head"]), (&json!(0), &json!(150), &json!(150)));
    // Ids of events that were given out before lead on, to the end and from the middle.
    let mut end = ann.stream("lobby").after(&cursor).open().await.unwrap();
    let mut middle = ann.stream("lobby").after(&format!("{epoch}-100")).open().await.unwrap();
    assert_eq!(middle.messages(50, SOON).await.unwrap().last().unwrap().seq().unwrap(), 150);
    // Messages from before are changed like any other.
    let id = history[119]["id"].as_str().unwrap();
    let edit = ann.request(Method::PATCH, &format!("/chat/lobby/message/{id}")).json(&json!({"message": "edited"}));
    ann.send(edit).await.unwrap().expect(200).unwrap();
    for stream in [&mut end, &mut middle] {
        let event = stream.expect("edit", SOON).await.unwrap();
        assert_eq!((event.seq().unwrap(), &event.json().unwrap()["target_seq"]), (151, &json!(120)));
    }
    assert_eq!(ann.history("lobby", "?limit=1&before=121").await.unwrap()[0]["message"], "edited");
    ann.post("lobby", "next").await.unwrap();
    assert_eq!(end.message(SOON).await.unwrap().seq().unwrap(), 152);
}

#[tokio::test]
async fn sqlite_database_from_before_changes_goes_on() {
    check(Backend::Sqlite).await;
}

#[tokio::test]
async fn postgres_database_from_before_changes_goes_on() {
    check(Backend::Postgres).await;
}
