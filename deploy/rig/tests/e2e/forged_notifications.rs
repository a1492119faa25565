//! Gateways ignore notifications in Redis that no service of the installation has signed.

use redis::AsyncCommands as _;
use rig::Stack;
use serde_json::json;

use crate::fixture::{FIRST, SOON, with_lobby};

#[tokio::test]
async fn forged_notifications_are_ignored() {
    let (stack, ann) = with_lobby(Stack::start().await.unwrap()).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    ann.post("lobby", "first").await.unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["message"], "first");

    let mut redis = stack.redis.connect().await.unwrap();
    let mut search = redis::cmd("PUBSUB");
    let channels: Vec<String> = search.arg("SHARDCHANNELS").arg("*:room:*").query_async(&mut redis).await.unwrap();
    let room: i64 = channels[0].rsplit_once(':').unwrap().1.parse().unwrap();
    let forged = |seq: i64| {
        let message = json!({
            "seq": seq, "id": "0190aaaa-0000-7000-8000-000000000001", "username": "ann", "public_id": "ann",
            "kind": "MESSAGE", "text": "a forged message", "created_on": 1,
        });
        json!({"room": room, "messages": [message]}).to_string()
    };
    for seq in [FIRST + 1, 1_000_000] {
        let receivers: u64 =
            redis::cmd("SPUBLISH").arg(&channels[0]).arg(forged(seq)).query_async(&mut redis).await.unwrap();
        assert_eq!(receivers, 1);
    }
    // Revocations of sessions, as if ann had logged out.
    let control = stack.redis_key("control").await.unwrap();
    for session in ["00000000-0000-0000-0000-000000000000", "garbage"] {
        let event = json!({"event": "session_revoked", "user": 1, "session": session}).to_string();
        let receivers: u64 = redis.publish(&control, event).await.unwrap();
        assert_eq!(receivers, 1);
    }
    ann.post("lobby", "second").await.unwrap();
    let second = stream.message(SOON).await.unwrap().json().unwrap();
    assert_eq!((&second["message"], &second["seq"]), (&json!("second"), &json!(FIRST + 1)));
    assert_eq!(ann.history("lobby", "").await.unwrap().len(), 2);
    assert!(stack.gateways[0].process.log().contains("not_authentic"), "it is logged");
}
