//! Logs contain ids, and never texts of messages, addresses, passwords or tokens.

use rig::{Stack, eventually};
use serde_json::json;

use crate::fixture::SOON;

const EMAIL: &str = "canary.address@example.org";
const PASSWORD: &str = "canary-password";
const WRONG_PASSWORD: &str = "canary-wrong-password";
const TEXT: &str = "canary text of a message";
const REFUSED_TEXT: &str = "canary text with\u{0}a NUL";
const FORGED_TOKEN: &str = "canary.forged.token";

#[tokio::test]
async fn logs_contain_no_secrets_and_no_texts() {
    let stack = Stack::builder().gateway("ROOMCAST_LOG", "trace").worker("ROOMCAST_LOG", "trace");
    let mut stack = stack.start().await.unwrap();
    let anonymous = stack.client().unwrap();
    let body = json!({"email": EMAIL, "username": "ann", "password": PASSWORD, "public_id": "ann"});
    let registered = anonymous.send_json("/user/", &body).await.unwrap().expect(201).unwrap();
    anonymous.send_json("/user/", &body).await.unwrap().expect(409).unwrap();
    let token = registered.json().unwrap()["Authorization"].as_str().unwrap().to_owned();
    let ann = anonymous.with_token(&token);
    let login = |password: &str| json!({"email": EMAIL, "password": password});
    let again = anonymous.send_json("/auth/login", &login(PASSWORD)).await.unwrap().expect(200).unwrap();
    let other_token = again.json().unwrap()["Authorization"].as_str().unwrap().to_owned();
    anonymous.send_json("/auth/login", &login(WRONG_PASSWORD)).await.unwrap().expect(401).unwrap();
    anonymous.with_token(FORGED_TOKEN).get("/chat/").await.unwrap().expect(401).unwrap();
    anonymous.get(&format!("/chat/?token={token}")).await.unwrap().expect(401).unwrap();

    ann.create_room("lobby").await.unwrap();
    let mut stream = ann.stream("lobby").open().await.unwrap();
    ann.try_post("lobby", TEXT, Some("key")).await.unwrap().expect(204).unwrap();
    ann.try_post("lobby", TEXT, Some("key")).await.unwrap().expect(204).unwrap();
    ann.try_post("lobby", REFUSED_TEXT, None).await.unwrap().expect(400).unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["message"], TEXT);
    assert_eq!(ann.history("lobby", "").await.unwrap().len(), 1);
    // Failures are logged in more detail.
    let log = stack.accept_stream(0).await.unwrap();
    stack.redis.append_garbage(&log, TEXT.as_bytes()).await.unwrap();
    stack.redis.kill().unwrap();
    ann.try_post("lobby", TEXT, Some("key-2")).await.unwrap().expect(503).unwrap();
    anonymous.with_token(&other_token).call(rig::Method::POST, "/auth/logout").await.unwrap();
    stack.redis.restart().await.unwrap();
    stack.wait_ready().await.unwrap();
    let stored = eventually(SOON, "the post is accepted", async || {
        ann.try_post("lobby", TEXT, Some("key-2")).await?.expect(204)
    });
    stored.await.unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["message"], TEXT);

    let signatures = [&token, &other_token].map(|token| token.rsplit('.').next().unwrap());
    let secrets = [
        EMAIL,
        PASSWORD,
        WRONG_PASSWORD,
        TEXT,
        "canary text with",
        FORGED_TOKEN,
        signatures[0],
        signatures[1],
    ];
    for (name, log) in [
        ("gateway", stack.gateways[0].process.log()),
        ("worker", stack.worker.process.log()),
    ] {
        // Without this line the level would not be the one set above.
        assert!(log.contains("DEBUG"), "{name}: {log}");
        for secret in secrets {
            let line = log.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret:?} is in the log of the {name}: {line:?}");
        }
    }
}
