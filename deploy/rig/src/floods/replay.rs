//! Small requests for large replays: streams from the start of a large room, again and again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use super::context::{Attack, FloodContext, LARGE_ROOM};
use crate::failure::{Failure, Result};

/// Streams of one user.
const STREAMS: usize = 30;
/// How long each stream is read before it is opened again.
const READ_FOR: Duration = Duration::from_millis(500);
/// Pause after a failure.
const RETRY_AFTER: Duration = Duration::from_millis(20);

pub(super) async fn prepare(context: Arc<FloodContext>) -> Result<Attack> {
    context.fill_large_room().await?;
    let ready = context.attacker.stream(LARGE_ROOM).open().await?.ready().id.clone();
    let (epoch, _) = ready.rsplit_once('-').ok_or_else(|| Failure::new(format!("no cursor: {ready}")))?;
    let start = format!("{epoch}-0");
    Ok(Box::pin(async move {
        let all = (0..STREAMS).map(|_| replay(&context, &start));
        try_join_all(all).await.map(drop)
    }))
}

async fn replay(context: &FloodContext, start: &str) -> Result<()> {
    let token = context.attacker.token();
    let request = format!(
        "GET /chat/{LARGE_ROOM}/message HTTP/1.1\r\nhost: gateway\r\nauthorization: {token}\r\nlast-event-id: {start}\r\n\r\n"
    );
    let mut buffer = vec![0; 256 * 1024];
    loop {
        if let Ok(mut socket) = context.connect().await {
            let _ = socket.write_all(request.as_bytes()).await;
            let reading = async { while socket.read(&mut buffer).await.is_ok_and(|count| count > 0) {} };
            let _ = timeout(READ_FOR, reading).await;
        }
        sleep(RETRY_AFTER).await;
    }
}
