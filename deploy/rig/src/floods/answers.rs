//! Answers that nobody reads: pages of history are asked for, over connections whose window is closed or whose socket is not
//! read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

use super::Attack;
use super::attacker::{Ground, large_page};
use crate::Result;

/// Connections of HTTP/2, and requests on each.
const HTTP2: usize = 8;
const STREAMS: usize = 64;
/// Connections of HTTP/1.1, each with one request.
const HTTP1: usize = 200;
/// Between two requests on a place that became free.
const AGAIN: Duration = Duration::from_secs(2);

pub(super) async fn prepare(ground: Arc<Ground>) -> Result<Attack> {
    ground.fill_large_room().await?;
    Ok(Box::pin(async move {
        let http2 = (0..HTTP2).map(|number| over_http2(&ground, number));
        let http1 = (0..HTTP1).map(|number| over_http1(&ground, number));
        tokio::try_join!(try_join_all(http2), try_join_all(http1)).map(drop)
    }))
}

async fn over_http2(ground: &Ground, number: usize) -> Result<()> {
    loop {
        // A connection that is refused or closed is what the gateway may well do.
        let _ = one_connection(ground, number).await;
        sleep(AGAIN).await;
    }
}

async fn one_connection(ground: &Ground, number: usize) -> Result<()> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let (client, connection) = builder.handshake::<_, Bytes>(ground.connect().await?).await?;
    let requests = (0..STREAMS).map(|stream| unread(client.clone(), ground, number * STREAMS + stream));
    tokio::select! {
        ended = connection => Ok(ended?),
        ended = try_join_all(requests) => ended.map(drop),
    }
}

async fn unread(client: h2::client::SendRequest<Bytes>, ground: &Ground, number: usize) -> Result<()> {
    loop {
        let mut ready = client.clone().ready().await?;
        let request = http::Request::get(format!("http://gateway{}", large_page(number)))
            .header("authorization", ground.attacker.token())
            .body(())?;
        let (response, _) = ready.send_request(request, true)?;
        if let Ok(response) = response.await {
            // It ends when the gateway has had enough.
            let _ = response.into_body().data().await;
        }
        sleep(AGAIN).await;
    }
}

async fn over_http1(ground: &Ground, number: usize) -> Result<()> {
    let (page, token) = (large_page(number), ground.attacker.token());
    let request = format!("GET {page} HTTP/1.1\r\nhost: gateway\r\nauthorization: {token}\r\n\r\n");
    loop {
        if let Ok(mut socket) = ground.connect().await {
            let _ = socket.write_all(request.as_bytes()).await;
            // Nothing of it is read until the gateway has given it up.
            while socket
                .ready(tokio::io::Interest::ERROR | tokio::io::Interest::READABLE)
                .await
                .is_ok_and(|ready| !ready.is_read_closed())
            {
                sleep(AGAIN).await;
            }
        }
        sleep(AGAIN).await;
    }
}
