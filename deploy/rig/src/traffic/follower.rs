//! A client that applies the whole log of an edited room, is cut off, comes back at any gateway with the last id it has, and
//! now and then starts anew from an id it kept from earlier.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::plan::edited_room_name;
use super::recorder::Recorder;
use super::subscriber_client::{Heads, RETRY_AFTER, SILENCE, SLEEPS, STAYS};
use crate::api_client::ApiClient;
use crate::evidence::{ByeReason, FinalPosition, FollowedStream, LogEntry, ReceivedEntry, StreamRecord};
use crate::sse::{EventStream, SseEvent};

/// How often a follower that comes back uses an id from earlier.
const STARTS_ANEW: f64 = 0.3;
/// How often this may be any id, and how far back it lies otherwise: whole replays of a long log are a load of their own.
const ANY_ID: f64 = 0.2;
const RECENT: i64 = 200;

/// A position in one epoch of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    epoch: u64,
    seq: i64,
}

/// One follower of one edited room.
pub(super) struct Follower {
    pub(super) number: usize,
    /// Number of the edited room.
    pub(super) room: usize,
    /// The same user at every gateway.
    pub(super) clients: Vec<ApiClient>,
    /// Whether it cuts its own streams and sleeps, or holds each for as long as it lasts.
    pub(super) roams: bool,
    pub(super) rng: StdRng,
    pub(super) recorder: Arc<Recorder>,
    pub(super) heads: watch::Receiver<Heads>,
    /// What it has got to; everything up to there was received since position 0.
    pub(super) position: Option<Position>,
    /// When it gives up; `None` while the run goes on.
    pub(super) deadline: Option<Instant>,
}

impl Follower {
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
            let mut request = self.clients[gateway].stream(&edited_room_name(self.room));
            let cursor = self.cursor();
            if let Some(Position { epoch, seq }) = cursor {
                request = request.after(&format!("{epoch}-{seq}"));
            }
            if let Ok(stream) = request.open().await {
                let followed = self.follow((gateway, cursor), stream, settle_within).await;
                self.recorder.add_followed_stream(followed);
            }
            let pause = if self.roams && self.deadline.is_none() {
                SLEEPS
            } else {
                RETRY_AFTER
            };
            sleep(self.rng.random_range(pause)).await;
        }
    }

    /// Where to go on: after the last entry, or after an earlier one.
    fn cursor(&mut self) -> Option<Position> {
        let last = self.position?;
        if self.deadline.is_some() || !self.rng.random_bool(STARTS_ANEW) {
            return Some(last);
        }
        let first = if self.rng.random_bool(ANY_ID) {
            0
        } else {
            (last.seq - RECENT).max(0)
        };
        Some(Position {
            seq: self.rng.random_range(first..=last.seq),
            ..last
        })
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

    /// Reads a stream until it ends, breaks, or the client leaves it.
    async fn follow(
        &mut self,
        (gateway, cursor): (usize, Option<Position>),
        mut stream: EventStream,
        settle_within: Duration,
    ) -> FollowedStream {
        let ready = stream.ready();
        let position = Position {
            epoch: ready.epoch().unwrap_or(0),
            seq: ready.seq().unwrap_or(-1),
        };
        let mut followed = FollowedStream {
            stream: StreamRecord {
                subscriber: self.number,
                room: self.room,
                gateway,
                resumed_after: cursor.map(|cursor| cursor.seq),
                resumed_epoch: cursor.map(|cursor| cursor.epoch),
                ready: position.seq,
                epoch: position.epoch,
                reset: None,
                received: Vec::new(),
                unexpected_events: Vec::new(),
                opened: self.recorder.now(),
                bye: None,
            },
            entries: Vec::new(),
        };
        if cursor.is_none() && position.seq > 0 {
            // It has come late, and begins at the beginning.
            self.position = Some(Position { seq: 0, ..position });
            return followed;
        }
        self.position = Some(position);
        let leave = self.roams.then(|| Instant::now() + self.rng.random_range(STAYS));
        while !self.has_all() {
            let silent = Instant::now() + SILENCE;
            let until = self.deadline(settle_within).or(leave).map_or(silent, |end| end.min(silent));
            tokio::select! {
                event = timeout_at(until, stream.next(SILENCE)) => match event {
                    Ok(Ok(Some(event))) if self.record_event(&event, &mut followed) => {}
                    _ => break,
                },
                // The heads were announced: the loop checks again whether there is more to come.
                _ = self.heads.changed() => {}
            }
        }
        followed
    }

    /// Records an event; false if nothing more of its stream is to be read.
    fn record_event(&mut self, event: &SseEvent, followed: &mut FollowedStream) -> bool {
        let record = &mut followed.stream;
        match event.name.as_str() {
            "ping" => {}
            "reset" => {
                record.reset = event.json().ok().and_then(|data| data["head"].as_i64()).or(Some(-1));
                // What it has may be outdated: everything is fetched again.
                self.position = Some(Position {
                    epoch: record.epoch,
                    seq: 0,
                });
                return false;
            }
            "bye" => {
                record.bye = ByeReason::of(event);
                return false;
            }
            name => match (event.json().ok().and_then(|data| LogEntry::parse(name, &data)), event.seq()) {
                (Some(entry), Ok(cursor)) => {
                    self.position = Some(Position {
                        epoch: record.epoch,
                        seq: cursor,
                    });
                    let at = self.recorder.now();
                    followed.entries.push(ReceivedEntry { entry, cursor, at });
                }
                (None, _) | (_, Err(_)) => record.unexpected_events.push(format!("{event:?}")),
            },
        }
        true
    }
}
