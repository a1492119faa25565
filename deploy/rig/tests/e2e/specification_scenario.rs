//! The usage scenario of the original specification, call by call.

use rig::{HttpResponse, Method, Stack};
use serde_json::{Value, json};

use crate::fixture::SOON;

fn assert_json(response: &HttpResponse, status: u16, body: &Value) {
    assert_eq!(response.status(), status, "{response}");
    let content_type = response.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("application/json"), "{response}");
    assert_eq!(&response.json().unwrap(), body);
}

/// Checks a response that contains a token, and returns the token.
fn assert_token(response: &HttpResponse, status: u16, message: &str) -> String {
    let token = response.json().unwrap()["Authorization"].as_str().unwrap().to_owned();
    assert_json(response, status, &json!({"status": "success", "message": message, "Authorization": token}));
    assert_eq!(token.split('.').count(), 3, "{token}");
    token
}

#[tokio::test]
async fn specification_scenario_works_call_by_call() {
    let stack = Stack::start().await.unwrap();
    let anyone = stack.client().unwrap();

    // 1. Create user with a name.
    let user = json!({"email": "test1", "username": "test1", "password": "test1", "public_id": "test1"});
    let response = anyone.send_json("/user/", &user).await.unwrap();
    let client = anyone.with_token(&assert_token(&response, 201, "Successfully registered."));

    // 2. Log user in with a name: another token, and both are good.
    let response = anyone.send_json("/auth/login", &json!({"email": "test1", "password": "test1"})).await.unwrap();
    let token = assert_token(&response, 200, "Successfully logged in.");
    assert_ne!(token, client.token());
    assert_json(&client.get("/chat/").await.unwrap(), 200, &json!({"data": []}));
    let client = anyone.with_token(&token);

    // 3. Get list of users in the chatroom.
    for room in ["testchat1", "test4"] {
        let response = client.call(Method::POST, &format!("/chat/{room}")).await.unwrap();
        assert_json(&response, 201, &json!({"status": "success", "message": "Chat created."}));
    }
    let rooms = json!({"data": [{"name": "test4"}, {"name": "testchat1"}]});
    assert_json(&client.get("/chat/").await.unwrap(), 200, &rooms);
    assert_json(&client.get("/chat/testchat1").await.unwrap(), 200, &json!({"name": "testchat1"}));
    assert_json(&client.get("/chat/testchat1/users").await.unwrap(), 200, &json!(["test1"]));

    // 4. Get history messages from the chatroom.
    assert_json(&client.get("/chat/testchat1/messagehistory").await.unwrap(), 200, &json!([]));

    // 5. Receive message sent by the user, and 6. broadcast received message to other users in the chatroom.
    let mut stream = client.stream("testchat1").open().await.unwrap();
    let texts = ["test message 1", "test message 2", "test message 3 rakutenn"];
    let mut events = Vec::new();
    for (seq, text) in (2..).zip(texts) {
        let response = client.try_post("testchat1", text, None).await.unwrap().expect(204).unwrap();
        assert_eq!(response.text(), "");
        let id = response.header("message-id").unwrap();
        assert!(uuid::Uuid::parse_str(id).is_ok(), "{response}");
        let location = response.header("location").unwrap();
        assert!(location.contains("/chat/testchat1/"), "{response}");

        let event = stream.message(SOON).await.unwrap();
        assert_eq!(event.seq().unwrap(), seq);
        let message = event.json().unwrap();
        let created_on = message["created_on"].as_str().unwrap();
        assert_eq!((created_on.len(), created_on.chars().last()), ("2021-08-30T01:58:15.856Z".len(), Some('Z')));
        let expected = json!({
            "id": id, "seq": seq, "name": "testchat1", "username": "test1", "public_id": "test1",
            "message_type": "MESSAGE", "message": text, "created_on": created_on,
        });
        assert_eq!(message, expected);
        events.push(message);
    }

    // History holds what was received live, newest first.
    events.reverse();
    assert_json(&client.get("/chat/testchat1/messagehistory").await.unwrap(), 200, &json!(events));

    let response = client.call(Method::POST, "/auth/logout").await.unwrap();
    assert_json(&response, 200, &json!({"status": "success", "message": "Successfully logged out."}));
    assert_eq!(stream.bye(SOON).await.unwrap(), "revoked");
}
