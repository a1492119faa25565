//! Memory that a client can occupy without a token: many connections, each with as many requests as it may have, whose headers
//! are as large as they may be and whose bodies never end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;

use super::context::{Attack, FloodContext};
use crate::failure::Result;

/// Connections of each version of HTTP. Programs that are not optimised take seconds to encode and decode so many
/// headers, and that is not to be measured.
const CONNECTIONS: usize = if cfg!(debug_assertions) { 10 } else { 100 };
/// Requests that one HTTP/2 connection has under way.
const STREAMS: usize = 64;
/// Bytes of headers; those of more than 16 KiB are refused.
const HEADER_BYTES: usize = 15_000;
/// Bytes that are sent of a body whose announced length is greater.
const BODY_BYTES: usize = 15_000;
/// Pause between two requests in the same slot of a connection, and before a closed connection is opened again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

pub(super) fn attack(context: Arc<FloodContext>) -> Attack {
    Box::pin(async move {
        let http2 = (0..CONNECTIONS).map(|_| over_http2(&context));
        let http1 = (0..CONNECTIONS).map(|_| over_http1(&context));
        tokio::try_join!(try_join_all(http2), try_join_all(http1)).map(drop)
    })
}

async fn over_http2(context: &FloodContext) -> Result<()> {
    loop {
        // The gateway may refuse or close the connection.
        let _ = one_connection(context).await;
        sleep(RETRY_AFTER).await;
    }
}

async fn one_connection(context: &FloodContext) -> Result<()> {
    let (client, connection) = h2::client::handshake(context.connect().await?).await?;
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
            .header("x-filler", "x".repeat(HEADER_BYTES))
            .body(())?;
        let (response, mut body) = ready.send_request(request, false)?;
        body.send_data(Bytes::from(vec![b' '; BODY_BYTES]), false)?;
        // Any response, also a refusal, frees the slot.
        let _ = response.await;
        sleep(RETRY_AFTER).await;
    }
}

async fn over_http1(context: &FloodContext) -> Result<()> {
    let filler = "x".repeat(HEADER_BYTES);
    let request = format!(
        "POST /auth/login HTTP/1.1\r\nhost: gateway\r\ncontent-length: {}\r\nx-filler: {filler}",
        BODY_BYTES * 2
    );
    loop {
        if let Ok(mut socket) = context.connect().await {
            let _ = socket.write_all(request.as_bytes()).await;
            let mut end = [0; 1024];
            let _ = socket.read(&mut end).await;
        }
        sleep(RETRY_AFTER).await;
    }
}
