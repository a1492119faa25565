//! A client that follows a room, is cut off, and comes back at any gateway with a position that it has.
//!
//! Subscribers and followers differ in few things, which [`Reading`] names: which entries they understand, where they begin, and
//! where they go on.

mod reading;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

pub(super) use self::reading::{Follower, Reading, SubscriberClient};
use super::recorder::Recorder;
use crate::api_client::ApiClient;
use crate::evidence::{ByeReason, FinalPosition, Received, StreamRecord};
use crate::sse::{EventStream, SseEvent};

/// How long nothing may come, not even a ping, before the client gives its stream up as dead. Streams of the rig ping every
/// two seconds.
pub(super) const SILENCE: Duration = Duration::from_secs(7);
/// Pause before a stream that broke, or was refused, is opened again.
pub(super) const RETRY_AFTER: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(300);
/// How long a client that moves between gateways holds a stream, and how long it is offline afterwards.
pub(super) const ONLINE_FOR: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(8);
pub(super) const OFFLINE_FOR: std::ops::Range<Duration> = Duration::ZERO..Duration::from_secs(3);

/// The last seq of each room, once everything is stored.
pub(super) type Heads = Option<Arc<Vec<i64>>>;

/// A position in one epoch of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    epoch: u64,
    seq: i64,
}

/// One client in one room.
pub(super) struct RoomReader<R> {
    pub(super) number: usize,
    /// Number of the room, and its name.
    pub(super) room: usize,
    pub(super) name: String,
    /// The same user at every gateway.
    pub(super) clients: Vec<ApiClient>,
    /// Whether it cuts its own streams and is offline for a while, or holds each for as long as it lasts.
    pub(super) roams: bool,
    pub(super) rng: StdRng,
    pub(super) recorder: Arc<Recorder>,
    pub(super) heads: watch::Receiver<Heads>,
    /// Up to where it has everything.
    pub(super) position: Option<Position>,
    /// When it gives up; `None` while the run goes on.
    pub(super) deadline: Option<Instant>,
    /// Has it leave its stream and come back at once, if it waits for that.
    pub(super) returns: Option<Arc<Notify>>,
    /// How it reads.
    pub(super) reading: R,
}

impl<R: Reading> RoomReader<R> {
    /// Follows the room until its last entry has come, or until `settle_within` after the heads were announced; returns how
    /// far it got.
    pub(super) async fn run(mut self, settle_within: Duration) -> FinalPosition {
        loop {
            let deadline = self.deadline(settle_within);
            if self.has_all() || deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return FinalPosition {
                    subscriber: self.number,
                    room: self.room,
                    last: self.position.map_or(0, |position| position.seq),
                };
            }
            let gateway = self.rng.random_range(0..self.clients.len());
            let mut request = self.clients[gateway].stream(&self.name);
            let cursor = self.cursor();
            if let Some(Position { epoch, seq }) = cursor {
                request = request.after(&format!("{epoch}-{seq}"));
            }
            let requested = self.recorder.now();
            if let Ok(stream) = request.open().await {
                let record = self.begin(gateway, cursor, requested, &stream);
                let record = self.follow(record, stream, settle_within).await;
                R::add_stream(&self.recorder, record);
            }
            let pause = if self.roams && self.deadline.is_none() {
                OFFLINE_FOR
            } else {
                RETRY_AFTER
            };
            sleep(self.rng.random_range(pause)).await;
        }
    }

    /// Where to go on; `None` before the first stream.
    fn cursor(&mut self) -> Option<Position> {
        let last = self.position?;
        let seq = if self.deadline.is_some() {
            last.seq
        } else {
            self.reading.resumes_after(last.seq, &mut self.rng)
        };
        Some(Position { seq, ..last })
    }

    /// When to give up, once the heads are known.
    fn deadline(&mut self, settle_within: Duration) -> Option<Instant> {
        if self.deadline.is_none() && self.heads.borrow().is_some() {
            self.deadline = Some(Instant::now() + settle_within);
        }
        self.deadline
    }

    /// True when the heads are known and this client has its room's last entry.
    fn has_all(&self) -> bool {
        let head = self.heads.borrow().as_ref().map(|heads| heads[self.room]);
        head.is_some_and(|head| self.position.is_some_and(|position| position.seq >= head))
    }

    /// The record of a stream that has begun.
    fn begin(
        &self,
        gateway: usize,
        cursor: Option<Position>,
        requested: Duration,
        stream: &EventStream,
    ) -> StreamRecord<R::Entry> {
        let ready = stream.ready();
        StreamRecord {
            subscriber: self.number,
            room: self.room,
            gateway,
            resumed_after: cursor.map(|cursor| cursor.seq),
            resumed_epoch: cursor.map(|cursor| cursor.epoch),
            ready: ready.seq().unwrap_or(-1),
            epoch: ready.epoch().unwrap_or(0),
            reset: None,
            received: Vec::new(),
            unexpected_events: Vec::new(),
            requested,
            opened: self.recorder.now(),
            bye: None,
        }
    }

    /// Reads a stream until it ends, breaks, or the client leaves it.
    async fn follow(
        &mut self,
        mut record: StreamRecord<R::Entry>,
        mut stream: EventStream,
        settle_within: Duration,
    ) -> StreamRecord<R::Entry> {
        let (epoch, ready) = (record.epoch, record.ready);
        if R::WANTS_ALL && record.resumed_after.is_none() && ready > 0 {
            // It has come late, and begins at the beginning.
            self.position = Some(Position { epoch, seq: 0 });
            return record;
        }
        self.position = Some(Position { epoch, seq: ready });
        let leave = self.roams.then(|| Instant::now() + self.rng.random_range(ONLINE_FOR));
        let returns = self.returns.clone();
        while !self.has_all() {
            let silent = Instant::now() + SILENCE;
            let until = self.deadline(settle_within).or(leave).map_or(silent, |end| end.min(silent));
            tokio::select! {
                event = timeout_at(until, stream.next(SILENCE)) => match event {
                    Ok(Ok(Some(event))) if self.record_event(&event, &mut record) => {}
                    _ => break,
                },
                () = notified(returns.as_deref()) => break,
                // The heads were announced: the loop checks again whether there is more to come.
                _ = self.heads.changed() => {}
            }
        }
        record
    }

    /// Records an event; false if nothing more of its stream is to be read.
    fn record_event(&mut self, event: &SseEvent, record: &mut StreamRecord<R::Entry>) -> bool {
        let epoch = record.epoch;
        match event.name.as_str() {
            "ping" => {}
            "reset" => {
                record.reset = event.json().ok().and_then(|data| data["head"].as_i64()).or(Some(-1));
                if R::WANTS_ALL {
                    // What it has may be outdated: everything is fetched again.
                    self.position = Some(Position { epoch, seq: 0 });
                    return false;
                }
                match event.seq() {
                    Ok(seq) => self.position = Some(Position { epoch, seq }),
                    Err(failure) => record.unexpected_events.push(failure.to_string()),
                }
            }
            "bye" => {
                record.bye = ByeReason::of(event);
                return false;
            }
            name => match (event.json().ok().and_then(|data| R::parse(name, &data)), event.seq()) {
                (Some(entry), Ok(cursor)) => {
                    self.position = Some(Position { epoch, seq: cursor });
                    let at = self.recorder.now();
                    record.received.push(Received { entry, cursor, at });
                }
                (None, _) | (_, Err(_)) => record.unexpected_events.push(format!("{event:?}")),
            },
        }
        true
    }
}

/// Waits until `returns` is notified; for ever if there is none.
async fn notified(returns: Option<&Notify>) {
    match returns {
        Some(returns) => returns.notified().await,
        None => std::future::pending().await,
    }
}
