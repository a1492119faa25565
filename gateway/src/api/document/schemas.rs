//! Schemas of the OpenAPI document: completes them with what generators and testers need and the framework does not write.

use poem_openapi::registry::Registry;
use poem_openapi::types::Type;
use serde_json::{Map, Value, json};
use shared::domain::MessageExtra;

use super::patterns::PATTERNS;
use crate::api::models::Problem;
use crate::auth::passwords;
use crate::change_json::{DeleteEvent, EditEvent, MemberEvent, ReactionEvent, RoomChangeEvent};
use crate::room_state_json::UserRoom;
use crate::sync::GONE_AT_MOST;

/// Formats of strings: schema, field, format.
const FORMATS: [(&str, &str, &str); 18] = [
    ("Message", "id", "uuid"),
    ("Message", "created_on", "date-time"),
    ("Message", "reply_to", "uuid"),
    ("Message", "edited_on", "date-time"),
    ("MessageDraft", "reply_to", "uuid"),
    ("EditEvent", "created_on", "date-time"),
    ("EditEvent", "edited_on", "date-time"),
    ("EditEvent", "target", "uuid"),
    ("DeleteEvent", "created_on", "date-time"),
    ("DeleteEvent", "target", "uuid"),
    ("ReactionEvent", "created_on", "date-time"),
    ("ReactionEvent", "target", "uuid"),
    ("MemberEvent", "created_on", "date-time"),
    ("RoomChangeEvent", "created_on", "date-time"),
    ("Notifications", "until", "date-time"),
    ("NotifySetting", "until", "date-time"),
    ("Registration", "password", "password"),
    ("Credentials", "password", "password"),
];

/// Most items of lists: schema, field, items. Pages are bounded by the largest `limit` of their call.
const MOST_ITEMS: [(&str, &str, usize); 12] = [
    ("SearchResults", "data", 100),
    ("UserList", "data", 1_000),
    ("RoomList", "data", 1_000),
    ("UserRoomList", "data", 1_000),
    ("Message", "mentions", MessageExtra::MAX_MENTIONS),
    ("Message", "reactions", MessageExtra::MAX_REACTIONS),
    ("MessageDraft", "mentions", MessageExtra::MAX_MENTIONS),
    ("SyncAnswer", "rooms", 100),
    ("SyncAnswer", "gone", GONE_AT_MOST),
    ("SyncRoom", "entries", 100),
    ("Problem", "errors", 16),
    ("Problem", "reasons", 16),
];

/// Most items of responses that are arrays themselves: arrays of strings are names of members, the others messages.
const MOST_NAMES: usize = 1_000;
const MOST_MESSAGES: usize = 100;

/// Most rooms of an event.
const MOST_ROOMS: usize = 50;

/// Fields that may be left out, and be `null` for it: schema, field.
const NULLABLE: [(&str, &str); 5] = [
    ("Registration", "public_id"),
    ("RoomOptions", "private"),
    ("MessageDraft", "reply_to"),
    ("MessageDraft", "mentions"),
    ("NotifySetting", "until"),
];

/// Completes the schemas of a gateway that accepts passwords of `password_min` characters or more.
pub(super) fn complete(schemas: &mut Value, password_min: u16) {
    let mut registry = Registry::new();
    <Problem as Type>::register(&mut registry);
    <EditEvent as Type>::register(&mut registry);
    <DeleteEvent as Type>::register(&mut registry);
    <ReactionEvent as Type>::register(&mut registry);
    <MemberEvent as Type>::register(&mut registry);
    <RoomChangeEvent as Type>::register(&mut registry);
    <UserRoom as Type>::register(&mut registry);
    for (name, schema) in registry.schemas {
        if let Ok(schema) = serde_json::to_value(&schema) {
            schemas[name] = schema;
        }
    }
    for (schema, field, format) in FORMATS {
        schemas[schema]["properties"][field]["format"] = json!(format);
    }
    for (schema, field, pattern) in PATTERNS {
        schemas[schema]["properties"][field]["pattern"] = json!(pattern);
    }
    schemas["ReadMark"]["properties"]["seq"]["minimum"] = json!(0);
    for (schema, field) in NULLABLE {
        schemas[schema]["properties"][field]["nullable"] = json!(true);
    }
    // The body of its only operation may be left out.
    schemas["RoomOptions"]["nullable"] = json!(true);
    for (schema, field, most) in MOST_ITEMS {
        schemas[schema]["properties"][field]["maxItems"] = json!(most);
    }
    let password = &mut schemas["Registration"]["properties"]["password"];
    password["minLength"] = json!(password_min);
    password["maxLength"] = json!(passwords::MAX_LENGTH);
    let example = example_password(usize::from(password_min));
    schemas["Registration"]["example"]["password"] = json!(example);
    schemas["Credentials"]["example"]["password"] = json!(example);
    for (name, event) in events() {
        schemas[name] = event;
    }
    // It is a part of other schemas, and none by itself.
    let state = schemas.as_object_mut().and_then(|schemas| schemas.shift_remove("UserRoomState"));
    schemas["RoomUpdate"] = room_update(state.unwrap_or_default());
    schemas["SyncEntry"]["properties"]["data"]["type"] = json!("object");
    for schema in schemas.as_object_mut().into_iter().flat_map(Map::values_mut) {
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
        properties.into_iter().flat_map(Map::values_mut).for_each(normalize);
    }
}

/// The example of the original specification where it is long enough, else one that is not a common password.
fn example_password(min: usize) -> String {
    let short = "test1";
    if min <= short.len() {
        return short.to_owned();
    }
    let long = "a quiet harbour at dawn ";
    long.chars().cycle().take(min.max(long.len() - 1)).collect()
}

/// Replaces what the framework writes in a form of its own.
fn normalize(property: &mut Value) {
    // No format of the standard; its numbers fit into this one.
    if property["format"] == "uint32" {
        property["format"] = json!("int64");
        property["minimum"] = json!(0);
    }
    // The description is repeated as a schema of its own.
    if let Some(parts) = property.get_mut("allOf").and_then(Value::as_array_mut) {
        parts.retain(|part| part.get("$ref").is_some());
    }
}

/// Completes a successful response: bounds of arrays, formats of headers.
pub(super) fn describe_answer(response: &mut Value) {
    let schema = response.pointer_mut("/content/application~1json; charset=utf-8/schema");
    if let Some(schema) = schema.filter(|schema| schema["type"] == "array") {
        let is_names = schema["items"]["type"] == "string";
        schema["maxItems"] = json!(if is_names { MOST_NAMES } else { MOST_MESSAGES });
    }
    let headers = response.get_mut("headers").and_then(Value::as_object_mut);
    for (name, header) in headers.into_iter().flatten() {
        // The framework writes it for each, and tools warn of it.
        header.as_object_mut().map(|header| header.shift_remove("deprecated"));
        if name == "MESSAGE-ID" || name == "Message-Id" {
            header["schema"]["format"] = json!("uuid");
        }
    }
}

/// The parameter with which a client says which copy it has. The edge reads it, not the handler.
pub(super) fn if_none_match() -> Value {
    json!({
        "name": "If-None-Match",
        "in": "header",
        "description": "The `ETag` of the copy that you have.",
        "required": false,
        "schema": {"type": "string"},
    })
}

/// A room of an event: its state, or its name alone if it is gone. One flat object, since tools read unions in different ways.
fn room_update(mut update: Value) -> Value {
    update["title"] = json!("RoomUpdate");
    update["description"] = json!("What a room is to you now.");
    update["required"] = json!(["name"]);
    let gone = "True if it is no longer yours: then nothing but the name is there.";
    update["properties"]["gone"] = json!({"type": "boolean", "description": gone});
    update
}

/// What the named events of a stream carry.
#[expect(clippy::too_many_lines, reason = "it is one table")]
fn events() -> [(&'static str, Value); 10] {
    let seq =
        |description: &str| json!({"type": "integer", "format": "int64", "minimum": 0, "description": description});
    let time = json!({"type": "string", "format": "date-time", "description": "The server's clock."});
    let event = |description: &str, required: &[&str], properties: Value| {
        json!({
            "type": "object",
            "description": description,
            "required": required,
            "properties": properties,
        })
    };
    let name = json!({"type": "string", "description": "Name of the room."});
    let list = |description: &str, item: &str| {
        let items = json!({"$ref": format!("#/components/schemas/{item}")});
        json!({"type": "array", "description": description, "maxItems": MOST_ROOMS, "items": items})
    };
    [
        (
            "UserReadyEvent",
            event(
                "Data of the event `ready` on the stream of all your rooms: it is open.",
                &["session", "recovered", "heartbeat_s", "server_time", "rooms"],
                json!({
                    "session": {"type": "string", "description": "Id of the session that opened it."},
                    "recovered": {"type": "boolean", "description": "The stream goes on from your own cursor."},
                    "heartbeat_s": seq("Seconds of silence after which a `ping` comes."),
                    "server_time": time,
                    "rooms": list("The rooms that changed since; if there are many, others follow in `rooms`.", "RoomUpdate"),
                }),
            ),
        ),
        (
            "RoomsEvent",
            event(
                "Data of the event `rooms`: what rooms are to you now.",
                &["rooms"],
                json!({"rooms": list("The rooms that are new, gone or another thing to you.", "RoomUpdate")}),
            ),
        ),
        (
            "ReadEvent",
            event(
                "Data of the event `read`: you have read further, on whatever device.",
                &["name", "read_seq", "counted_upto", "unread", "mentions"],
                json!({
                    "name": name,
                    "read_seq": seq("Number of the last entry that you have read."),
                    "counted_upto": seq("Last seq of the room when `unread` and `mentions` were counted."),
                    "unread": seq("Messages of others behind it."),
                    "mentions": seq("Those of them that mention you."),
                }),
            ),
        ),
        (
            "TypingEvent",
            event(
                "Data of the event `typing`: somebody types in a room, or stopped. Forget it after 8 seconds.",
                &["name", "username", "typing"],
                json!({
                    "name": name,
                    "username": {"type": "string", "description": "Name of the user."},
                    "typing": {"type": "boolean", "description": "Whether they are typing."},
                }),
            ),
        ),
        (
            "PresenceEvent",
            event(
                "Data of the event `presence`: who of those you share a direct room with came or went. Who is not mentioned since the stream was \
                    opened is not there. It comes only if the server is told to, and at most every 30 seconds.",
                &["users"],
                json!({
                    "users": {
                        "type": "array",
                        "description": "Those who came or went.",
                        "items": {
                            "type": "object",
                            "required": ["username", "online"],
                            "properties": {
                                "username": {"type": "string", "description": "Name of the user."},
                                "online": {"type": "boolean", "description": "Whether they are there."},
                            },
                        },
                    },
                }),
            ),
        ),
        (
            "UserResetEvent",
            event(
                "Data of the event `reset` on the stream of all your rooms: what you have of these is outdated.",
                &["reason", "rooms"],
                json!({
                    "reason": {"type": "string", "description": "`malformed`, `foreign`, `ahead`, `too_many` or `history_damaged`; more may come."},
                    "rooms": {
                        "type": "array",
                        "description": "The rooms that it concerns.",
                        "items": {
                            "type": "object",
                            "required": ["name", "head"],
                            "properties": {"name": name, "head": seq("Last seq of the room, from which the stream goes on.")},
                        },
                    },
                }),
            ),
        ),
        (
            "ReadyEvent",
            event(
                "Data of the event `ready`: the stream is open.",
                &["room", "head", "recovered", "missed", "heartbeat_s", "server_time"],
                json!({
                    "room": {"type": "string", "description": "Name of the room."},
                    "head": seq("Last seq of the room."),
                    "recovered": {"type": "boolean", "description": "The stream goes on from your own cursor."},
                    "missed": seq("Entries that follow now because you missed them."),
                    "heartbeat_s": seq("Seconds of silence after which a `ping` comes."),
                    "server_time": time,
                }),
            ),
        ),
        (
            "ResetEvent",
            event(
                "Data of the event `reset`: your cursor was of no use, load history anew.",
                &["reason", "head"],
                json!({
                    "reason": {"type": "string", "description": "`malformed`, `foreign`, `ahead`, `too_many` or `history_damaged`; more may come."},
                    "head": seq("Last seq of the room, from which the stream goes on."),
                }),
            ),
        ),
        (
            "PingEvent",
            event(
                "Data of the event `ping`: the stream is silent and alive.",
                &["server_time"],
                json!({"server_time": time}),
            ),
        ),
        (
            "ByeEvent",
            event(
                "Data of the event `bye`: the server ends the stream.",
                &["reason"],
                json!({
                    "reason": {
                        "type": "string",
                        "description": "`token_expired`, `revoked`, `removed`, `history_changed`, `replaced`, `too_many`, `shutdown`, `max_age` or `bounded`; more may come.",
                    },
                    "retry_ms": {
                        "type": "integer",
                        "format": "int64",
                        "minimum": 0,
                        "description": "Milliseconds to wait before reconnecting; absent where reconnecting is of no use.",
                    },
                }),
            ),
        ),
    ]
}
