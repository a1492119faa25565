//! Dead letters: an operator lists entries that could not be stored, shows, replays or drops them.

use std::process::Output;

use redis::AsyncCommands as _;
use rig::{Failure, Stack, eventually};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;
use uuid::Uuid;

use crate::fixture::{SOON, lobby};

/// A room that does not exist, or not yet.
const NO_ROOM: &str = "2";

/// Its partition, of 16.
const ITS_PARTITION: u16 = 14;

/// Runs `fanout-worker dead-letters` with `arguments` on the stack's installation.
async fn dead_letters(stack: &Stack, arguments: &[&str]) -> Output {
    let database = format!("sqlite://{}", stack.directory().join("roomcast.db").display());
    let mut command = Command::new(rig::service_binary("fanout-worker").unwrap());
    command.arg("dead-letters").args(arguments);
    command.env_clear().env("DATABASE_URL", database).env("REDIS_URL", stack.redis.url());
    command.env("ROOMCAST_LOG", "error").kill_on_drop(true);
    timeout(SOON, command.output()).await.unwrap().unwrap()
}

/// Its standard output; it must have succeeded.
async fn printed(stack: &Stack, arguments: &[&str]) -> String {
    let output = dead_letters(stack, arguments).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Its error, which must be one line; it must have ended with `code`.
async fn complaint(stack: &Stack, arguments: &[&str], code: i32) -> String {
    let output = dead_letters(stack, arguments).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(code), 1), "{text}");
    text
}

/// Waits until `count` dead letters are listed, and returns them as JSON.
async fn wait_for(stack: &Stack, count: usize) -> Vec<Value> {
    let listed = eventually(SOON, "dead letters are listed", async || {
        let lines = printed(stack, &["list", "--json"]).await;
        let letters: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        if letters.len() == count {
            Ok(letters)
        } else {
            Err(Failure::new(lines))
        }
    });
    listed.await.unwrap()
}

/// Appends the entry that a gateway would append for a message of the first user to `room`.
async fn append(stack: &Stack, room: &str, text: &str) -> String {
    let id = Uuid::now_v7().to_string();
    let fields = [
        ("id", id.as_str()),
        ("room", room),
        ("sender", "1"),
        ("username", "ann"),
        ("at", "1700000000000"),
        ("text", text),
    ];
    let mut redis = stack.redis.connect().await.unwrap();
    let log = stack.accept_stream(ITS_PARTITION).await.unwrap();
    let _log_entry_id: String = redis.xadd(log, "*", &fields).await.unwrap();
    id
}

#[tokio::test]
async fn dead_letter_is_stored_when_replayed_after_its_room_exists() {
    let (stack, ann) = lobby().await;
    assert_eq!(printed(&stack, &["list"]).await, "no dead letters\n");
    let text = "line one\r\n\u{1f980} \"two\"";
    let id = append(&stack, NO_ROOM, text).await;
    let letters = wait_for(&stack, 1).await;
    assert_eq!(
        (&letters[0]["room"], &letters[0]["sender"], &letters[0]["partition"]),
        (&2.into(), &1.into(), &ITS_PARTITION.into())
    );
    let number = letters[0]["id"].to_string();

    // The list does not contain texts; `show` does.
    let table = printed(&stack, &["list"]).await;
    assert!(
        table.lines().nth(1).unwrap().ends_with("by a process of this installation") && !table.contains("line one"),
        "{table}"
    );
    assert!(printed(&stack, &["show", &number]).await.contains("line one"));

    // An operator replays it. As long as the room is missing it becomes a dead letter again, with another log entry id.
    let first_log_entry_id = letters[0]["stream_id"].clone();
    assert!(printed(&stack, &["replay", &number]).await.starts_with(&format!("{number} replayed: ")));
    let again = eventually(SOON, "it is set aside again", async || {
        let letter = wait_for(&stack, 1).await.remove(0);
        if letter["stream_id"] == first_log_entry_id {
            Err(Failure::new("not yet"))
        } else {
            Ok(letter["id"].to_string())
        }
    });
    let number = again.await.unwrap();
    assert!(printed(&stack, &["list"]).await.contains("there is no such room"));

    ann.create_room("found").await.unwrap();
    printed(&stack, &["replay", &number]).await;
    let stored = eventually(SOON, "it is stored", async || match ann.history("found", "").await?.as_slice() {
        [message] => Ok(message.clone()),
        other => Err(Failure::new(format!("{} messages", other.len()))),
    });
    let message = stored.await.unwrap();
    assert_eq!((&message["id"], &message["message"]), (&id.into(), &text.into()));
    wait_for(&stack, 0).await;
}

#[tokio::test]
async fn malformed_dead_letter_is_not_replayed_and_can_be_dropped() {
    let (stack, _ann) = lobby().await;
    let log = stack.accept_stream(0).await.unwrap();
    stack.redis.append_garbage(&log, b"\xff\x1b[2J").await.unwrap();
    let number = wait_for(&stack, 1).await[0]["id"].to_string();
    let shown = printed(&stack, &["show", &number]).await;
    assert!(shown.contains(r#"{"hex":"ff1b5b324a"}"#), "{shown}");
    let refused = complaint(&stack, &["replay", &number], 1).await;
    assert_eq!(
        refused,
        format!("fanout-worker: dead letter {number} cannot be replayed: field 'text' is missing\n")
    );
    assert_eq!(printed(&stack, &["drop", &number]).await, format!("{number} dropped\n"));
    wait_for(&stack, 0).await;
}

#[tokio::test]
async fn unknown_dead_letter_is_reported_and_the_rest_processed() {
    let (stack, _ann) = lobby().await;
    for text in ["1", "2", "3"] {
        append(&stack, NO_ROOM, text).await;
    }
    let numbers: Vec<String> = wait_for(&stack, 3).await.iter().map(|letter| letter["id"].to_string()).collect();
    let page = printed(&stack, &["list", "--json", "--after", &numbers[0], "--limit", "1"]).await;
    assert!(page.lines().count() == 1 && page.contains(&format!("\"id\":{}", numbers[1])), "{page}");

    assert_eq!(complaint(&stack, &["show", "999"], 1).await, "fanout-worker: there is no dead letter 999\n");
    let mixed = complaint(&stack, &["drop", &numbers[0], "998", "999", &numbers[2]], 1).await;
    assert_eq!(mixed, "fanout-worker: there is no dead letter 998; there is no dead letter 999\n");
    assert_eq!(wait_for(&stack, 1).await[0]["id"].to_string(), numbers[1]);
    for bad in [
        &["show", "x"][..],
        &["replay"],
        &["drop", "1", "y"],
        &["list", "--limit", "0"],
    ] {
        complaint(&stack, bad, 64).await;
    }
}
