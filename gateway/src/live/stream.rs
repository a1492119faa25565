//! One client's stream: its position in the room, and what moves or ends it.
//!
//! It does no input or output and never waits: its sender asks for the next segment, and until when there is none. There are
//! two senders, both of [`crate::fanout`]: a thread, and a task for what goes out through an HTTP library.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use rand::RngExt as _;
use shared::domain::{Seq, StreamCursor, Timestamp};

use super::bye_reason::ByeReason;
use super::event_kind::Kind;
use super::feed::{FeedRead, Gap};
use super::frame::{self, Framing};
use super::hub::{Hub, OpenFeed};
use super::replay_pages::ReplayError;
use super::room_events::{Ready, Reset};
use super::stream_events::{Bye, Ping, ResetReason};
use super::stream_quota::StreamLease;
use super::stream_registry::RegisteredStream;
use super::stream_start::{StreamBounds, StreamEnd, StreamStart};
use super::topics::room_topic;
use crate::fanout::{NextStep, Source, Topic, TopicWaker};
use crate::history::{HistoryRate, HistoryRates};
use crate::message_json::rfc3339;

/// Pause after history could not be read.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// When a client should come back, in milliseconds. Each gets another time, so that they do not come together.
const RETRY_MS: std::ops::RangeInclusive<u32> = 2_000..=5_000;

/// Settings that are the same for all streams.
#[derive(Debug, Clone, Copy)]
pub struct StreamSettings {
    /// Silence after which a ping is sent.
    pub heartbeat: Duration,
    /// Longest life of a stream.
    pub max_age: Duration,
}

/// What a stream is made of. The last of the steps in which [`crate::streams`] opens one makes it.
pub struct Opened {
    /// Reads what the feed does not keep.
    pub hub: Hub,
    /// The feed of the room it follows.
    pub feed: OpenFeed,
    /// Its lease, held for as long as the stream lives.
    pub lease: StreamLease,
    /// Its entry in the registry.
    pub registered: Arc<RegisteredStream>,
    /// Where it starts.
    pub start: StreamStart,
    /// When the token of its client expires.
    pub expires_on: Timestamp,
    /// How fast missed messages may be replayed.
    pub rates: HistoryRates,
}

/// One client's stream.
pub struct LiveStream {
    hub: Hub,
    feed: OpenFeed,
    registered: Arc<RegisteredStream>,
    /// Released with the last event, so that a client that comes back at once finds a lease free.
    lease: Option<StreamLease>,
    heartbeat: Duration,
    framing: Framing,
    /// The seq of the last message sent, or the position the stream started at.
    cursor: Seq,
    /// A read of history is under way.
    is_fetching: bool,
    /// A segment read from history, to be sent next, with its last seq.
    history: Option<(Bytes, Seq)>,
    /// History lacks the next message: the client is to get a `reset`.
    is_damaged: bool,
    /// History is not read before this time: a read failed, or the rate requires a pause.
    not_before: Option<Instant>,
    rates: HistoryRates,
    /// Up to here messages are replayed, at the rate of the user.
    replay_upto: Seq,
    messages_left: Option<u32>,
    ping_at: Instant,
    end: StreamEnd,
}

/// The outcome of a read of history.
pub enum ReplayRead {
    /// A segment, with the seq of its last message.
    Segment(Bytes, Seq),
    /// A message that was there is missing.
    Damaged,
    /// History could not be read now.
    Failed,
}

fn outcome(read: Result<(Bytes, Seq), Arc<ReplayError>>) -> ReplayRead {
    match read {
        Ok((segment, last)) => ReplayRead::Segment(segment, last),
        Err(error) => match *error {
            ReplayError::Hole(..) => ReplayRead::Damaged,
            ReplayError::Store(_) | ReplayError::Refused(_) => ReplayRead::Failed,
        },
    }
}

impl LiveStream {
    /// Starts a stream, at `now` by the clock of tokens. Returns its first bytes, too.
    #[must_use]
    pub fn new(
        opened: Opened,
        bounds: StreamBounds,
        settings: StreamSettings,
        now: Timestamp,
        framing: Framing,
    ) -> (Self, Bytes) {
        let Opened {
            hub,
            feed,
            lease,
            registered,
            start,
            expires_on,
            rates,
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
            registered,
            lease: Some(lease),
            heartbeat: settings.heartbeat,
            framing,
            cursor,
            is_fetching: false,
            history: None,
            is_damaged: false,
            not_before: None,
            rates,
            replay_upto: head,
            messages_left: bounds.messages,
            ping_at: began + settings.heartbeat,
            end: StreamEnd::first(began, (settings.max_age, random.random()), (expires_on, now), bounds),
            feed,
        };
        let opening = stream.opening(start, head.max(cursor), now, random.random_range(RETRY_MS));
        (stream, opening)
    }

    fn opening(&self, start: StreamStart, head: Seq, now: Timestamp, retry_ms: u32) -> Bytes {
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

    /// Why the stream ends now, if it does.
    fn reason_to_end(&self, now: Instant) -> Option<ByeReason> {
        if self.messages_left == Some(0) {
            return Some(ByeReason::Bounded);
        }
        self.registered.must_end().or_else(|| (now >= self.end.at).then_some(self.end.reason))
    }

    fn fetch(&mut self, gap: Gap, limit: usize) -> NextStep<ReplayRead> {
        self.is_fetching = true;
        self.not_before = None;
        let (hub, feed) = (self.hub.clone(), self.feed.clone());
        let (from, form) = ((self.cursor, gap), (limit, self.framing));
        // A failure is logged where history is read.
        NextStep::Fetch(async move { outcome(hub.read_behind(&feed, from, form).await) }.boxed())
    }

    fn send(&mut self, segment: Bytes, last: Seq, now: Instant) -> NextStep<ReplayRead> {
        if let Some(left) = &mut self.messages_left {
            let entries = u32::try_from(last.0 - self.cursor.0).unwrap_or(u32::MAX);
            *left = left.saturating_sub(entries.saturating_sub(frame::count_named(&segment)));
        }
        if let Some(rate) = self.replay_rate() {
            rate.charge(segment.len(), now);
        }
        self.not_before = None;
        self.cursor = last;
        self.ping_at = now + self.heartbeat;
        NextStep::Write(segment)
    }

    /// The rate that limits the next segment.
    fn replay_rate(&self) -> Option<Arc<HistoryRate>> {
        let is_replay = self.cursor < self.replay_upto;
        is_replay.then(|| self.rates.of(self.registered.user)).flatten()
    }

    /// Whether the next segment must wait for the rate. It is asked for again when the wait is over.
    fn must_wait_for_rate(&mut self, now: Instant) -> bool {
        let Some(delay) = self.replay_rate().map(|rate| rate.delay(now)) else {
            return false;
        };
        if let Some(delay) = delay {
            self.not_before = Some(now + delay);
        }
        delay.is_some()
    }

    fn ping(&mut self, now: Instant) -> NextStep<ReplayRead> {
        self.ping_at = now + self.heartbeat;
        let data = Ping {
            server_time: rfc3339(Timestamp::now()),
        };
        let ping = frame::event(Kind::Ping, Some(self.position()), &data);
        NextStep::Write(ping.bytes(self.framing))
    }

    fn bye(&mut self, reason: ByeReason) -> NextStep<ReplayRead> {
        self.lease = None;
        let data = Bye {
            reason,
            retry_ms: reason.may_come_back().then(|| rand::rng().random_range(RETRY_MS)),
        };
        NextStep::End(frame::event(Kind::Bye, Some(self.position()), &data).bytes(self.framing))
    }

    /// Sends `reset`, since what follows the position is gone, and goes on from the head.
    fn reset(&mut self, reason: ResetReason, now: Instant) -> NextStep<ReplayRead> {
        let head = self.feed.head().max(self.cursor);
        self.cursor = head;
        self.ping_at = now + self.heartbeat;
        let reset = frame::event(Kind::Reset, Some(self.position()), &Reset { reason, head });
        NextStep::Write(reset.bytes(self.framing))
    }
}

impl Source for LiveStream {
    type Fetched = ReplayRead;

    fn topics(&self) -> Vec<Topic> {
        vec![room_topic(self.feed.room)]
    }

    fn subscribe(&self, _topic: Topic, waker: &Arc<TopicWaker>) {
        self.feed.add_waker(waker);
    }

    fn must_end(&self, now: Instant) -> bool {
        self.reason_to_end(now).is_some()
    }

    async fn ended(&self) {
        self.registered.ended().await;
    }

    fn due(&self) -> Instant {
        self.not_before.unwrap_or(self.ping_at).min(self.ping_at).min(self.end.at)
    }

    fn next_step(&mut self, now: Instant) -> NextStep<ReplayRead> {
        if let Some(reason) = self.reason_to_end(now) {
            return self.bye(reason);
        }
        // After the check above: a client whose access was revoked during the read gets none of it.
        if let Some((segment, last)) = self.history.take() {
            return self.send(segment, last, now);
        }
        if std::mem::take(&mut self.is_damaged) {
            return self.reset(ResetReason::HistoryDamaged, now);
        }
        if !self.is_fetching && self.must_wait_for_rate(now) {
            return if now >= self.ping_at {
                self.ping(now)
            } else {
                NextStep::Wait
            };
        }
        let limit = self.messages_left.map_or(usize::MAX, |left| left as usize);
        match self.feed.read_after(self.cursor, limit, self.framing) {
            FeedRead::Frames(segment, last) => return self.send(segment, last, now),
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

    fn apply(&mut self, fetched: ReplayRead, now: Instant) {
        self.is_fetching = false;
        match fetched {
            ReplayRead::Segment(segment, last) => self.history = Some((segment, last)),
            ReplayRead::Damaged => self.is_damaged = true,
            ReplayRead::Failed => self.not_before = Some(now + RETRY_PAUSE),
        }
    }
}
