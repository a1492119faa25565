//! The stack, user and room with which most tests begin.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use redis::cmd;
use rig::{ApiClient, RedisServer, Result, Stack};

/// Long enough for anything that is promised "at once", also while other tests use the machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Posts in flight at once when a room is filled.
const IN_FLIGHT: usize = 32;

/// A stack with the user `ann`, who owns the room `lobby`, at the first gateway.
pub(crate) async fn lobby() -> (Stack, ApiClient) {
    with_lobby(Stack::start().await.unwrap()).await
}

/// The same without limits on her rates.
pub(crate) async fn lobby_without_rates() -> (Stack, ApiClient) {
    with_lobby(Stack::builder().without_rates().start().await.unwrap()).await
}

/// The seq of the first message of `lobby`.
pub(crate) const FIRST: i64 = rig::FIRST_SEQ;

/// Registers `ann` and lets her create `lobby`, whose log begins with the entry of its creation.
pub(crate) async fn with_lobby(stack: Stack) -> (Stack, ApiClient) {
    let ann = stack.client().unwrap().register("ann").await.unwrap();
    ann.create_room("lobby").await.unwrap();
    rig::eventually(SOON, "the creation is in the log", async || {
        let page = ann.get("/chat/lobby/messagehistory").await?.expect(200)?;
        match page.header("last-event-id") {
            Some(id) if id.ends_with("-1") => Ok(()),
            id => Err(rig::Failure::new(format!("the position is {id:?}"))),
        }
    })
    .await
    .unwrap();
    (stack, ann)
}

/// Allows or refuses to publish events; a Redis that refuses it keeps every subscription.
pub(crate) async fn allow_publish(redis: &RedisServer, is_allowed: bool) {
    let mut connection = redis.connect().await.unwrap();
    // Events of rooms are published to shards, all others to everybody.
    let rules = if is_allowed {
        ["+publish", "+spublish"]
    } else {
        ["-publish", "-spublish"]
    };
    cmd("ACL").arg("SETUSER").arg("default").arg(&rules).exec_async(&mut connection).await.unwrap();
}

/// Posts `count` messages to `lobby`, many at a time, and waits until all are in its history.
pub(crate) async fn fill(client: &ApiClient, count: usize) -> Result<()> {
    let posts =
        stream::iter(0..count).map(|number| async move { client.post("lobby", &format!("message {number}")).await });
    posts.buffer_unordered(IN_FLIGHT).try_for_each(async |_| Ok(())).await?;
    let expected = i64::try_from(count)? + FIRST - 1;
    rig::eventually(SOON, "every posted message is in history", async || {
        let newest = client.history("lobby", "?limit=1").await?;
        let head = newest.first().and_then(|message| message["seq"].as_i64());
        if head == Some(expected) {
            Ok(())
        } else {
            Err(rig::Failure::new(format!("the head is {head:?} and not {expected}")))
        }
    })
    .await
}

/// Takes the last message of `lobby`, whose text is "last in lobby", out of the database, as a backup does that is restored. The gateways know
/// nothing of before.
pub(crate) async fn lose_last_message(stack: &mut Stack) {
    stack.worker.process.stop(SOON).await.unwrap();
    let mut database = stack.database().await.unwrap();
    for statement in [
        "DELETE FROM messages WHERE text = 'last in lobby'",
        "UPDATE room_heads SET seq = seq - 1 WHERE room_id = (SELECT id FROM rooms WHERE name = 'lobby')",
    ] {
        database.execute(statement).await.unwrap();
    }
    database.close().await.unwrap();
    stack.worker.start().unwrap();
    for gateway in &mut stack.gateways {
        gateway.kill().unwrap();
        gateway.start().unwrap();
    }
    stack.wait_ready().await.unwrap();
}
