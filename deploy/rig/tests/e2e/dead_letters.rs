//! What could not be stored waits for an operator, who looks at it, has it stored after all, or drops it.

use std::process::{Command, Output};

use redis::AsyncCommands as _;
use rig::{Failure, Stack, eventually};
use serde_json::Value;
use uuid::Uuid;

use crate::scene::{SOON, lobby};

/// A room that does not exist, or not yet.
const NO_ROOM: &str = "2";

/// Its partition, of 16.
const ITS_PARTITION: u16 = 14;

/// Runs `fanout-worker dead-letters` with `arguments` on the stack's installation.
fn dead_letters(stack: &Stack, arguments: &[&str]) -> Output {
    let database = format!("sqlite://{}", stack.directory().join("roomcast.db").display());
    let mut command = Command::new(rig::service_binary("fanout-worker").unwrap());
    command.arg("dead-letters").args(arguments);
    command.env_clear().env("DATABASE_URL", database).env("REDIS_URL", stack.redis.url());
    command.env("ROOMCAST_LOG", "error").output().unwrap()
}

/// What it printed; it must have succeeded.
fn printed(stack: &Stack, arguments: &[&str]) -> String {
    let output = dead_letters(stack, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What it complained of, in one line; it must have ended with `code`.
fn complaint(stack: &Stack, arguments: &[&str], code: i32) -> String {
    let output = dead_letters(stack, arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(code), 1), "{text}");
    text
}

/// The listed ones as JSON, when there are `count`.
async fn wait_for(stack: &Stack, count: usize) -> Vec<Value> {
    let listed = eventually(SOON, "dead letters are listed", async || {
        let lines = printed(stack, &["list", "--json"]);
        let letters: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        if letters.len() == count {
            Ok(letters)
        } else {
            Err(Failure::new(lines))
        }
    });
    listed.await.unwrap()
}

/// Appends what a gateway would append for a message of the first user to `room`.
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
    let _stream_id: String = redis.xadd(log, "*", &fields).await.unwrap();
    id
}

#[tokio::test]
async fn a_message_for_a_room_that_was_missing_is_stored_after_all_when_it_is_replayed() {
    let (stack, ann) = lobby().await;
    assert_eq!(printed(&stack, &["list"]), "no dead letters\n");
    let text = "line one\r\n\u{1f980} \"two\"";
    let id = append(&stack, NO_ROOM, text).await;
    let letters = wait_for(&stack, 1).await;
    assert_eq!(
        (&letters[0]["room"], &letters[0]["sender"], &letters[0]["partition"]),
        (&2.into(), &1.into(), &ITS_PARTITION.into())
    );
    let number = letters[0]["id"].to_string();

    // Lists tell no text; showing does.
    let table = printed(&stack, &["list"]);
    assert!(
        table.lines().nth(1).unwrap().ends_with("by a process of this installation") && !table.contains("line one"),
        "{table}"
    );
    assert!(printed(&stack, &["show", &number]).contains("line one"));

    // An operator vouches for it. As long as the room is missing it comes back, from another place in the stream.
    let place = letters[0]["stream_id"].clone();
    assert!(printed(&stack, &["replay", &number]).starts_with(&format!("{number} replayed: ")));
    let again = eventually(SOON, "it is set aside again", async || {
        let letter = wait_for(&stack, 1).await.remove(0);
        if letter["stream_id"] == place {
            Err(Failure::new("not yet"))
        } else {
            Ok(letter["id"].to_string())
        }
    });
    let number = again.await.unwrap();
    assert!(printed(&stack, &["list"]).contains("there is no such room"));

    ann.create_room("found").await.unwrap();
    printed(&stack, &["replay", &number]);
    let stored = eventually(SOON, "it is stored", async || match ann.history("found", "").await?.as_slice() {
        [message] => Ok(message.clone()),
        other => Err(Failure::new(format!("{} messages", other.len()))),
    });
    let message = stored.await.unwrap();
    assert_eq!((&message["id"], &message["message"]), (&id.into(), &text.into()));
    wait_for(&stack, 0).await;
}

#[tokio::test]
async fn what_is_no_message_is_not_replayed_and_can_be_dropped() {
    let (stack, _ann) = lobby().await;
    let log = stack.accept_stream(0).await.unwrap();
    stack.redis.append_garbage(&log, b"\xff\x1b[2J").await.unwrap();
    let number = wait_for(&stack, 1).await[0]["id"].to_string();
    let shown = printed(&stack, &["show", &number]);
    assert!(shown.contains(r#"{"hex":"ff1b5b324a"}"#), "{shown}");
    let refused = complaint(&stack, &["replay", &number], 1);
    assert_eq!(
        refused,
        format!("fanout-worker: dead letter {number} cannot be replayed: field 'text' is missing\n")
    );
    assert_eq!(printed(&stack, &["drop", &number]), format!("{number} dropped\n"));
    wait_for(&stack, 0).await;
}

#[tokio::test]
async fn what_is_not_there_is_one_clear_line_and_does_not_keep_the_rest() {
    let (stack, _ann) = lobby().await;
    for text in ["1", "2", "3"] {
        append(&stack, NO_ROOM, text).await;
    }
    let numbers: Vec<String> = wait_for(&stack, 3).await.iter().map(|letter| letter["id"].to_string()).collect();
    let page = printed(&stack, &["list", "--json", "--after", &numbers[0], "--limit", "1"]);
    assert!(page.lines().count() == 1 && page.contains(&format!("\"id\":{}", numbers[1])), "{page}");

    assert_eq!(complaint(&stack, &["show", "999"], 1), "fanout-worker: there is no dead letter 999\n");
    let mixed = complaint(&stack, &["drop", &numbers[0], "998", "999", &numbers[2]], 1);
    assert_eq!(mixed, "fanout-worker: there is no dead letter 998; there is no dead letter 999\n");
    assert_eq!(wait_for(&stack, 1).await[0]["id"].to_string(), numbers[1]);
    for bad in [
        &["show", "x"][..],
        &["replay"],
        &["drop", "1", "y"],
        &["list", "--limit", "0"],
    ] {
        complaint(&stack, bad, 64);
    }
}
