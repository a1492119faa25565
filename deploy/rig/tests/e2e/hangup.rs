//! Clients that go away without a word.

use futures_util::future::try_join_all;
use rig::{App, Failure, Stack, eventually};

use crate::scene::{SOON, furnish};

#[tokio::test]
async fn a_client_that_hangs_up_is_noticed_without_traffic() {
    const STREAMS: usize = 20;
    // No ping that could find out: the heartbeat is as long as it may be.
    let stack = Stack::builder().without_limits().gateway("STREAM_HEARTBEAT_S", "60").start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    let gateway = &stack.gateways[0];
    let before = gateway.connections().unwrap();

    // A client of its own, so that dropping it closes its connections.
    let visitor = App::at(&gateway.url()).unwrap().with_token(ann.token());
    let streams = try_join_all((0..STREAMS).map(|_| visitor.stream("lobby").open())).await.unwrap();
    assert_eq!(gateway.connections().unwrap(), before + STREAMS);
    drop(streams);
    drop(visitor);
    eventually(SOON, "the gateway closes the connections of those who left", async || {
        let open = gateway.connections()?;
        if open <= before {
            Ok(())
        } else {
            Err(Failure::new(format!("{open} connections, {before} before")))
        }
    })
    .await
    .unwrap();

    // The room is as it was.
    let mut stream = ann.stream("lobby").open().await.unwrap();
    ann.post("lobby", "hello").await.unwrap();
    stream.message(SOON).await.unwrap();
}
