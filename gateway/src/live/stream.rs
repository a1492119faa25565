//! One client's stream: its position, and what moves it or ends it.
//!
//! It does no input or output and never waits: whoever sends it asks for the next segment, and how long there is none. Two
//! do so: a thread of [`crate::fanout`], and [`mod@super::chunks`] for what goes out through an HTTP library.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use rand::RngExt as _;
use shared::domain::{Seq, StreamCursor, Timestamp};

use super::feed::{FeedRead, Gap};
use super::frame::{self, Bye, Frame, Framing, Kind, Ping, Ready, Reset, ResetReason};
use super::hub::{Hub, OpenFeed};
use super::replay_pages::ReplayError;
use super::stream_quota::StreamLease;
use super::stream_registry::{ByeReason, RegisteredStream};
use super::stream_start::{StreamBounds, StreamEnd, StreamStart};
use crate::fanout::{NextStep, Segment, Source, Topic, TopicWaker};
use crate::history::HistoryRate;
use crate::message::rfc3339;

/// Pause after history could not be read.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// When a client should come back, in milliseconds; each is told another time, so that they do not come together.
const RETRY_MS: std::ops::RangeInclusive<u32> = 2_000..=5_000;

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
    pub connection: Arc<RegisteredStream>,
    /// Counts for as long as the stream lives.
    pub lease: StreamLease,
    /// Where it begins.
    pub start: StreamStart,
    /// When it ends by itself.
    pub bounds: StreamBounds,
    /// When its token expires.
    pub expires_on: Timestamp,
    /// How fast it may be brought up to date; `None` without a limit.
    pub replay: Option<Arc<HistoryRate>>,
}

/// One client's stream.
pub struct LiveStream {
    hub: Hub,
    pub(super) feed: OpenFeed,
    pub(super) connection: Arc<RegisteredStream>,
    /// Released with the last word, so that a client that comes back at once finds its place free.
    lease: Option<StreamLease>,
    heartbeat: Duration,
    framing: Framing,
    /// The last message sent, or the position the stream began at.
    cursor: Seq,
    /// History is being read.
    is_fetching: bool,
    /// Read from history, and to be sent next.
    history: Option<(Bytes, Seq)>,
    /// History lacks what comes next: the client is to be told.
    is_damaged: bool,
    /// History could not be read: not again before.
    not_before: Option<Instant>,
    /// The rate at which it is brought up to date, and up to which seq that is; `None` without a limit.
    replay: Option<(Arc<HistoryRate>, Seq)>,
    messages_left: Option<u32>,
    ping_at: Instant,
    end: StreamEnd,
}

/// What came of reading history.
pub enum History {
    /// A segment of it, with the seq of its last message.
    Segment(Bytes, Seq),
    /// A message is missing that was there.
    Damaged,
    /// It could not be read now.
    Failed,
}

fn history(read: Result<(Bytes, Seq), Arc<ReplayError>>) -> History {
    match read {
        Ok((segment, last)) => History::Segment(segment, last),
        Err(error) => match *error {
            ReplayError::Hole(..) => History::Damaged,
            ReplayError::Store(_) | ReplayError::Refused(_) => History::Failed,
        },
    }
}

impl LiveStream {
    /// Begins a stream, at `now` by the clock of tokens; returns what it says first, too.
    #[must_use]
    pub fn new(opened: Opened, settings: StreamSettings, now: Timestamp, framing: Framing) -> (Self, Bytes) {
        let Opened {
            hub,
            feed,
            connection,
            lease,
            start,
            bounds,
            expires_on,
            replay,
        } = opened;
        let began = Instant::now();
        let mut random = rand::rng();
        let head = feed.head();
        let cursor = match start {
            StreamStart::After(seq) => seq,
            StreamStart::Head | StreamStart::Reset(_) => head,
        };
        let stream = Self {
            hub,
            connection,
            lease: Some(lease),
            heartbeat: settings.heartbeat,
            framing,
            cursor,
            is_fetching: false,
            history: None,
            is_damaged: false,
            not_before: None,
            replay: replay.map(|replay| (replay, head)),
            messages_left: bounds.messages,
            ping_at: began + settings.heartbeat,
            end: StreamEnd::first(began, (settings.max_age, random.random()), (expires_on, now), bounds),
            feed,
        };
        let opening = stream.open(start, head.max(cursor), now, random.random_range(RETRY_MS));
        (stream, opening)
    }

    fn open(&self, start: StreamStart, head: Seq, now: Timestamp, retry_ms: u32) -> Bytes {
        let mut out = frame::prelude(retry_ms);
        let ready = Ready {
            room: &self.feed.name,
            head,
            recovered: matches!(start, StreamStart::After(_)),
            missed: head.0 - self.cursor.0,
            heartbeat_s: self.heartbeat.as_secs(),
            server_time: rfc3339(now),
        };
        frame::push_event(&mut out, Kind::Ready, Some(self.position()), &ready);
        if let StreamStart::Reset(reason) = start {
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

    /// When there is something to say or to do although nothing happens.
    pub(super) fn due(&self) -> Instant {
        self.not_before.unwrap_or(self.ping_at).min(self.ping_at).min(self.end.at)
    }

    /// Why the stream ends now, if it does.
    fn reason_to_end(&self, now: Instant) -> Option<ByeReason> {
        if self.messages_left == Some(0) {
            return Some(ByeReason::Bounded);
        }
        self.connection.must_end().or_else(|| (now >= self.end.at).then_some(self.end.reason))
    }

    fn fetch(&mut self, gap: Gap, limit: usize) -> NextStep<History> {
        self.is_fetching = true;
        self.not_before = None;
        let (hub, feed) = (self.hub.clone(), self.feed.clone());
        let (from, form) = ((self.cursor, gap), (limit, self.framing));
        // What fails is logged where it is read.
        NextStep::Fetch(async move { history(hub.read_behind(&feed, from, form).await) }.boxed())
    }

    fn sent(&mut self, segment: Bytes, last: Seq, now: Instant) -> NextStep<History> {
        let count = u32::try_from(last.0 - self.cursor.0).unwrap_or(u32::MAX);
        if let Some(left) = &mut self.messages_left {
            *left = left.saturating_sub(count);
        }
        if let Some(replay) = self.replay() {
            replay.charge(segment.len(), now);
        }
        self.not_before = None;
        self.cursor = last;
        self.ping_at = now + self.heartbeat;
        NextStep::Write(Segment::shared(segment))
    }

    /// The rate that holds for what comes next.
    fn replay(&self) -> Option<&HistoryRate> {
        let (replay, upto) = self.replay.as_ref()?;
        (self.cursor < *upto).then_some(replay)
    }

    /// Whether what comes next must wait for its rate. It is asked for again when that is over.
    fn is_held_back(&mut self, now: Instant) -> bool {
        let Some(wait) = self.replay().map(|replay| replay.delay(now)) else {
            return false;
        };
        if let Some(wait) = wait {
            self.not_before = Some(now + wait);
        }
        wait.is_some()
    }

    fn ping(&mut self, now: Instant) -> NextStep<History> {
        self.ping_at = now + self.heartbeat;
        let data = Ping {
            server_time: rfc3339(Timestamp::now()),
        };
        let ping = frame::event(Kind::Ping, Some(self.position()), &data);
        NextStep::Write(self.own(&ping))
    }

    fn bye(&mut self, reason: ByeReason) -> NextStep<History> {
        self.lease = None;
        let data = Bye {
            reason,
            retry_ms: reason.may_come_back().then(|| rand::rng().random_range(RETRY_MS)),
        };
        NextStep::End(self.own(&frame::event(Kind::Bye, Some(self.position()), &data)))
    }

    /// Tells the client that what follows its position is gone, and goes on from the head.
    fn reset(&mut self, reason: ResetReason, now: Instant) -> NextStep<History> {
        let head = self.feed.head().max(self.cursor);
        self.cursor = head;
        self.ping_at = now + self.heartbeat;
        let reset = frame::event(Kind::Reset, Some(self.position()), &Reset { reason, head });
        NextStep::Write(self.own(&reset))
    }

    fn own(&self, frame: &Frame) -> Segment {
        Segment::shared(frame.bytes(self.framing))
    }
}

impl Source for LiveStream {
    type Fetched = History;

    fn topics(&self) -> Vec<Topic> {
        vec![self.feed.room.0]
    }

    fn subscribe(&self, _topic: Topic, waker: &Arc<TopicWaker>) {
        self.feed.add_waker(waker);
    }

    fn must_end(&self, now: Instant) -> bool {
        self.reason_to_end(now).is_some()
    }

    fn next_step(&mut self, now: Instant) -> NextStep<History> {
        if let Some(reason) = self.reason_to_end(now) {
            return self.bye(reason);
        }
        // Whoever was shut out while it was read gets none of it.
        if let Some((segment, last)) = self.history.take() {
            return self.sent(segment, last, now);
        }
        if std::mem::take(&mut self.is_damaged) {
            return self.reset(ResetReason::HistoryDamaged, now);
        }
        if !self.is_fetching && self.is_held_back(now) {
            return if now >= self.ping_at {
                self.ping(now)
            } else {
                NextStep::Wait
            };
        }
        let limit = self.messages_left.map_or(usize::MAX, |left| left as usize);
        match self.feed.read_after(self.cursor, limit, self.framing) {
            FeedRead::Frames(segment, last) => return self.sent(segment, last, now),
            FeedRead::Behind(gap) if !self.is_fetching && self.not_before.is_none_or(|time| now >= time) => {
                return self.fetch(gap, limit);
            }
            FeedRead::Behind(_) | FeedRead::UpToDate => {}
        }
        if now >= self.ping_at {
            return self.ping(now);
        }
        NextStep::Wait
    }

    fn apply(&mut self, fetched: History, now: Instant) {
        self.is_fetching = false;
        match fetched {
            History::Segment(segment, last) => self.history = Some((segment, last)),
            History::Damaged => self.is_damaged = true,
            History::Failed => self.not_before = Some(now + RETRY_PAUSE),
        }
    }
}
