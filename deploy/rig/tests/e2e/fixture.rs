//! The stack, user and room with which most tests begin.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use rig::{ApiClient, Result, Stack};

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

/// Registers `ann` and lets her create `lobby`.
pub(crate) async fn with_lobby(stack: Stack) -> (Stack, ApiClient) {
    let ann = stack.client().unwrap().register("ann").await.unwrap();
    ann.create_room("lobby").await.unwrap();
    (stack, ann)
}

/// Posts `count` messages to `lobby`, many at a time, and waits until all are in its history.
pub(crate) async fn fill(client: &ApiClient, count: usize) -> Result<()> {
    let posts =
        stream::iter(0..count).map(|number| async move { client.post("lobby", &format!("message {number}")).await });
    posts.buffer_unordered(IN_FLIGHT).try_for_each(async |_| Ok(())).await?;
    let expected = i64::try_from(count)?;
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
