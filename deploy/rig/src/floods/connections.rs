//! All connections that a gateway accepts: silent ones, idle ones, and HTTP/2 connections that read no response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;

use super::context::{Attack, FloodContext};
use crate::failure::Result;

/// As many connections as the gateway accepts.
const CONNECTIONS: usize = 200;
/// How many connections the gateway accepts.
pub(super) const LIMIT: &str = "200";
/// Pause before a connection that ended is opened again.
const RETRY_AFTER: Duration = Duration::from_millis(20);

pub(super) fn attack(context: Arc<FloodContext>) -> Attack {
    Box::pin(async move {
        let all = (0..CONNECTIONS).map(|number| hold(&context, number));
        try_join_all(all).await.map(drop)
    })
}

async fn hold(context: &FloodContext, number: usize) -> Result<()> {
    loop {
        let _ = if number.is_multiple_of(2) {
            over_http1(context).await
        } else {
            over_http2(context).await
        };
        sleep(RETRY_AFTER).await;
    }
}

async fn over_http1(context: &FloodContext) -> Result<()> {
    let mut socket = context.connect().await?;
    socket.write_all(b"GET /info HTTP/1.1\r\nhost: gateway\r\n\r\n").await?;
    let mut buffer = [0; 4_096];
    while socket.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn over_http2(context: &FloodContext) -> Result<()> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let (client, connection) = builder.handshake::<_, Bytes>(context.connect().await?).await?;
    let asking = async {
        let mut ready = client.ready().await?;
        let request = http::Request::get("http://gateway/info").body(())?;
        let (response, _) = ready.send_request(request, true)?;
        let response = response.await?;
        // The response is neither read nor dropped.
        std::future::pending::<()>().await;
        drop(response);
        Ok(())
    };
    tokio::select! {
        ended = connection => Ok(ended?),
        ended = asking => ended,
    }
}
