//! The usage scenario of the original specification, call by call.

use rig::{Answer, Method, Stack};
use serde_json::{Value, json};

use crate::scene::SOON;

fn assert_json(answer: &Answer, status: u16, body: &Value) {
    assert_eq!(answer.status(), status, "{answer}");
    let content_type = answer.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("application/json"), "{answer}");
    assert_eq!(&answer.json().unwrap(), body);
}

/// Checks an answer that hands out a token, and returns the token.
fn assert_token(answer: &Answer, status: u16, message: &str) -> String {
    let token = answer.json().unwrap()["Authorization"].as_str().unwrap().to_owned();
    assert_json(answer, status, &json!({"status": "success", "message": message, "Authorization": token}));
    assert_eq!(token.split('.').count(), 3, "{token}");
    token
}

#[tokio::test]
async fn the_usage_scenario_of_the_specification() {
    let stack = Stack::start().await.unwrap();
    let anyone = stack.app().unwrap();

    // 1. Create user with a name.
    let user = json!({"email": "test1", "username": "test1", "password": "test1", "public_id": "test1"});
    let answer = anyone.send_json("/user/", &user).await.unwrap();
    let app = anyone.with_token(&assert_token(&answer, 201, "Successfully registered."));

    // 2. Log user in with a name: another token, and both are good.
    let answer = anyone.send_json("/auth/login", &json!({"email": "test1", "password": "test1"})).await.unwrap();
    let token = assert_token(&answer, 200, "Successfully logged in.");
    assert_ne!(token, app.token());
    assert_json(&app.get("/chat/").await.unwrap(), 200, &json!({"data": []}));
    let app = anyone.with_token(&token);

    // 3. Get list of users in the chatroom.
    for room in ["testchat1", "test4"] {
        let answer = app.call(Method::POST, &format!("/chat/{room}")).await.unwrap();
        assert_json(&answer, 201, &json!({"status": "success", "message": "Chat created."}));
    }
    let rooms = json!({"data": [{"name": "test4"}, {"name": "testchat1"}]});
    assert_json(&app.get("/chat/").await.unwrap(), 200, &rooms);
    assert_json(&app.get("/chat/testchat1").await.unwrap(), 200, &json!({"name": "testchat1"}));
    assert_json(&app.get("/chat/testchat1/users").await.unwrap(), 200, &json!(["test1"]));

    // 4. Get history messages from the chatroom.
    assert_json(&app.get("/chat/testchat1/messagehistory").await.unwrap(), 200, &json!([]));

    // 5. Receive message sent by the user, and 6. broadcast received message to other users in the chatroom.
    let mut stream = app.stream("testchat1").open().await.unwrap();
    let texts = ["test message 1", "test message 2", "test message 3 rakutenn"];
    let mut events = Vec::new();
    for (seq, text) in (1..).zip(texts) {
        let answer = app.try_post("testchat1", text, None).await.unwrap().expect(204).unwrap();
        assert_eq!(answer.text(), "");
        let id = answer.header("message-id").unwrap();
        assert!(uuid::Uuid::parse_str(id).is_ok(), "{answer}");
        let location = answer.header("location").unwrap();
        assert!(location.contains("/chat/testchat1/"), "{answer}");

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

    // What was seen live is what history holds, newest first.
    events.reverse();
    assert_json(&app.get("/chat/testchat1/messagehistory").await.unwrap(), 200, &json!(events));

    let answer = app.call(Method::POST, "/auth/logout").await.unwrap();
    assert_json(&answer, 200, &json!({"status": "success", "message": "Successfully logged out."}));
    assert_eq!(stream.bye(SOON).await.unwrap(), "revoked");
}
