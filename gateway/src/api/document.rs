//! The OpenAPI document: completes what the framework generates.
//!
//! It adds the version of the standard, the server, both spellings of the token, the errors of each operation, limits and
//! examples, the events of a stream, and the order in which a tester needs the calls. A test compares it with `openapi.json`
//! beside this crate.

mod patterns;
mod responses;
mod schemas;

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use shared::domain::{Email, IdempotencyKey, MessageText, PublicId, RoomName, Username};

use self::patterns::NAME;
use self::responses::Responses;
use crate::auth::passwords;
use crate::live::ClientName;

/// Tags in the order in which a tester needs their calls; the framework sorts them by name.
const TAGS: [&str; 7] = ["Sign up", "Sign in", "Rooms", "Messages", "Stream", "Leave", "Service"];

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

const WITH_PATH_PARAMETER: Errors = &[(400, &["invalid_field"])];
const ANY: Errors = &[
    (400, &["malformed_request"]),
    (429, &["too_many_connections", "too_much_in_flight"]),
    (431, &["headers_too_large"]),
    (500, &["internal"]),
    (501, &["unknown_transfer_coding"]),
    (503, &["unavailable", "busy"]),
];
const WITH_TOKEN: Errors = &[(401, &["unauthorized", "token_expired", "session_revoked"])];
const WITH_BODY: Errors = &[
    (400, &["invalid_body"]),
    (408, &["body_timeout"]),
    (413, &["payload_too_large"]),
    (415, &["unsupported_media_type", "unsupported_encoding"]),
];

/// The errors of an operation, in addition to those of any operation.
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
        "createRoom" => &[
            (400, &["invalid_field"]),
            (409, &["room_exists", "room_name_reserved"]),
            (429, &["rate_limited", "too_many_rooms"]),
        ],
        "listRooms" => &[(400, &["invalid_field"])],
        "listMembers" => &[(400, &["invalid_field"]), (404, &["room_not_found"])],
        "readHistory" => &[
            (400, &["invalid_field"]),
            (404, &["room_not_found"]),
            (429, &["too_many_reads"]),
        ],
        "getRoom" => &[(404, &["room_not_found"])],
        "joinRoom" | "leaveRoom" => &[(404, &["room_not_found"]), (429, &["rate_limited"])],
        "deleteRoom" => &[(403, &["forbidden"]), (404, &["room_not_found"])],
        "postMessage" => &[
            (400, &["invalid_field"]),
            (404, &["room_not_found", "room_deleted"]),
            (409, &["room_replaced"]),
            (422, &["idempotency_key_reused"]),
            (429, &["rate_limited"]),
            (503, &["outcome_unknown"]),
        ],
        "checkReady" => &[(503, &["not_ready"])],
        "followRoom" => &[
            (400, &["invalid_field"]),
            (404, &["room_not_found"]),
            (409, &["room_replaced"]),
            (429, &["rate_limited", "too_many_streams"]),
        ],
        _ => &[],
    };
    vec![own, ANY]
}

/// Limits of fields: schema, field, shortest, longest (characters).
const LENGTHS: [(&str, &str, usize, usize); 7] = [
    ("Registration", "email", 1, Email::MAX_LEN),
    ("Registration", "username", 1, Username::MAX_LEN),
    ("Registration", "public_id", 1, PublicId::MAX_LEN),
    ("Credentials", "email", 1, Email::MAX_LEN),
    ("Credentials", "password", 1, passwords::MAX_LENGTH),
    ("MessageDraft", "message", 1, MessageText::MAX_LEN),
    ("Message", "message", 1, MessageText::MAX_LEN),
];

const ABOUT: &str = "A real-time chat backend. Register, create a room, follow it in one window and post in another.\n\n\
    Send the token of register or login in the header `Authorization`, as it is or behind `Bearer `. Every error has the \
    shape `Problem`; programs test its `code`. Clients must ignore fields, event names and values they do not know.";

/// Completes the generated document for a gateway that accepts passwords of `password_min` characters or more, and writes it
/// out.
#[must_use]
pub fn finish(generated: &str, password_min: u16) -> String {
    let Generated { paths, mut rest } =
        serde_json::from_str(generated).expect("the framework writes its document as JSON");
    let mut components = rest.shift_remove("components").unwrap_or_default();
    let mut tags = rest.shift_remove("tags").unwrap_or_default();
    if let Some(tags) = tags.as_array_mut() {
        tags.sort_by_key(|tag| TAGS.iter().position(|name| tag["name"] == *name));
    }
    let mut document = Value::Object(rest);
    document["openapi"] = json!("3.0.3");
    document["info"]["description"] = json!(ABOUT);
    document["info"]["contact"] = json!({"name": "The operator of this installation"});
    document["info"]["license"] = json!({"name": "MIT", "url": "https://opensource.org/license/mit"});
    document["servers"] = json!([{"url": "/", "description": "This gateway."}]);
    document["tags"] = tags;
    document["paths"] = order(paths.0);
    let mut responses = Responses::default();
    each_operation(&mut document, |operation| complete(operation, &mut responses));
    components["responses"] = responses.into_components();
    components["securitySchemes"]["bearer"] = json!({
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The same token behind `Bearer `, as most HTTP clients send it.",
    });
    let schemas = &mut components["schemas"];
    schemas::complete(schemas, password_min);
    for (schema, field, min, max) in LENGTHS {
        let property = &mut schemas[schema]["properties"][field];
        property["minLength"] = json!(min);
        property["maxLength"] = json!(max);
    }
    schemas["RoomOptions"]["properties"]["private"]["default"] = json!(false);
    document["components"] = components;
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

fn complete(operation: &mut Value, shared: &mut Responses) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let mut groups = errors_of(&id);
    if operation.get("security").is_some() {
        groups.push(WITH_TOKEN);
        operation["security"] = json!([{"token": []}, {"bearer": []}]);
    } else {
        operation["security"] = json!([]);
    }
    if operation.get("requestBody").is_some() {
        groups.push(WITH_BODY);
    }
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        describe_parameter(&id, parameter);
        if parameter["in"] == "path" {
            groups.push(WITH_PATH_PARAMETER);
        }
    }
    if id == "readHistory" {
        operation["responses"]["304"] = json!({"description": "The page is still what `If-None-Match` names."});
        if let Some(parameters) = operation["parameters"].as_array_mut() {
            parameters.push(schemas::if_none_match());
        }
    }
    let mut by_status: Vec<(u16, Vec<&str>)> = Vec::new();
    for (status, codes) in groups.into_iter().flatten() {
        match by_status.iter_mut().find(|(known, _)| known == status) {
            Some((_, known)) => {
                let new: Vec<&str> = codes.iter().filter(|code| !known.contains(code)).copied().collect();
                known.extend(new);
            }
            None => by_status.push((*status, codes.to_vec())),
        }
    }
    by_status.sort_unstable_by_key(|(status, _)| *status);
    for (status, codes) in by_status {
        operation["responses"][status.to_string()] = shared.refer(status, &codes);
    }
    for response in operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        schemas::describe_answer(response);
    }
}

fn describe_parameter(operation: &str, parameter: &mut Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    // The framework writes it by default, and tools warn of it.
    parameter.as_object_mut().map(|parameter| parameter.shift_remove("deprecated"));
    let schema = &mut parameter["schema"];
    match (operation, name.as_str()) {
        (_, "room") => bound(schema, RoomName::MAX_LEN, NAME),
        (_, "public_id") => bound(schema, PublicId::MAX_LEN, NAME),
        (_, "Idempotency-Key") => bound(schema, IdempotencyKey::MAX_LEN, "^[!-~]+$"),
        ("followRoom", "client") => bound(schema, ClientName::MAX_LEN, "^[A-Za-z0-9_-]+$"),
        ("followRoom", "limit") => range(schema, 1, 10_000),
        ("followRoom", "wait_s") => range(schema, 1, 300),
        ("followRoom", "max_replay") => range(schema, 0, 1_000_000_000),
        ("readHistory", "limit") => range(schema, 1, 100),
        (_, "limit") => range(schema, 1, 1_000),
        (_, "before" | "after") if schema["type"] == "integer" => schema["minimum"] = json!(0),
        ("listRooms", "after") => position(schema, RoomName::MAX_LEN),
        ("listMembers", "after") => position(schema, Username::MAX_LEN),
        ("listUsers", "after") => position(schema, PublicId::MAX_LEN),
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

/// A position in a list, behind which the list begins.
fn position(schema: &mut Value, max: usize) {
    schema["maxLength"] = json!(max);
    schema["pattern"] = json!("^[^\\u0000]*$");
}

fn range(schema: &mut Value, min: u32, max: u32) {
    schema["minimum"] = json!(min);
    schema["maximum"] = json!(max);
}

#[cfg(test)]
mod tests;
