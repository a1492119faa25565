//! Responses that nobody reads: the attacker asks for pages of history over connections whose window is closed or whose socket
//! is not read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

use super::context::{Attack, FloodContext, large_page};
use crate::failure::Result;

/// Connections of HTTP/2, and requests on each.
const HTTP2: usize = 8;
const STREAMS: usize = 64;
/// Connections of HTTP/1.1, each with one request.
const HTTP1: usize = 200;
/// Pause between two requests in the same slot of a connection.
const RETRY_AFTER: Duration = Duration::from_secs(2);

pub(super) async fn prepare(context: Arc<FloodContext>) -> Result<Attack> {
    context.fill_large_room().await?;
    Ok(Box::pin(async move {
        let http2 = (0..HTTP2).map(|number| over_http2(&context, number));
        let http1 = (0..HTTP1).map(|number| over_http1(&context, number));
        tokio::try_join!(try_join_all(http2), try_join_all(http1)).map(drop)
    }))
}

async fn over_http2(context: &FloodContext, number: usize) -> Result<()> {
    loop {
        // The gateway may refuse or close the connection.
        let _ = one_connection(context, number).await;
        sleep(RETRY_AFTER).await;
    }
}

async fn one_connection(context: &FloodContext, number: usize) -> Result<()> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let (client, connection) = builder.handshake::<_, Bytes>(context.connect().await?).await?;
    let requests = (0..STREAMS).map(|stream| unread(client.clone(), context, number * STREAMS + stream));
    tokio::select! {
        ended = connection => Ok(ended?),
        ended = try_join_all(requests) => ended.map(drop),
    }
}

async fn unread(client: h2::client::SendRequest<Bytes>, context: &FloodContext, number: usize) -> Result<()> {
    loop {
        let mut ready = client.clone().ready().await?;
        let request = http::Request::get(format!("http://gateway{}", large_page(number)))
            .header("authorization", context.attacker.token())
            .body(())?;
        let (response, _) = ready.send_request(request, true)?;
        if let Ok(response) = response.await {
            // The body ends when the gateway gives up.
            let _ = response.into_body().data().await;
        }
        sleep(RETRY_AFTER).await;
    }
}

async fn over_http1(context: &FloodContext, number: usize) -> Result<()> {
    let (page, token) = (large_page(number), context.attacker.token());
    let request = format!("GET {page} HTTP/1.1\r\nhost: gateway\r\nauthorization: {token}\r\n\r\n");
    loop {
        if let Ok(mut socket) = context.connect().await {
            let _ = socket.write_all(request.as_bytes()).await;
            // Nothing is read until the gateway has closed the connection.
            while socket
                .ready(tokio::io::Interest::ERROR | tokio::io::Interest::READABLE)
                .await
                .is_ok_and(|ready| !ready.is_read_closed())
            {
                sleep(RETRY_AFTER).await;
            }
        }
        sleep(RETRY_AFTER).await;
    }
}
