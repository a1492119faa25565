//! The OpenAPI document: what the framework generates, made complete.
//!
//! Added here: the version of the standard, the errors of each operation, limits and examples, the events of a stream,
//! and the order in which a tester needs the calls. `openapi.json` beside this crate is compared with it by a test.

use std::collections::HashMap;
use std::fmt;

use poem::http::HeaderValue;
use poem_openapi::registry::Registry;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use shared::domain::{Email, IdempotencyKey, MessageText, PublicId, RoomName, Username};

use super::models::Problem;
use crate::auth::passwords;

/// Paths in the order in which their operations should be tried.
const PATHS: [&str; 13] = [
    "/user",
    "/user/{public_id}",
    "/auth/login",
    "/chat/{room}/message",
    "/chat/{room}/messagehistory",
    "/chat/{room}",
    "/chat",
    "/chat/{room}/users",
    "/chat/{room}/join",
    "/auth/logout",
    "/info",
    "/health/live",
    "/health/ready",
];

/// Methods of a path in the order in which they should be tried.
const METHODS: [&str; 3] = ["post", "get", "delete"];

/// Codes by status.
type Errors = &'static [(u16, &'static [&'static str])];

const ANY: Errors = &[
    (400, &["malformed_request"]),
    (429, &["too_many_connections", "too_much_in_flight"]),
    (500, &["internal"]),
    (501, &["unknown_transfer_coding"]),
    (503, &["unavailable", "busy"]),
];
const WITH_TOKEN: Errors = &[(401, &["unauthorized", "token_expired", "session_revoked"])];
const WITH_BODY: Errors = &[
    (400, &["invalid_body"]),
    (408, &["body_timeout"]),
    (413, &["payload_too_large"]),
    (415, &["unsupported_media_type"]),
];

/// What can go wrong with an operation, besides what can go wrong with any.
fn errors_of(operation: &str) -> Vec<Errors> {
    let own: Errors = match operation {
        "registerUser" => &[
            (400, &["invalid_field"]),
            (409, &["email_taken", "username_taken", "public_id_taken"]),
            (429, &["rate_limited"]),
        ],
        "listUsers" => &[(400, &["invalid_field"]), (403, &["forbidden"])],
        "getUser" => &[(404, &["user_not_found"])],
        "logIn" => &[(401, &["invalid_credentials"]), (429, &["rate_limited"])],
        "createRoom" => &[(400, &["invalid_field"]), (409, &["room_exists", "room_name_reserved"])],
        "listRooms" => &[(400, &["invalid_field"])],
        "listMembers" => &[(400, &["invalid_field"]), (404, &["room_not_found"])],
        "readHistory" => &[
            (400, &["invalid_field"]),
            (404, &["room_not_found"]),
            (429, &["too_many_reads"]),
        ],
        "getRoom" | "joinRoom" | "leaveRoom" => &[(404, &["room_not_found"])],
        "deleteRoom" => &[(403, &["forbidden"]), (404, &["room_not_found"])],
        "postMessage" => &[
            (400, &["invalid_field"]),
            (404, &["room_not_found", "room_deleted"]),
            (409, &["room_replaced"]),
            (422, &["idempotency_key_reused"]),
            (429, &["rate_limited"]),
            (503, &["outcome_unknown"]),
        ],
        "followRoom" => &[
            (400, &["invalid_field"]),
            (404, &["room_not_found"]),
            (409, &["room_replaced"]),
            (429, &["too_many_streams"]),
        ],
        _ => &[],
    };
    vec![own, ANY]
}

/// Limits of fields: schema, field, shortest, longest (characters).
const LENGTHS: [(&str, &str, usize, usize); 8] = [
    ("NewUser", "email", 1, Email::MAX_LEN),
    ("NewUser", "username", 1, Username::MAX_LEN),
    ("NewUser", "password", 1, passwords::MAX_LENGTH),
    ("NewUser", "public_id", 1, PublicId::MAX_LEN),
    ("Credentials", "email", 1, Email::MAX_LEN),
    ("Credentials", "password", 1, passwords::MAX_LENGTH),
    ("NewMessage", "message", 1, MessageText::MAX_LEN),
    ("Message", "message", 1, MessageText::MAX_LEN),
];

const ABOUT: &str = "A real-time chat backend. Register, create a room, follow it in one window and post in another.\n\n\
    Send the token of register or login in the header `Authorization`, as it is or behind `Bearer `. Every error has the \
    shape `Problem`; programs test its `code`. Clients must ignore fields, event names and values they do not know.";

const NAME: &str = "^[A-Za-z0-9._-]+$";

/// Completes the generated document and writes it out.
#[must_use]
pub fn finish(generated: &str) -> String {
    let Generated { paths, rest } = serde_json::from_str(generated).expect("the framework writes its document as JSON");
    let mut document = Value::Object(rest);
    document["openapi"] = json!("3.0.3");
    document["info"]["description"] = json!(ABOUT);
    document["info"]["license"] = json!({"name": "MIT"});
    if let Some(root) = document.as_object_mut() {
        root.shift_remove("servers");
    }
    document["paths"] = order(paths.0);
    each_operation(&mut document, complete);
    let schemas = &mut document["components"]["schemas"];
    add_schemas(schemas);
    for (schema, field, min, max) in LENGTHS {
        let property = &mut schemas[schema]["properties"][field];
        property["minLength"] = json!(min);
        property["maxLength"] = json!(max);
    }
    schemas["NewUser"]["properties"]["public_id"]["pattern"] = json!(NAME);
    schemas["NewRoom"]["properties"]["private"]["default"] = json!(false);
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    // The framework names this media type with a charset, which JSON does not have (RFC 8259, section 11).
    text = text.replace("application/json; charset=utf-8", "application/json");
    text.push('\n');
    text
}

/// The document as the framework writes it.
#[derive(Deserialize)]
struct Generated {
    paths: Paths,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The operations by path. The framework repeats a path for each of our modules that serves some of its methods; a
/// plain JSON map would keep the last of them only.
struct Paths(Map<String, Value>);

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Merge;

        impl<'de> Visitor<'de> for Merge {
            type Value = Paths;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("operations by path")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Paths, A::Error> {
                let mut paths = Map::new();
                while let Some((path, methods)) = map.next_entry::<String, Map<String, Value>>()? {
                    let known = paths.entry(path).or_insert_with(|| Value::Object(Map::new()));
                    known.as_object_mut().into_iter().for_each(|known| known.extend(methods.clone()));
                }
                Ok(Paths(paths))
            }
        }

        deserializer.deserialize_map(Merge)
    }
}

fn order(mut paths: Map<String, Value>) -> Value {
    let mut ordered = Map::new();
    for path in PATHS {
        if let Some(Value::Object(mut methods)) = paths.shift_remove(path) {
            let known = METHODS.iter().filter_map(|method| methods.shift_remove_entry(*method));
            ordered.insert(path.to_owned(), Value::Object(known.collect()));
        }
    }
    ordered.extend(paths);
    Value::Object(ordered)
}

fn each_operation(document: &mut Value, mut change: impl FnMut(&mut Value)) {
    let paths = document["paths"].as_object_mut();
    for methods in paths.into_iter().flat_map(Map::values_mut) {
        for operation in methods.as_object_mut().into_iter().flat_map(Map::values_mut) {
            change(operation);
        }
    }
}

fn complete(operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let mut groups = errors_of(&id);
    if operation.get("security").is_some() {
        groups.push(WITH_TOKEN);
    }
    if operation.get("requestBody").is_some() {
        groups.push(WITH_BODY);
    }
    let mut by_status: Vec<(u16, Vec<&str>)> = Vec::new();
    for (status, codes) in groups.into_iter().flatten() {
        match by_status.iter_mut().find(|(known, _)| known == status) {
            Some((_, known)) => known.extend(*codes),
            None => by_status.push((*status, codes.to_vec())),
        }
    }
    by_status.sort_unstable_by_key(|(status, _)| *status);
    for (status, codes) in by_status {
        operation["responses"][status.to_string()] = error_response(status, &codes);
    }
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        describe_parameter(&id, parameter);
    }
}

fn error_response(status: u16, codes: &[&str]) -> Value {
    let codes: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let mut response = json!({
        "description": codes.join(", "),
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    });
    let header = match status {
        401 => Some(("WWW-Authenticate", "string", "How to authenticate.")),
        429 | 503 => Some(("Retry-After", "integer", "Seconds until it is worth trying again.")),
        _ => None,
    };
    if let Some((name, kind, description)) = header {
        response["headers"][name] = json!({"description": description, "schema": {"type": kind}});
    }
    response
}

fn describe_parameter(operation: &str, parameter: &mut Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    // The framework says so by default, and tools take it for something to be warned of.
    parameter.as_object_mut().map(|parameter| parameter.shift_remove("deprecated"));
    let schema = &mut parameter["schema"];
    match (operation, name.as_str()) {
        (_, "room") => bound(schema, RoomName::MAX_LEN, NAME),
        (_, "public_id") => bound(schema, PublicId::MAX_LEN, NAME),
        (_, "Idempotency-Key") => bound(schema, IdempotencyKey::MAX_LEN, "^[!-~]+$"),
        ("followRoom", "limit") => range(schema, 1, 10_000),
        ("followRoom", "wait_s") => range(schema, 1, 300),
        ("followRoom", "max_replay") => range(schema, 0, 1_000_000_000),
        ("readHistory", "limit") => range(schema, 1, 100),
        (_, "limit") => range(schema, 1, 1_000),
        (_, "before" | "after") if schema["type"] == "integer" => schema["minimum"] = json!(0),
        _ => {}
    }
    let example = match (operation, name.as_str()) {
        (_, "room") => json!("testchat1"),
        (_, "public_id") => json!("test1"),
        ("followRoom", "limit") => json!(3),
        ("followRoom", "wait_s") => json!(5),
        _ => return,
    };
    parameter["example"] = example;
}

fn bound(schema: &mut Value, max: usize, pattern: &str) {
    schema["minLength"] = json!(1);
    schema["maxLength"] = json!(max);
    schema["pattern"] = json!(pattern);
}

fn range(schema: &mut Value, min: u32, max: u32) {
    schema["minimum"] = json!(min);
    schema["maximum"] = json!(max);
}

/// Schemas that no operation names by itself: the error shape, and what the named events of a stream carry.
fn add_schemas(schemas: &mut Value) {
    let mut registry = Registry::new();
    <Problem as poem_openapi::types::Type>::register(&mut registry);
    for (name, schema) in registry.schemas {
        if let Ok(schema) = serde_json::to_value(&schema) {
            schemas[name] = schema;
        }
    }
    schemas["StreamEvent"] = json!({
        "type": "object",
        "description": "Data of the named events of a stream; which fields are there depends on the event. \
            Events without a name carry a `Message`.",
        "properties": {
            "room": {"type": "string", "description": "`ready`: name of the room."},
            "head": {"type": "integer", "format": "int64", "description": "`ready`, `reset`: last seq of the room."},
            "recovered": {"type": "boolean", "description": "`ready`: the stream goes on from your own cursor."},
            "missed": {"type": "integer", "format": "int64", "description": "`ready`: messages that follow now because you missed them."},
            "heartbeat_s": {"type": "integer", "description": "`ready`: seconds of silence after which a `ping` comes."},
            "server_time": {"type": "string", "description": "`ready`, `ping`: the server's clock."},
            "reason": {"type": "string", "description": "`reset`: `malformed`, `foreign_epoch`, `ahead`, `too_many` or `history_damaged`. \
                `bye`: `token_expired`, `revoked`, `removed`, `history_changed`, `shutdown`, \
                `max_age` or `bounded`."},
            "retry_ms": {"type": "integer", "description": "`bye`: milliseconds to wait before coming back; absent where that is of no use."},
        },
    });
}

/// Which methods each path takes, for the header `Allow`.
pub struct Methods(HashMap<Vec<String>, String>);

impl Methods {
    /// Reads the methods of every path of the document.
    #[must_use]
    pub fn of(document: &str) -> Self {
        let document: Value = serde_json::from_str(document).unwrap_or_default();
        let paths = document["paths"].as_object().cloned().unwrap_or_default();
        let own = [
            ("/".to_owned(), "GET".to_owned()),
            ("/openapi.json".to_owned(), "GET".to_owned()),
        ];
        let described = paths.into_iter().map(|(path, methods)| {
            let methods: Vec<String> =
                methods.as_object().into_iter().flat_map(Map::keys).map(|m| m.to_uppercase()).collect();
            (path, methods.join(", "))
        });
        Self(described.chain(own).map(|(path, methods)| (segments(&path), methods)).collect())
    }

    /// The methods of the template that `path` fits.
    #[must_use]
    pub fn allowed_at(&self, path: &str) -> Option<HeaderValue> {
        let path = segments(path);
        let fits = |template: &[String]| {
            template.len() == path.len() && template.iter().zip(&path).all(|(t, p)| t == p || t.starts_with('{'))
        };
        let (_, methods) = self.0.iter().find(|(template, _)| fits(template))?;
        HeaderValue::from_str(methods).ok()
    }
}

/// The framework's trait `Type` must not be in scope here: it has an `is_empty` that is always false for `&str`.
fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_in_the_repository_is_the_one_that_is_served() {
        let kept = include_str!("../../openapi.json");
        assert!(kept == crate::api::document(), "run `make openapi` and look at the difference");
    }

    #[test]
    fn every_operation_has_an_id_a_place_and_errors() {
        let mut document: Value = serde_json::from_str(&crate::api::document()).unwrap();
        for path in document["paths"].as_object().unwrap().keys() {
            assert!(PATHS.contains(&path.as_str()), "{path} has no place");
        }
        each_operation(&mut document, |operation| {
            let id = operation["operationId"].as_str().unwrap();
            assert!(id.chars().all(|c| c.is_ascii_alphabetic()), "{id}");
            assert!(operation["responses"]["500"].is_object(), "{id}");
            assert!(!operation["tags"][0].as_str().unwrap().is_empty(), "{id}");
        });
    }

    #[test]
    fn allow_names_the_methods_of_the_template() {
        let methods = Methods::of(&crate::api::document());
        assert_eq!(methods.allowed_at("/chat/lobby/message/").unwrap(), "POST, GET, DELETE");
        assert_eq!(methods.allowed_at("/").unwrap(), "GET");
        assert_eq!(methods.allowed_at("/nowhere/at/all"), None);
    }
}
