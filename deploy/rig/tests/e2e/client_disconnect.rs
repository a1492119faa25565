//! Clients that close their connection without notice.

use futures_util::future::try_join_all;
use rig::{ApiClient, Failure, Stack, eventually};

use crate::fixture::{SOON, with_lobby};

#[tokio::test]
async fn disconnected_client_is_noticed_without_traffic() {
    const STREAMS: usize = 20;
    // The heartbeat is as long as possible, so that no ping finds the closed connections.
    let stack = Stack::builder().without_limits().gateway("STREAM_HEARTBEAT_S", "60").start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let gateway = &stack.gateways[0];
    let before = gateway.connections().unwrap();

    // A client of its own, so that dropping it closes its connections.
    let leaving = ApiClient::at(&gateway.url()).unwrap().with_token(ann.token());
    let streams = try_join_all((0..STREAMS).map(|_| leaving.stream("lobby").open())).await.unwrap();
    // One of the start may have been counted, or not.
    let with_streams = gateway.connections().unwrap();
    assert!(with_streams >= before + STREAMS);
    drop(streams);
    drop(leaving);
    eventually(SOON, "the gateway closes the connections of those who left", async || {
        let open = gateway.connections()?;
        if open + STREAMS <= with_streams {
            Ok(())
        } else {
            Err(Failure::new(format!("{open} connections, {with_streams} with the streams")))
        }
    })
    .await
    .unwrap();

    // The room works as before.
    let mut stream = ann.stream("lobby").open().await.unwrap();
    ann.post("lobby", "hello").await.unwrap();
    stream.message(SOON).await.unwrap();
}
