//! One user who reads as much history as possible: another page with each of many requests, and requests that are aborted as
//! soon as they are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::context::{Attack, FloodContext, large_page};
use crate::failure::Result;

/// Connections on which pages are read, those on which requests are aborted, and concurrent requests on each.
const READING: usize = 2;
const ABORTING: usize = 2;
const STREAMS: usize = 60;
/// Pause after a failure, and between two bursts of requests that are aborted.
const RETRY_AFTER: Duration = Duration::from_millis(500);

pub(super) async fn prepare(context: Arc<FloodContext>) -> Result<Attack> {
    context.fill_large_room().await?;
    Ok(Box::pin(async move {
        let next = AtomicUsize::new(0);
        let reading = (0..READING).map(|_| read_forever(&context, &next, false));
        let aborting = (0..ABORTING).map(|_| read_forever(&context, &next, true));
        tokio::try_join!(try_join_all(reading), try_join_all(aborting)).map(drop)
    }))
}

async fn read_forever(context: &FloodContext, next: &AtomicUsize, aborts: bool) -> Result<()> {
    loop {
        let _ = one_connection(context, next, aborts).await;
        sleep(RETRY_AFTER).await;
    }
}

async fn one_connection(context: &FloodContext, next: &AtomicUsize, aborts: bool) -> Result<()> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(4 * 1024 * 1024).initial_connection_window_size(64 * 1024 * 1024);
    let (client, connection) = builder.handshake::<_, Bytes>(context.connect().await?).await?;
    let requests = (0..STREAMS).map(|_| async {
        loop {
            let request = request_page(client.clone(), context, next.fetch_add(1, Ordering::Relaxed));
            if aborts {
                // Dropping the request resets its stream.
                let _ = tokio::time::timeout(Duration::from_millis(5), request).await;
                sleep(RETRY_AFTER).await;
            } else {
                request.await?;
            }
        }
    });
    tokio::select! {
        ended = connection => Ok(ended?),
        ended = try_join_all(requests) => ended.map(|_: Vec<()>| ()),
    }
}

async fn request_page(client: h2::client::SendRequest<Bytes>, context: &FloodContext, number: usize) -> Result<()> {
    let mut ready = client.ready().await?;
    let request = http::Request::get(format!("http://gateway{}", large_page(number)))
        .header("authorization", context.attacker.token())
        .body(())?;
    let (response, _) = ready.send_request(request, true)?;
    let response = response.await?;
    if response.status() != 200 {
        sleep(RETRY_AFTER).await;
    }
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        let length = chunk?.len();
        body.flow_control().release_capacity(length)?;
    }
    Ok(())
}
