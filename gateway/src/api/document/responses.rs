//! Error responses of the OpenAPI document, each described once for all operations that have it.

use serde_json::{Map, Value, json};

use crate::api::error::ApiError;

/// The request id of every example.
const REQUEST_ID: &str = "01a20ab1-49a0-708d-8bf6-055e5f5df19a";

/// The responses that operations refer to.
#[derive(Debug, Default)]
pub(super) struct Responses(Map<String, Value>);

impl Responses {
    /// A reference to the response with one of these codes.
    pub(super) fn refer(&mut self, status: u16, codes: &[&str]) -> Value {
        let name = codes.iter().map(|code| camel_case(code)).collect::<Vec<_>>().join("Or");
        let reference = json!({"$ref": format!("#/components/responses/{name}")});
        self.0.entry(name).or_insert_with(|| describe(status, codes));
        reference
    }

    /// All responses that were referred to, sorted by name.
    pub(super) fn into_components(mut self) -> Value {
        self.0.sort_keys();
        Value::Object(self.0)
    }
}

/// The name of a component: `RoomNotFound` for `room_not_found`.
fn camel_case(code: &str) -> String {
    let capital = |word: &str| word.split_at_checked(1).map(|(first, rest)| first.to_uppercase() + rest);
    code.split('_').filter_map(capital).collect()
}

fn describe(status: u16, codes: &[&str]) -> Value {
    let quoted: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let samples = ApiError::examples();
    let examples: Map<String, Value> = codes
        .iter()
        .filter_map(|code| {
            let sample = samples.iter().find(|sample| sample.code() == *code)?;
            Some(((*code).to_owned(), json!({"value": sample.problem(REQUEST_ID)})))
        })
        .collect();
    let mut response = json!({
        "description": quoted.join(", "),
        "content": {"application/json": {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": examples,
        }},
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_example_of_its_own() {
        let document: Value = serde_json::from_str(&crate::api::document()).unwrap();
        let responses = document["components"]["responses"].as_object().unwrap();
        assert!(responses.len() > 10, "only {} answers", responses.len());
        for response in responses.values() {
            let codes = response["description"].as_str().unwrap().split(", ").map(|code| code.trim_matches('`'));
            for code in codes {
                let example = &response["content"]["application/json"]["examples"][code]["value"];
                assert_eq!(example["code"], code, "see ApiError::examples");
            }
        }
    }
}
