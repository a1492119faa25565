//! A stream as the chunks of a response body: for HTTP/2, and wherever the socket is not ours to write to.

use bytes::Bytes;
use futures_util::Stream;
use shared::domain::Seq;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::stream::LiveStream;
use crate::fanout::{NextStep, Source as _};

/// The chunks of `stream`, after what it says first.
pub fn chunks(
    stream: LiveStream,
    opening: Bytes,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let moved = stream.feed.watch_head();
    let sender = Sender {
        stream,
        moved,
        opening: Some(opening),
        ended: false,
    };
    futures_util::stream::unfold(sender, |mut sender| async move {
        let chunk = sender.next().await?;
        Some((Ok(chunk), sender))
    })
}

struct Sender {
    stream: LiveStream,
    moved: watch::Receiver<Seq>,
    opening: Option<Bytes>,
    ended: bool,
}

impl Sender {
    /// The next bytes to send; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        while !self.ended {
            // Marked as seen before the feed is read: a message that comes in between wakes the wait below.
            self.moved.mark_unchanged();
            match self.stream.next_step(std::time::Instant::now()) {
                NextStep::Write(segment) => return Some(segment.into_bytes()),
                NextStep::End(segment) => {
                    self.ended = true;
                    return Some(segment.into_bytes());
                }
                NextStep::Fetch(fetch) => tokio::select! {
                    fetched = fetch => self.stream.apply(fetched, std::time::Instant::now()),
                    _ = self.stream.connection.ended() => {}
                },
                NextStep::Wait => self.wait().await,
            }
        }
        None
    }

    /// Waits for something to send or to do.
    async fn wait(&mut self) {
        let due = Instant::from_std(self.stream.due());
        tokio::select! {
            _ = self.moved.changed() => {}
            _ = self.stream.connection.ended() => {}
            () = sleep_until(due) => {}
        }
    }
}
