//! One client's stream: its position, and what moves it or ends it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use rand::RngExt as _;
use shared::domain::{Epoch, Seq, StreamCursor, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::connections::{ByeReason, Connection};
use super::feed::Read;
use super::frame::{self, Bye, Kind, Ping, Ready, Reset, ResetReason};
use super::hub::{Hub, OpenFeed};
use super::places::Place;
use crate::message::rfc3339;

/// Messages sent in one piece at most, so that a fast room does not build large chunks for a slow client.
const CHUNK: u32 = 128;

/// Pause after history could not be read.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// When a client should come back, in milliseconds; each is told another time, so that they do not come together.
const RETRY_MS: std::ops::RangeInclusive<u32> = 2_000..=5_000;

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Without a past.
    Head,
    /// After what the client has.
    After(Seq),
    /// Without a past, since the client's is of no use.
    Reset(ResetReason),
}

impl Start {
    /// Decides from the cursor a client sent, the room's epoch and head, and how much it wants to have replayed.
    #[must_use]
    pub fn decide(cursor: Option<&str>, epoch: Epoch, head: Seq, max_replay: Option<u32>) -> Self {
        let Some(raw) = cursor else {
            return Self::Head;
        };
        match StreamCursor::parse(raw) {
            Err(_) => Self::Reset(ResetReason::Malformed),
            Ok(cursor) if cursor.epoch != epoch => Self::Reset(ResetReason::ForeignEpoch),
            Ok(cursor) if cursor.seq > head => Self::Reset(ResetReason::Ahead),
            Ok(cursor) if max_replay.is_some_and(|max| head.0 - cursor.seq.0 > i64::from(max)) => {
                Self::Reset(ResetReason::TooMany)
            }
            Ok(cursor) => Self::After(cursor.seq),
        }
    }
}

/// When a stream ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// After this many messages.
    pub messages: Option<u32>,
    /// After this time.
    pub time: Option<Duration>,
}

/// What is the same for all streams.
#[derive(Debug, Clone, Copy)]
pub struct StreamSettings {
    /// Silence after which a ping is sent.
    pub heartbeat: Duration,
    /// Longest life.
    pub max_age: Duration,
}

/// What a stream is opened with.
pub struct Opened {
    /// For what the feed does not keep.
    pub hub: Hub,
    /// What it follows.
    pub feed: OpenFeed,
    /// Its entry in the register.
    pub connection: Arc<Connection>,
    /// Counts for as long as the stream lives.
    pub place: Place,
    /// Where it begins.
    pub start: Start,
    /// When it ends by itself.
    pub bounds: Bounds,
    /// When its token expires.
    pub expires_on: Timestamp,
}

/// One client's stream.
pub struct LiveStream {
    hub: Hub,
    feed: OpenFeed,
    moved: watch::Receiver<Seq>,
    connection: Arc<Connection>,
    _place: Place,
    soft: CancellationToken,
    heartbeat: Duration,
    /// The last message sent, or the position the stream began at.
    cursor: Seq,
    opening: Option<Bytes>,
    messages_left: Option<u32>,
    ping_at: Instant,
    ends: (Instant, ByeReason),
    done: bool,
}

impl LiveStream {
    /// Begins a stream, at `now` by the clock of tokens; it ends when `soft` is cancelled.
    #[must_use]
    pub fn new(opened: Opened, settings: StreamSettings, now: Timestamp, soft: CancellationToken) -> Self {
        let Opened {
            hub,
            feed,
            connection,
            place,
            start,
            bounds,
            expires_on,
        } = opened;
        let began = Instant::now();
        let jitter = rand::rng().random_range(0.8..1.0);
        let mut ends = (began + settings.max_age.mul_f64(jitter), ByeReason::MaxAge);
        let others = [
            (Some(expires_on.until(now)), ByeReason::TokenExpired),
            (bounds.time, ByeReason::Bounded),
        ];
        for (after, reason) in others {
            match after.map(|after| began + after) {
                Some(at) if at < ends.0 => ends = (at, reason),
                _ => {}
            }
        }
        let moved = feed.follow();
        let head = feed.head();
        let cursor = match start {
            Start::After(seq) => seq,
            Start::Head | Start::Reset(_) => head,
        };
        let mut stream = Self {
            hub,
            moved,
            connection,
            _place: place,
            soft,
            heartbeat: settings.heartbeat,
            cursor,
            opening: None,
            messages_left: bounds.messages,
            ping_at: began + settings.heartbeat,
            ends,
            done: false,
            feed,
        };
        stream.opening = Some(stream.open(start, head.max(cursor), now));
        stream
    }

    fn open(&self, start: Start, head: Seq, now: Timestamp) -> Bytes {
        let mut out = frame::prelude(rand::rng().random_range(RETRY_MS));
        let ready = Ready {
            room: &self.feed.name,
            head,
            recovered: matches!(start, Start::After(_)),
            missed: head.0 - self.cursor.0,
            heartbeat_s: self.heartbeat.as_secs(),
            server_time: rfc3339(now),
        };
        frame::push_event(&mut out, Kind::Ready, Some(self.position()), &ready);
        if let Start::Reset(reason) = start {
            frame::push_event(&mut out, Kind::Reset, Some(self.position()), &Reset { reason, head });
        }
        out.into()
    }

    fn position(&self) -> StreamCursor {
        StreamCursor {
            epoch: self.feed.epoch,
            seq: self.cursor,
        }
    }

    /// The stream as the chunks of a response body.
    pub fn into_chunks(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
        futures_util::stream::unfold(self, |mut stream| async move {
            let chunk = stream.next().await?;
            Some((Ok(chunk), stream))
        })
    }

    /// The next bytes to write; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        if self.done {
            return None;
        }
        loop {
            if let Some(reason) = self.must_end() {
                return Some(self.bye(reason));
            }
            // Marked as seen before the feed is read: a message that comes in between wakes the wait below.
            self.moved.mark_unchanged();
            let limit = self.messages_left.unwrap_or(CHUNK).min(CHUNK);
            match self.feed.read_after(self.cursor, limit as usize) {
                Read::Frames(frames, last) => return Some(self.sent(frames, last)),
                Read::Behind(gap) => match self.hub.read_behind(&self.feed, (self.cursor, gap), limit).await {
                    // Whoever was shut out meanwhile gets none of it.
                    Ok(_) if self.must_end().is_some() => continue,
                    Ok((frames, last)) => return Some(self.sent(frames, last)),
                    // It is logged where it was read.
                    Err(_) => self.rest().await,
                },
                Read::UpToDate => self.wait().await,
            }
            if Instant::now() >= self.ping_at {
                return Some(self.ping());
            }
        }
    }

    /// Why the stream ends now, if it does.
    fn must_end(&self) -> Option<ByeReason> {
        if self.messages_left == Some(0) {
            return Some(ByeReason::Bounded);
        }
        if self.soft.is_cancelled() {
            return Some(ByeReason::Shutdown);
        }
        let timed_out = (Instant::now() >= self.ends.0).then_some(self.ends.1);
        self.connection.must_end().or(timed_out)
    }

    /// Waits for something to send or to do.
    async fn wait(&mut self) {
        let until = self.ping_at.min(self.ends.0);
        tokio::select! {
            _ = self.moved.changed() => {}
            () = self.soft.cancelled() => {}
            _ = self.connection.ended() => {}
            () = sleep_until(until) => {}
        }
    }

    /// Waits a little although there is something to send, but not beyond the end of the stream.
    async fn rest(&mut self) {
        let until = Instant::now() + RETRY_PAUSE;
        tokio::select! {
            () = self.soft.cancelled() => {}
            _ = self.connection.ended() => {}
            () = sleep_until(until.min(self.ends.0)) => {}
        }
    }

    fn sent(&mut self, frames: Bytes, last: Seq) -> Bytes {
        let count = u32::try_from(last.0 - self.cursor.0).unwrap_or(u32::MAX);
        if let Some(left) = &mut self.messages_left {
            *left = left.saturating_sub(count);
        }
        self.cursor = last;
        self.ping_at = Instant::now() + self.heartbeat;
        frames
    }

    fn ping(&mut self) -> Bytes {
        self.ping_at = Instant::now() + self.heartbeat;
        let mut out = String::new();
        let data = Ping {
            server_time: rfc3339(Timestamp::now()),
        };
        frame::push_event(&mut out, Kind::Ping, Some(self.position()), &data);
        out.into()
    }

    fn bye(&mut self, reason: ByeReason) -> Bytes {
        self.done = true;
        let mut out = String::new();
        let data = Bye {
            reason,
            retry_ms: rand::rng().random_range(RETRY_MS),
        };
        frame::push_event(&mut out, Kind::Bye, None, &data);
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_followed_or_its_fault_is_named() {
        let decide = |cursor, max_replay| Start::decide(cursor, Epoch(9), Seq(100), max_replay);
        assert_eq!(decide(None, None), Start::Head);
        assert_eq!(decide(Some("9-100"), None), Start::After(Seq(100)));
        assert_eq!(decide(Some("9-0"), None), Start::After(Seq(0)));
        assert_eq!(decide(Some("9-0"), Some(100)), Start::After(Seq(0)));
        assert_eq!(decide(Some("9-0"), Some(99)), Start::Reset(ResetReason::TooMany));
        assert_eq!(decide(Some("9-101"), None), Start::Reset(ResetReason::Ahead));
        assert_eq!(decide(Some("8-100"), None), Start::Reset(ResetReason::ForeignEpoch));
        for bad in ["", "100", "9-", "9-x", "9--1"] {
            assert_eq!(decide(Some(bad), None), Start::Reset(ResetReason::Malformed), "{bad:?}");
        }
    }
}
