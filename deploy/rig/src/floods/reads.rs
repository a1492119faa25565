//! One user who reads as much history as can be asked for: other pages on each of many requests, and requests that are
//! given up as soon as they are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::Attack;
use super::attacker::{Ground, large_page};
use crate::Result;

/// Connections on which pages are read, those on which requests are given up, and requests at once on each.
const READING: usize = 2;
const GIVING_UP: usize = 2;
const STREAMS: usize = 60;
/// After a failure, and between two bursts of requests that are given up.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn prepare(ground: Arc<Ground>) -> Result<Attack> {
    ground.fill_large_room().await?;
    Ok(Box::pin(async move {
        let next = AtomicUsize::new(0);
        let reading = (0..READING).map(|_| for_ever(&ground, &next, false));
        let giving_up = (0..GIVING_UP).map(|_| for_ever(&ground, &next, true));
        tokio::try_join!(try_join_all(reading), try_join_all(giving_up)).map(drop)
    }))
}

async fn for_ever(ground: &Ground, next: &AtomicUsize, gives_up: bool) -> Result<()> {
    loop {
        let _ = one_connection(ground, next, gives_up).await;
        sleep(AGAIN).await;
    }
}

async fn one_connection(ground: &Ground, next: &AtomicUsize, gives_up: bool) -> Result<()> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(4 * 1024 * 1024).initial_connection_window_size(64 * 1024 * 1024);
    let (client, connection) = builder.handshake::<_, Bytes>(ground.connect().await?).await?;
    let requests = (0..STREAMS).map(|_| async {
        loop {
            let request = ask(client.clone(), ground, next.fetch_add(1, Ordering::Relaxed));
            if gives_up {
                // Dropped in the middle: the stream is reset.
                let _ = tokio::time::timeout(Duration::from_millis(5), request).await;
                sleep(AGAIN).await;
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

async fn ask(client: h2::client::SendRequest<Bytes>, ground: &Ground, number: usize) -> Result<()> {
    let mut ready = client.ready().await?;
    let request = http::Request::get(format!("http://gateway{}", large_page(number)))
        .header("authorization", ground.attacker.token())
        .body(())?;
    let (response, _) = ready.send_request(request, true)?;
    let response = response.await?;
    if response.status() != 200 {
        sleep(AGAIN).await;
    }
    let mut body = response.into_body();
    while let Some(piece) = body.data().await {
        let length = piece?.len();
        body.flow_control().release_capacity(length)?;
    }
    Ok(())
}
