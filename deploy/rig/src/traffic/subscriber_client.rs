//! A client that follows a room, is cut off, sleeps, and comes back at any gateway with the last id it saw.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::plan::room_name;
use super::recorder::Recorder;
use crate::api_client::ApiClient;
use crate::evidence::{ByeReason, FinalPosition, Message, Received, StreamRecord};
use crate::sse::{EventStream, SseEvent};

/// How long nothing may come, not even a ping, before the client gives its stream up as dead. Streams of the rig ping every
/// two seconds.
pub(super) const SILENCE: Duration = Duration::from_secs(7);
/// Pause before a stream that broke, or was refused, is opened again.
pub(super) const RETRY_AFTER: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(300);
/// How long a client that moves between gateways holds a stream, and how long it sleeps afterwards.
pub(super) const STAYS: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(8);
pub(super) const SLEEPS: std::ops::Range<Duration> = Duration::ZERO..Duration::from_secs(3);

/// The last seq of each room, once everything is stored.
pub(super) type Heads = Option<Arc<Vec<i64>>>;

/// One subscriber in one room.
pub(super) struct SubscriberClient {
    pub(super) number: usize,
    pub(super) room: usize,
    /// The same user at every gateway.
    pub(super) clients: Vec<ApiClient>,
    /// Whether it cuts its own streams and sleeps, or holds each for as long as it lasts.
    pub(super) roams: bool,
    pub(super) rng: StdRng,
    pub(super) recorder: Arc<Recorder>,
    pub(super) heads: watch::Receiver<Heads>,
    /// The last id and seq seen.
    pub(super) last: Option<(String, i64)>,
    /// The epoch of that id.
    pub(super) epoch: Option<u64>,
    /// When it gives up; `None` while the run goes on.
    pub(super) deadline: Option<Instant>,
}

impl SubscriberClient {
    /// Follows the room until its last message has come, or until `settle_within` after the heads were announced; returns
    /// how far it got.
    pub(super) async fn run(mut self, settle_within: Duration) -> FinalPosition {
        loop {
            let deadline = self.deadline(settle_within);
            if self.has_all() || deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return FinalPosition {
                    subscriber: self.number,
                    room: self.room,
                    last: self.last.as_ref().map_or(0, |(_, seq)| *seq),
                };
            }
            let gateway = self.rng.random_range(0..self.clients.len());
            let mut request = self.clients[gateway].stream(&room_name(self.room));
            if let Some((id, _)) = &self.last {
                request = request.after(id);
            }
            if let Ok(stream) = request.open().await {
                let record = self.follow(gateway, stream, settle_within).await;
                self.recorder.add_stream(record);
            }
            let pause = if self.roams && deadline.is_none() {
                SLEEPS
            } else {
                RETRY_AFTER
            };
            sleep(self.rng.random_range(pause)).await;
        }
    }

    /// When to give up, once the heads are known.
    fn deadline(&mut self, settle_within: Duration) -> Option<Instant> {
        if self.deadline.is_none() && self.heads.borrow().is_some() {
            self.deadline = Some(Instant::now() + settle_within);
        }
        self.deadline
    }

    /// True when the heads are known and this client has its room's last message.
    fn has_all(&self) -> bool {
        let head = self.heads.borrow().as_ref().map(|heads| heads[self.room]);
        head.is_some_and(|head| self.last.as_ref().is_some_and(|(_, seq)| *seq >= head))
    }

    /// Reads a stream until it ends, breaks, or the client leaves it.
    async fn follow(&mut self, gateway: usize, mut stream: EventStream, settle_within: Duration) -> StreamRecord {
        let ready = stream.ready().clone();
        let mut record = StreamRecord {
            subscriber: self.number,
            room: self.room,
            gateway,
            resumed_after: self.last.as_ref().map(|(_, seq)| *seq),
            resumed_epoch: self.epoch,
            ready: ready.seq().unwrap_or(-1),
            epoch: ready.epoch().unwrap_or(0),
            reset: None,
            received: Vec::new(),
            unexpected_events: Vec::new(),
            opened: self.recorder.now(),
            bye: None,
        };
        self.last = Some((ready.id, record.ready));
        self.epoch = Some(record.epoch);
        let leave = self.roams.then(|| Instant::now() + self.rng.random_range(STAYS));
        while !self.has_all() {
            let silent = Instant::now() + SILENCE;
            let until = self.deadline(settle_within).or(leave).map_or(silent, |end| end.min(silent));
            tokio::select! {
                event = timeout_at(until, stream.next(SILENCE)) => match event {
                    Ok(Ok(Some(event))) if self.record_event(&event, &mut record) => {}
                    _ => break,
                },
                // The heads were announced: the loop checks again whether there is more to come.
                _ = self.heads.changed() => {}
            }
        }
        record
    }

    /// Records an event; false if it is the last one of its stream.
    fn record_event(&mut self, event: &SseEvent, record: &mut StreamRecord) -> bool {
        if !event.id.is_empty() {
            match event.seq() {
                Ok(seq) => self.last = Some((event.id.clone(), seq)),
                Err(failure) => record.unexpected_events.push(failure.to_string()),
            }
        }
        match event.name.as_str() {
            "message" => match event.json().ok().as_ref().and_then(Message::parse) {
                Some(message) => record.received.push(Received {
                    message,
                    cursor: self.last.as_ref().map_or(-1, |(_, seq)| *seq),
                    at: self.recorder.now(),
                }),
                None => record.unexpected_events.push(format!("{event:?}")),
            },
            "reset" => record.reset = event.json().ok().and_then(|data| data["head"].as_i64()),
            "ping" => {}
            "bye" => {
                record.bye = ByeReason::of(event);
                return false;
            }
            _ => record.unexpected_events.push(format!("{event:?}")),
        }
        true
    }
}
