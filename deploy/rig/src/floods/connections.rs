//! Every connection that the gateway has: silent ones, idle ones, and ones of HTTP/2 that take no answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;

use super::Attack;
use super::attacker::Ground;
use crate::Result;

/// As many as there are places.
const CONNECTIONS: usize = 200;
/// How many places the gateway has.
pub(super) const PLACES: &str = "200";
/// Before a place is taken again.
const AGAIN: Duration = Duration::from_millis(20);

pub(super) fn attack(ground: Arc<Ground>) -> Attack {
    Box::pin(async move {
        let all = (0..CONNECTIONS).map(|number| hold(&ground, number));
        try_join_all(all).await.map(drop)
    })
}

async fn hold(ground: &Ground, number: usize) -> Result<()> {
    loop {
        let _ = if number.is_multiple_of(2) {
            over_http1(ground).await
        } else {
            over_http2(ground).await
        };
        sleep(AGAIN).await;
    }
}

async fn over_http1(ground: &Ground) -> Result<()> {
    let mut socket = ground.connect().await?;
    socket.write_all(b"GET /info HTTP/1.1\r\nhost: gateway\r\n\r\n").await?;
    let mut answer = [0; 4_096];
    while socket.read(&mut answer).await? > 0 {}
    Ok(())
}

async fn over_http2(ground: &Ground) -> Result<()> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let (client, connection) = builder.handshake::<_, Bytes>(ground.connect().await?).await?;
    let asking = async {
        let mut ready = client.ready().await?;
        let request = http::Request::get("http://gateway/info").body(())?;
        let (response, _) = ready.send_request(request, true)?;
        let answer = response.await?;
        // Neither taken nor given up.
        std::future::pending::<()>().await;
        drop(answer);
        Ok(())
    };
    tokio::select! {
        ended = connection => Ok(ended?),
        ended = asking => ended,
    }
}
