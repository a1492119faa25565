//! The two forms of every path and of the token.

use rig::{ApiClient, Method, Stack};
use serde_json::json;

/// A call with or without a body, and its status on success.
type Call = (Method, &'static str, Option<serde_json::Value>, u16);

fn calls() -> Vec<Call> {
    let user = json!({"email": "two", "username": "two", "password": "two2", "public_id": "two"});
    let login = json!({"email": "one", "password": "one1"});
    vec![
        (Method::POST, "/user", Some(user), 201),
        (Method::GET, "/user", None, 200),
        (Method::GET, "/user/one", None, 200),
        (Method::POST, "/auth/login", Some(login), 200),
        (Method::GET, "/chat", None, 200),
        (Method::POST, "/chat/room", None, 201),
        (Method::GET, "/chat/room", None, 200),
        (Method::GET, "/chat/room/users", None, 200),
        (Method::POST, "/chat/room/message", Some(json!({"message": "hello"})), 204),
        (Method::GET, "/chat/room/messagehistory", None, 200),
        (Method::GET, "/chat/room/message?wait_s=1", None, 200),
        (Method::DELETE, "/chat/room/message", None, 204),
        (Method::DELETE, "/chat/room", None, 204),
        (Method::POST, "/auth/logout", None, 200),
    ]
}

async fn check_every_call(stack: &Stack, slash: &str, scheme: &str) {
    let anyone: ApiClient = stack.client().unwrap();
    let user = json!({"email": "one", "username": "one", "password": "one1", "public_id": "one"});
    let registered = anyone.send_json("/user", &user).await.unwrap().expect(201).unwrap();
    let token = registered.json().unwrap()["Authorization"].as_str().unwrap().to_owned();
    let client = anyone.with_token(&format!("{scheme}{token}"));
    for (method, path, body, status) in calls() {
        let path = match path.split_once('?') {
            Some((path, query)) => format!("{path}{slash}?{query}"),
            None => format!("{path}{slash}"),
        };
        let mut request = client.request(method.clone(), &path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}: {response}");
        assert_eq!(
            response.header("location").is_some(),
            status == 204 && path.contains("message") && method == Method::POST
        );
    }
}

#[tokio::test]
async fn calls_work_without_trailing_slash_and_with_raw_token() {
    check_every_call(&Stack::start().await.unwrap(), "", "").await;
}

#[tokio::test]
async fn calls_work_with_trailing_slash_and_bearer_token() {
    check_every_call(&Stack::start().await.unwrap(), "/", "Bearer ").await;
}
