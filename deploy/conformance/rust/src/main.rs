//! Follows each stream whose URL is named, with `eventsource-client`, and tells every event as a line of JSON.

use std::time::Duration;

use eventsource_client::{Client, ClientBuilder, ReconnectOptions, SSE};
use futures_util::StreamExt;
use launchdarkly_sdk_transport::HyperTransport;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A server that is quiet sends a ping every 15 seconds.
const READ_WITHIN: Duration = Duration::from_secs(50);
/// How long to wait before coming back. After a `retry:` of the server the library waits as long as that says.
const AGAIN_AFTER: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let urls = std::env::args().skip(1).enumerate();
    let streams = urls.map(|(stream, url)| async move {
        // It ends only where the library gives up for good.
        if let Err(error) = follow(stream, &url).await {
            eprintln!("stream {stream}: {error}");
        }
    });
    futures_util::future::join_all(streams).await;
}

async fn follow(stream: usize, url: &str) -> Result<()> {
    let reconnect = ReconnectOptions::reconnect(true)
        .retry_initial(true)
        .delay(AGAIN_AFTER)
        // Otherwise each further break of a connection that stood for less than a minute doubles the wait.
        .backoff_factor(1)
        .build();
    let transport = HyperTransport::builder().read_timeout(READ_WITHIN).build_http()?;
    let client = ClientBuilder::for_url(url)?
        .header("Authorization", &std::env::var("ROOMCAST_TOKEN")?)?
        .reconnect(reconnect)
        .build_with_transport(transport);
    let mut events = client.stream();
    while let Some(event) = events.next().await {
        // An error tells that the connection is gone: the library comes back by itself, from the last id.
        if let Ok(SSE::Event(event)) = event {
            let line = serde_json::json!({
                "stream": stream, "event": event.event_type, "id": event.id, "data": event.data,
            });
            println!("{line}");
        }
    }
    Ok(())
}
