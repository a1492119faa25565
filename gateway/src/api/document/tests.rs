use super::paths::PATHS;
use super::*;

#[test]
fn the_document_in_the_repository_is_current() {
    let kept = include_str!("../../../openapi.json");
    assert!(kept == crate::api::document(), "run `make openapi` and look at the difference");
}

#[test]
fn every_operation_has_an_id_a_position_and_errors() {
    let mut document: Value = serde_json::from_str(&crate::api::document()).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(PATHS.contains(&path.as_str()), "{path} has no position");
    }
    each_operation(&mut document, |operation| {
        let id = operation["operationId"].as_str().unwrap();
        assert!(id.chars().all(|c| c.is_ascii_alphabetic()), "{id}");
        assert!(operation["responses"]["500"].is_object(), "{id}");
        assert!(!operation["tags"][0].as_str().unwrap().is_empty(), "{id}");
    });
}

/// A schema `NewX` beside `X` breaks Go, whose constructors are called so; a tag that begins with a digit breaks Python.
#[test]
fn generators_can_use_the_names() {
    let document: Value = serde_json::from_str(&crate::api::document()).unwrap();
    let is_word = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in schemas.keys().chain(document["components"]["responses"].as_object().unwrap().keys()) {
        assert!(is_word(name), "{name}");
        let rest = name.strip_prefix("New").unwrap_or_default();
        assert!(!schemas.contains_key(rest), "{name} beside {rest}");
    }
    let tags = document["tags"].as_array().unwrap();
    assert_eq!(tags.iter().map(|tag| tag["name"].as_str().unwrap()).collect::<Vec<_>>(), TAGS);
    for tag in tags {
        assert!(is_word(&tag["name"].as_str().unwrap().replace(' ', "")), "{tag}");
    }
}

#[test]
fn documented_passwords_are_those_the_gateway_accepts() {
    for min in [1, 4, 8, 128] {
        let document: Value = serde_json::from_str(&crate::api::document_with(min)).unwrap();
        let registration = &document["components"]["schemas"]["Registration"];
        assert_eq!(registration["properties"]["password"]["minLength"], min);
        let example = registration["example"]["password"].as_str().unwrap();
        assert!((usize::from(min)..=passwords::MAX_LENGTH).contains(&example.len()), "{example}");
        assert_eq!(document["components"]["schemas"]["Credentials"]["example"]["password"], example);
    }
}

#[test]
fn operations_are_described_and_references_resolve() {
    let mut document: Value = serde_json::from_str(&crate::api::document()).unwrap();
    let text = document.to_string();
    for reference in text.split("\"#/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(&format!("/{reference}")).is_some(), "{reference}");
    }
    each_operation(&mut document, |operation| {
        let id = operation["operationId"].as_str().unwrap();
        assert!(operation["description"].as_str().is_some_and(|text| !text.is_empty()), "{id}");
        assert!(operation["security"].is_array(), "{id}");
    });
}
