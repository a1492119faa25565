//! What somebody else who reaches Redis says there is not believed.

use redis::AsyncCommands as _;
use rig::Stack;
use serde_json::json;

use crate::scene::{SOON, furnish};

#[tokio::test]
async fn a_message_that_nobody_stored_is_not_shown_and_hides_none() {
    let (stack, ann) = furnish(Stack::start().await.unwrap()).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    ann.post("lobby", "first").await.unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["message"], "first");

    let mut redis = stack.redis.connect().await.unwrap();
    let mut search = redis::cmd("PUBSUB");
    let channels: Vec<String> = search.arg("SHARDCHANNELS").arg("*:room:*").query_async(&mut redis).await.unwrap();
    let room: i64 = channels[0].rsplit_once(':').unwrap().1.parse().unwrap();
    let ghost = |seq: i64| {
        let message = json!({
            "seq": seq, "id": "0190aaaa-0000-7000-8000-000000000001", "username": "ann", "public_id": "ann",
            "kind": "MESSAGE", "text": "a ghost", "created_on": 1,
        });
        json!({"room": room, "messages": [message]}).to_string()
    };
    for seq in [2, 1_000_000] {
        let heard: u64 =
            redis::cmd("SPUBLISH").arg(&channels[0]).arg(ghost(seq)).query_async(&mut redis).await.unwrap();
        assert_eq!(heard, 1);
    }
    // The session of ann, as if she had logged out.
    let control = stack.name("control").await.unwrap();
    for session in ["00000000-0000-0000-0000-000000000000", "garbage"] {
        let event = json!({"event": "session_revoked", "user": 1, "session": session}).to_string();
        let heard: u64 = redis.publish(&control, event).await.unwrap();
        assert_eq!(heard, 1);
    }
    ann.post("lobby", "second").await.unwrap();
    let second = stream.message(SOON).await.unwrap().json().unwrap();
    assert_eq!((&second["message"], &second["seq"]), (&json!("second"), &json!(2)));
    assert_eq!(ann.history("lobby", "").await.unwrap().len(), 2);
    assert!(stack.gateways[0].service.log().contains("not_authentic"), "it is told");
}
