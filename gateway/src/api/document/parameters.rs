//! Parameters of the OpenAPI document: their bounds, patterns and examples.

use serde_json::{Value, json};
use shared::domain::{Emoji, IdempotencyKey, PublicId, RoomName, SearchQuery, Username};

use super::patterns::{ACTIVITY, EMOJI, NAME, ROOM_NAME};
use crate::api::search::{FROM_MAX_LEN, LIMIT as SEARCH_LIMIT};
use crate::api::user_rooms::LIMIT as ROOMS_LIMIT;
use crate::live::ClientName;

/// The id of a message that the page for testers replaces by that of the message that was posted last.
const MESSAGE_ID: &str = "01a20ab1-49a0-708d-8bf6-055e5f5df19a";

/// Longest list of rooms or kinds: 200 names with commas between.
const ROOMS_MAX_LEN: usize = 200 * (RoomName::MAX_LEN + 1);

/// Names of rooms with commas between.
const ROOM_NAMES: &str = "^[~A-Za-z0-9._-]+(,[~A-Za-z0-9._-]+)*$";
/// The longest position in the list of one's rooms: two hexadecimal numbers of 63 bits.
const CURSOR_MAX_LEN: usize = 33;

/// Completes a parameter of `operation`.
pub(super) fn describe(operation: &str, parameter: &mut Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    // The framework writes it by default, and tools warn of it.
    parameter.as_object_mut().map(|parameter| parameter.shift_remove("deprecated"));
    let schema = &mut parameter["schema"];
    match (operation, name.as_str()) {
        ("createRoom", "room") => bound(schema, RoomName::MAX_LEN, NAME),
        (_, "room") => bound(schema, RoomName::MAX_LEN, ROOM_NAME),
        (_, "public_id") => bound(schema, PublicId::MAX_LEN, NAME),
        (_, "Idempotency-Key") => bound(schema, IdempotencyKey::MAX_LEN, "^[!-~]+$"),
        ("followRoom" | "followAllRooms", "client") => bound(schema, ClientName::MAX_LEN, "^[A-Za-z0-9_-]+$"),
        ("followRoom" | "followAllRooms", "limit") => range(schema, 1, 10_000),
        ("syncRooms", "preview") => range(schema, 0, 20),
        ("followAllRooms", "rooms") => bound(schema, ROOMS_MAX_LEN, ROOM_NAMES),
        ("followAllRooms", "types") => bound(schema, ROOMS_MAX_LEN, "^[a-z]+(,[a-z]+)*$"),
        ("followRoom" | "followAllRooms", "wait_s") => range(schema, 1, 300),
        ("followRoom", "max_replay") => range(schema, 0, 1_000_000_000),
        ("searchMessages", "q") => length(schema, SearchQuery::MAX_LEN),
        ("searchMessages", "from") | ("openDirectRoom", "username") => length(schema, FROM_MAX_LEN),
        ("searchMessages", "limit") => range(schema, 1, SEARCH_LIMIT.0),
        ("readHistory" | "listReplies" | "syncRooms", "limit") => range(schema, 1, 100),
        ("listUserRooms", "limit") => range(schema, 1, ROOMS_LIMIT.0),
        ("listUserRooms", "before") => bound(schema, CURSOR_MAX_LEN, ACTIVITY),
        (_, "id") => schema["format"] = json!("uuid"),
        (_, "emoji") => bound(schema, Emoji::MAX_LEN, EMOJI),
        (_, "limit") => range(schema, 1, 1_000),
        (_, "before" | "after" | "around") if schema["type"] == "integer" => schema["minimum"] = json!(0),
        ("listRooms", "after") => position(schema, RoomName::MAX_LEN),
        ("listMembers" | "listDirectRooms", "after") => position(schema, Username::MAX_LEN),
        ("listUsers", "after") => position(schema, PublicId::MAX_LEN),
        _ => {}
    }
    let example = match (operation, name.as_str()) {
        ("searchMessages", "room") => return,
        (_, "room") => json!("testchat1"),
        (_, "public_id") => json!("test1"),
        (_, "username") => json!("test2"),
        (_, "emoji") => json!("👍"),
        (_, "id") => json!(MESSAGE_ID),
        ("searchMessages", "q") => json!("test mes*"),
        ("followRoom" | "followAllRooms", "limit") => json!(3),
        ("followRoom" | "followAllRooms", "wait_s") => json!(5),
        _ => return,
    };
    parameter["example"] = example;
}

fn bound(schema: &mut Value, max: usize, pattern: &str) {
    schema["minLength"] = json!(1);
    schema["maxLength"] = json!(max);
    schema["pattern"] = json!(pattern);
}

fn length(schema: &mut Value, max: usize) {
    schema["minLength"] = json!(1);
    schema["maxLength"] = json!(max);
}

/// A position in a list, behind which the list begins.
fn position(schema: &mut Value, max: usize) {
    schema["maxLength"] = json!(max);
    schema["pattern"] = json!("^[^\\u0000]*$");
}

fn range(schema: &mut Value, min: u32, max: u32) {
    schema["minimum"] = json!(min);
    schema["maximum"] = json!(max);
}
