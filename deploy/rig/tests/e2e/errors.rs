//! Every route, walked with garbage, answers errors in the one shape.

use rig::{Answer, App, Method};
use serde_json::{Value, json};

use crate::scene::lobby;

/// What a browser, a proxy or an attacker might put into a path.
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
/// What is no parameter of ours.
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

fn assert_error(what: &str, answer: &Answer) {
    if let Err(failure) = answer.expect_error_shape() {
        panic!("{what}: {failure}");
    }
    assert_ne!(answer.status(), 500, "{what}: {answer}");
    // Nothing of our insides.
    for inside in ["sqlx", "sqlite", ".rs:", "panicked", "SELECT", "INSERT"] {
        assert!(!answer.text().contains(inside), "{what}: {answer}");
    }
}

async fn send(app: &App, method: &Method, path: &str, content_type: &str, body: Vec<u8>) -> Answer {
    let request = app.request(method.clone(), path).header("content-type", content_type).body(body);
    app.send(request).await.unwrap()
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
async fn garbage_in_bodies_is_refused_in_the_one_shape() {
    let (_stack, ann) = lobby().await;
    let document = ann.get("/openapi.json").await.unwrap().expect(200).unwrap().json().unwrap();
    let mut walked = 0;
    for (template, method, operation) in operations(&document) {
        if operation.get("requestBody").is_none() {
            continue;
        }
        let path = fill_in(&template, "lobby");
        for (content_type, body) in bad_bodies() {
            let what =
                format!("{method} {path} {content_type} {:?}", String::from_utf8_lossy(&body[..body.len().min(30)]));
            let is_huge = body.len() > 64 * 1024;
            let answer = send(&ann, &method, &path, content_type, body).await;
            assert_error(&what, &answer);
            assert!(is_huge == (answer.status() == 413), "{what}: {answer}");
            // A client that is not told of the close would lose its next request.
            assert!(!is_huge || answer.header("connection") == Some("close"), "{what}: {answer}");
            if matches!(content_type, "text/plain" | "application/xml") {
                answer.expect_error(415, "unsupported_media_type").unwrap();
            }
            walked += 1;
        }
    }
    assert!(walked >= 3 * 14, "only {walked} bodies were tried");
}

#[tokio::test]
async fn garbage_in_paths_and_parameters_is_refused_in_the_one_shape() {
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
                assert_error(&format!("{method} {path}"), &ann.send(request).await.unwrap());
            }
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let numbers = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "query" && parameter["schema"]["type"] == "integer");
        for parameter in numbers {
            for value in BAD_VALUES {
                let path = format!("{}?{}={value}", fill_in(&template, "lobby"), parameter["name"].as_str().unwrap());
                let answer = ann.call(method.clone(), &path).await.unwrap();
                assert_error(&format!("{method} {path}"), &answer);
                assert_eq!(answer.status(), 400, "{method} {path}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn wrong_methods_are_refused_in_the_one_shape() {
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
                let answer = ann.call(method.clone(), &path).await.unwrap();
                answer.expect_error(405, "method_not_allowed").unwrap();
                let allow = answer.header("allow").unwrap().to_uppercase();
                for (_, declared, _) in operations.iter().filter(|(other, _, _)| other == template) {
                    assert!(allow.contains(declared.as_str()), "{method} {path}: {answer}");
                }
            }
        }
    }
    for path in ["/", "/openapi.json"] {
        let answer = ann.call(Method::POST, path).await.unwrap();
        answer.expect_error(405, "method_not_allowed").unwrap();
        assert!(answer.header("allow").unwrap().contains("GET"), "{answer}");
    }
}

#[tokio::test]
async fn unknown_paths_are_refused_in_the_one_shape() {
    let (stack, ann) = lobby().await;
    let anyone = stack.app().unwrap();
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
        for app in [&ann, &anyone] {
            let answer = app.get(path).await.unwrap();
            assert_error(path, &answer);
            assert!(matches!(answer.status(), 400 | 401 | 404), "{path}: {answer}");
        }
    }
    anyone.get("/nowhere").await.unwrap().expect_error(404, "not_found").unwrap();
}

#[tokio::test]
async fn without_a_token_every_operation_that_wants_one_says_401() {
    let (stack, _ann) = lobby().await;
    let anyone = stack.app().unwrap();
    let document = anyone.get("/openapi.json").await.unwrap().expect(200).unwrap().json().unwrap();
    let mut guarded = 0;
    for (template, method, operation) in operations(&document) {
        if operation["responses"].get("401").is_none() || operation["security"].as_array().unwrap().is_empty() {
            continue;
        }
        for value in ["lobby", "nowhere"] {
            let path = fill_in(&template, value);
            let answer = send(&anyone, &method, &path, "application/json", b"{}".to_vec()).await;
            answer.expect_error(401, "unauthorized").unwrap();
        }
        guarded += 1;
    }
    assert!(guarded >= 12, "only {guarded} operations want a token");
}

#[tokio::test]
async fn null_stands_for_a_body_or_field_that_may_be_left_out() {
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
