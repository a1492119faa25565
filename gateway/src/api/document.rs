//! The OpenAPI document: completes what the framework generates.
//!
//! It adds the version of the standard, the server, both spellings of the token, the errors of each operation, limits and
//! examples, the events of a stream, and the order in which a tester needs the calls. A test compares it with `openapi.json`
//! beside this crate.

mod errors;
mod parameters;
mod paths;
mod patterns;
mod responses;
mod schemas;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::domain::{Email, MessageText, PublicId, Username};

use self::errors::{WITH_BODY, WITH_PATH_PARAMETER, WITH_TOKEN, errors_of};
use self::paths::Paths;
use self::responses::Responses;
use crate::auth::passwords;

/// Tags in the order in which a tester needs their calls; the framework sorts them by name.
const TAGS: [&str; 7] = ["Sign up", "Sign in", "Rooms", "Messages", "Stream", "Leave", "Service"];

/// Limits of fields: schema, field, shortest, longest (characters).
const LENGTHS: [(&str, &str, usize, usize); 8] = [
    ("Registration", "email", 1, Email::MAX_LEN),
    ("Registration", "username", 1, Username::MAX_LEN),
    ("Registration", "public_id", 1, PublicId::MAX_LEN),
    ("Credentials", "email", 1, Email::MAX_LEN),
    ("Credentials", "password", 1, passwords::MAX_LENGTH),
    ("MessageDraft", "message", 1, MessageText::MAX_LEN),
    ("MessageEdit", "message", 1, MessageText::MAX_LEN),
    ("Message", "message", 0, MessageText::MAX_LEN),
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
    document["paths"] = paths.ordered();
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
        parameters::describe(&id, parameter);
        if parameter["in"] == "path" {
            groups.push(WITH_PATH_PARAMETER);
        }
    }
    if matches!(id.as_str(), "readHistory" | "syncRooms") {
        operation["responses"]["304"] = json!({"description": "It is still what `If-None-Match` names."});
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

#[cfg(test)]
mod tests;
