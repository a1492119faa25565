//! A stream as the body of an HTTP library: for HTTP/2, and wherever the socket cannot be hijacked.

use bytes::Bytes;
use futures_util::Stream;
use shared::domain::Seq;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::stream::LiveStream;
use crate::fanout::{NextStep, Source as _};

/// The chunks of `stream`, after `opening`, its first bytes.
pub fn chunks(
    stream: LiveStream,
    opening: Bytes,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let moved = stream.feed.watch_head();
    let body = StreamBody {
        stream,
        moved,
        opening: Some(opening),
        ended: false,
    };
    futures_util::stream::unfold(body, |mut body| async move {
        let chunk = body.next().await?;
        Some((Ok(chunk), body))
    })
}

struct StreamBody {
    stream: LiveStream,
    moved: watch::Receiver<Seq>,
    opening: Option<Bytes>,
    ended: bool,
}

impl StreamBody {
    /// The next bytes to send; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        while !self.ended {
            // Marked as seen before the feed is read: a message that comes after the read wakes the wait below.
            self.moved.mark_unchanged();
            match self.stream.next_step(std::time::Instant::now()) {
                NextStep::Write(segment) => return Some(segment.into_bytes()),
                NextStep::End(segment) => {
                    self.ended = true;
                    return Some(segment.into_bytes());
                }
                NextStep::Fetch(fetch) => tokio::select! {
                    fetched = fetch => self.stream.apply(fetched, std::time::Instant::now()),
                    _ = self.stream.registered.ended() => {}
                },
                NextStep::Wait => self.wait().await,
            }
        }
        None
    }

    /// Waits until the stream has something to send or to do.
    async fn wait(&mut self) {
        let due = Instant::from_std(self.stream.due());
        tokio::select! {
            _ = self.moved.changed() => {}
            _ = self.stream.registered.ended() => {}
            () = sleep_until(due) => {}
        }
    }
}
