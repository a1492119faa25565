//! Every route responds to garbage with an error in the one shape of the contract.

use rig::{ApiClient, HttpResponse, Method};
use serde_json::{Value, json};

use crate::fixture::lobby;

/// Path segments that a browser, a proxy or an attacker might send.
const BAD_SEGMENTS: [&str; 8] = [
    "%00",
    "%FF",
    "%C3%28",
    "a%20b",
    "a%2Fb",
    "%F0%9F%A6%80",
    "..%2f..%2fetc",
    "'%20OR%201=1",
];
/// Values that are not a valid integer parameter.
const BAD_VALUES: [&str; 6] = ["x", "-1", "1e9", "99999999999999999999", "%00", "%FF"];

/// Path template, method, operation.
pub(crate) fn operations(document: &Value) -> Vec<(String, Method, Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if let Ok(method) = method.to_uppercase().parse::<Method>()
                && operation.get("responses").is_some()
            {
                operations.push((path.clone(), method, operation.clone()));
            }
        }
    }
    assert!(operations.len() >= 14, "only {} operations in the document", operations.len());
    operations
}

/// The template with every parameter replaced.
pub(crate) fn fill_in(template: &str, value: &str) -> String {
    let mut path = template.to_owned();
    while let (Some(open), Some(close)) = (path.find('{'), path.find('}')) {
        path.replace_range(open..=close, value);
    }
    path
}

fn assert_error(what: &str, response: &HttpResponse) {
    if let Err(failure) = response.expect_error_shape() {
        panic!("{what}: {failure}");
    }
    assert_ne!(response.status(), 500, "{what}: {response}");
    // It shows nothing of the implementation.
    for detail in ["sqlx", "sqlite", ".rs:", "panicked", "SELECT", "INSERT"] {
        assert!(!response.text().contains(detail), "{what}: {response}");
    }
}

/// The same of a response to `operation`, whose status and code must be in the document.
fn assert_documented_error(what: &str, document: &Value, operation: &Value, response: &HttpResponse) {
    assert_error(what, response);
    let reference = operation["responses"][response.status().to_string()]["$ref"].as_str();
    let documented = reference.and_then(|reference| document.pointer(reference.trim_start_matches('#')));
    let codes = documented.map_or("", |documented| documented["description"].as_str().unwrap_or_default());
    let code = response.json().unwrap()["code"].as_str().unwrap_or_default().to_owned();
    assert!(
        codes.split(", ").any(|known| known.trim_matches('`') == code),
        "{what}: {response} is not in {codes:?}"
    );
}

async fn send(client: &ApiClient, method: &Method, path: &str, content_type: &str, body: Vec<u8>) -> HttpResponse {
    let request = client.request(method.clone(), path).header("content-type", content_type).body(body);
    client.send(request).await.unwrap()
}

/// Bodies that are no JSON object, or none that an operation takes.
fn bad_bodies() -> Vec<(&'static str, Vec<u8>)> {
    let json = "application/json";
    vec![
        (json, Vec::new()),
        (json, b"{".to_vec()),
        (json, b"null".to_vec()),
        (json, b"[1,2]".to_vec()),
        (json, b"{\"a\":\xff}".to_vec()),
        (json, [b"[".repeat(8_000), b"]".repeat(8_000)].concat()),
        (json, b"{}".to_vec()),
        (json, b"{\"message\":{}, \"email\":1}".to_vec()),
        (json, vec![b' '; 70_000]),
        ("text/plain", b"{\"message\":\"hello\"}".to_vec()),
        ("application/x-www-form-urlencoded", b"message=hello".to_vec()),
        ("application/xml", b"<message>hello</message>".to_vec()),
        ("multipart/form-data; boundary=x", b"--x--".to_vec()),
        ("not a type", b"{}".to_vec()),
    ]
}

#[tokio::test]
async fn invalid_bodies_get_the_error_shape() {
    let (_stack, ann) = lobby().await;
    let document = ann.get("/openapi.json").await.unwrap().expect(200).unwrap().json().unwrap();
    let mut tried = 0;
    for (template, method, operation) in operations(&document) {
        if operation.get("requestBody").is_none() {
            continue;
        }
        let path = fill_in(&template, "lobby");
        for (content_type, body) in bad_bodies() {
            let what =
                format!("{method} {path} {content_type} {:?}", String::from_utf8_lossy(&body[..body.len().min(30)]));
            let is_huge = body.len() > 64 * 1024;
            let response = send(&ann, &method, &path, content_type, body).await;
            assert_documented_error(&what, &document, &operation, &response);
            assert!(is_huge == (response.status() == 413), "{what}: {response}");
            // A client that does not learn of the close would lose its next request.
            assert!(!is_huge || response.header("connection") == Some("close"), "{what}: {response}");
            if matches!(content_type, "text/plain" | "application/xml") {
                response.expect_error(415, "unsupported_media_type").unwrap();
            }
            tried += 1;
        }
    }
    assert!(tried >= 3 * 14, "only {tried} bodies were tried");
}

#[tokio::test]
async fn bodies_that_are_never_read_are_refused_as_documented() {
    let (_stack, ann) = lobby().await;
    let document = ann.get("/openapi.json").await.unwrap().expect(200).unwrap().json().unwrap();
    for (template, method, operation) in operations(&document) {
        let path = fill_in(&template, "lobby");
        let huge = ann.request(method.clone(), &path).body(vec![b' '; 70_000]);
        let encoded = ann.request(method.clone(), &path).header("content-encoding", "gzip").body("{}");
        for (request, status, code) in [(huge, 413, "payload_too_large"), (encoded, 415, "unsupported_encoding")] {
            let response = ann.send(request).await.unwrap();
            response.expect_error(status, code).unwrap();
            assert_documented_error(&format!("{method} {path} {code}"), &document, &operation, &response);
        }
    }
}

#[tokio::test]
async fn undecodable_path_values_are_named_as_documented() {
    let (_stack, ann) = lobby().await;
    let document = ann.get("/openapi.json").await.unwrap().expect(200).unwrap().json().unwrap();
    // It can be any parameter: a room, a user, a message.
    let decodable = "01a20ab1-49a0-708d-8bf6-055e5f5df19a";
    let mut tried = 0;
    for (template, method, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
        for name in in_path.map(|parameter| parameter["name"].as_str().unwrap()) {
            let path = fill_in(&template.replace(&format!("{{{name}}}"), "%ff"), decodable);
            for slash in ["", "/"] {
                let what = format!("{method} {path}{slash}");
                let request = ann.request(method.clone(), &format!("{path}{slash}")).json(&json!({}));
                let response = ann.send(request).await.unwrap();
                assert_documented_error(&what, &document, &operation, &response);
                let problem = response.expect_error(400, "invalid_field").unwrap();
                assert_eq!(
                    problem["errors"],
                    json!([{"field": name, "code": "invalid", "message": "Must be UTF-8, percent-encoded."}]),
                    "{what}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 40, "only {tried} paths were tried");
}

#[tokio::test]
async fn invalid_paths_and_parameters_get_the_error_shape() {
    let (_stack, ann) = lobby().await;
    let document = ann.get("/openapi.json").await.unwrap().expect(200).unwrap().json().unwrap();
    for (template, method, operation) in operations(&document) {
        let has_body = operation.get("requestBody").is_some();
        if template.contains('{') {
            for segment in BAD_SEGMENTS {
                let path = fill_in(&template, segment);
                let mut request = ann.request(method.clone(), &path);
                if has_body {
                    request = request.json(&json!({"message": "hello"}));
                }
                let response = ann.send(request).await.unwrap();
                assert_documented_error(&format!("{method} {path}"), &document, &operation, &response);
            }
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let numbers = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "query" && parameter["schema"]["type"] == "integer");
        for parameter in numbers {
            for value in BAD_VALUES {
                let path = format!("{}?{}={value}", fill_in(&template, "lobby"), parameter["name"].as_str().unwrap());
                let response = ann.call(method.clone(), &path).await.unwrap();
                assert_documented_error(&format!("{method} {path}"), &document, &operation, &response);
                assert_eq!(response.status(), 400, "{method} {path}: {response}");
            }
        }
    }
}

#[tokio::test]
async fn wrong_methods_get_the_error_shape() {
    let (_stack, ann) = lobby().await;
    let document = ann.get("/openapi.json").await.unwrap().expect(200).unwrap().json().unwrap();
    let operations = operations(&document);
    for (template, _, _) in &operations {
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::TRACE,
        ] {
            if operations.iter().any(|(other, declared, _)| other == template && *declared == method) {
                continue;
            }
            for slash in ["", "/"] {
                let path = fill_in(template, "lobby") + slash;
                let response = ann.call(method.clone(), &path).await.unwrap();
                response.expect_error(405, "method_not_allowed").unwrap();
                let allow = response.header("allow").unwrap().to_uppercase();
                for (_, declared, _) in operations.iter().filter(|(other, _, _)| other == template) {
                    assert!(allow.contains(declared.as_str()), "{method} {path}: {response}");
                }
            }
        }
    }
    for path in ["/", "/openapi.json"] {
        let response = ann.call(Method::POST, path).await.unwrap();
        response.expect_error(405, "method_not_allowed").unwrap();
        assert!(response.header("allow").unwrap().contains("GET"), "{response}");
    }
}

#[tokio::test]
async fn unknown_paths_get_the_error_shape() {
    let (stack, ann) = lobby().await;
    let anyone = stack.client().unwrap();
    for path in [
        "/nowhere",
        "/chat/lobby/nowhere",
        "/user/ann/x",
        "/auth",
        "/.env",
        "/chat//message",
        "/docs/none",
        "/%00",
        "/%FF",
    ] {
        for client in [&ann, &anyone] {
            let response = client.get(path).await.unwrap();
            assert_error(path, &response);
            assert!(matches!(response.status(), 400 | 401 | 404), "{path}: {response}");
        }
    }
    anyone.get("/nowhere").await.unwrap().expect_error(404, "not_found").unwrap();
}

#[tokio::test]
async fn operations_that_require_a_token_return_401() {
    let (stack, _ann) = lobby().await;
    let anyone = stack.client().unwrap();
    let document = anyone.get("/openapi.json").await.unwrap().expect(200).unwrap().json().unwrap();
    let mut guarded = 0;
    for (template, method, operation) in operations(&document) {
        if operation["responses"].get("401").is_none() || operation["security"].as_array().unwrap().is_empty() {
            continue;
        }
        for value in ["lobby", "nowhere"] {
            let path = fill_in(&template, value);
            let response = send(&anyone, &method, &path, "application/json", b"{}".to_vec()).await;
            response.expect_error(401, "unauthorized").unwrap();
        }
        guarded += 1;
    }
    assert!(guarded >= 12, "only {guarded} operations require a token");
}

#[tokio::test]
async fn null_equals_an_omitted_optional_field_or_body() {
    let (_stack, ann) = lobby().await;
    for body in [json!({"private": "yes"}), json!({"private": 1}), json!([])] {
        ann.send_json("/chat/other", &body).await.unwrap().expect_error(400, "invalid_body").unwrap();
    }
    for (room, body) in [
        ("one", json!({})),
        ("two", json!({"private": null})),
        ("three", Value::Null),
    ] {
        ann.send_json(&format!("/chat/{room}"), &body).await.unwrap().expect(201).unwrap();
    }
    for path in ["/user", "/auth/login", "/chat/lobby/message"] {
        ann.send_json(path, &Value::Null).await.unwrap().expect_error(400, "invalid_body").unwrap();
    }
    let bob =
        |public_id: Value| json!({"email": "bob", "username": "bob", "password": "secret", "public_id": public_id});
    ann.send_json("/user", &bob(json!(1))).await.unwrap().expect_error(400, "invalid_body").unwrap();
    ann.send_json("/user", &bob(Value::Null)).await.unwrap().expect(201).unwrap();
}
