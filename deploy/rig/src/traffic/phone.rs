//! Somebody who follows a room, is cut off, sleeps, and comes back at any gateway with the last id seen.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::book::Book;
use crate::evidence::{Arrival, Bye, Heard, Session, Shown};
use crate::{App, Event, EventStream};

/// How long a phone hears nothing, not even a ping, before it takes its stream for dead. Streams of the rig ping every
/// two seconds.
const SILENCE: Duration = Duration::from_secs(7);
/// Pause before a stream that broke, or was refused, is opened again.
const AGAIN_AFTER: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(300);
/// How long a phone that moves about stays, and how long it sleeps afterwards.
const STAYS: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(8);
const SLEEPS: std::ops::Range<Duration> = Duration::ZERO..Duration::from_secs(3);

/// The last seq of each room, once all is stored.
pub(super) type Heads = Option<Arc<Vec<i64>>>;

/// One phone in one room.
pub(super) struct Phone {
    pub(super) number: usize,
    pub(super) room: usize,
    /// The same user at every gateway.
    pub(super) doors: Vec<App>,
    /// Whether it cuts its own streams and sleeps, or holds each for as long as it lasts.
    pub(super) roams: bool,
    pub(super) rng: StdRng,
    pub(super) book: Arc<Book>,
    pub(super) heads: watch::Receiver<Heads>,
    /// The last id and seq seen.
    pub(super) last: Option<(String, i64)>,
    /// The epoch of that id.
    pub(super) epoch: Option<u64>,
    /// When it gives up; `None` while the run goes on.
    pub(super) deadline: Option<Instant>,
}

impl Phone {
    /// Follows the room until its last message is there, or until `settle_within` after the heads were told; returns how
    /// far it came.
    pub(super) async fn run(mut self, settle_within: Duration) -> Arrival {
        loop {
            let deadline = self.deadline(settle_within);
            if self.has_all() || deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Arrival {
                    phone: self.number,
                    room: self.room,
                    last: self.last.as_ref().map_or(0, |(_, seq)| *seq),
                };
            }
            let gateway = self.rng.random_range(0..self.doors.len());
            let mut request = self.doors[gateway].stream(&super::room_name(self.room));
            if let Some((id, _)) = &self.last {
                request = request.after(id);
            }
            if let Ok(stream) = request.open().await {
                let session = self.follow(gateway, stream, settle_within).await;
                self.book.session(session);
            }
            let pause = if self.roams && deadline.is_none() {
                SLEEPS
            } else {
                AGAIN_AFTER
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

    /// True when the heads are known and this phone's room is complete.
    fn has_all(&self) -> bool {
        let head = self.heads.borrow().as_ref().map(|heads| heads[self.room]);
        head.is_some_and(|head| self.last.as_ref().is_some_and(|(_, seq)| *seq >= head))
    }

    /// Reads a stream until it ends, breaks, or is left.
    async fn follow(&mut self, gateway: usize, mut stream: EventStream, settle_within: Duration) -> Session {
        let ready = stream.ready().clone();
        let mut session = Session {
            phone: self.number,
            room: self.room,
            gateway,
            resumed_after: self.last.as_ref().map(|(_, seq)| *seq),
            resumed_epoch: self.epoch,
            ready: ready.seq().unwrap_or(-1),
            epoch: ready.epoch().unwrap_or(0),
            reset: None,
            heard: Vec::new(),
            strange: Vec::new(),
            opened: self.book.now(),
            bye: None,
        };
        self.last = Some((ready.id, session.ready));
        self.epoch = Some(session.epoch);
        let leave = self.roams.then(|| Instant::now() + self.rng.random_range(STAYS));
        while !self.has_all() {
            let silent = Instant::now() + SILENCE;
            let until = self.deadline(settle_within).or(leave).map_or(silent, |end| end.min(silent));
            tokio::select! {
                event = timeout_at(until, stream.next(SILENCE)) => match event {
                    Ok(Ok(Some(event))) if self.take(&event, &mut session) => {}
                    _ => break,
                },
                // The heads were told: look again whether there is more to come.
                _ = self.heads.changed() => {}
            }
        }
        session
    }

    /// Writes an event down; false if it is the last one.
    fn take(&mut self, event: &Event, session: &mut Session) -> bool {
        if !event.id.is_empty() {
            match event.seq() {
                Ok(seq) => self.last = Some((event.id.clone(), seq)),
                Err(failure) => session.strange.push(failure.to_string()),
            }
        }
        match event.name.as_str() {
            "message" => match event.json().ok().as_ref().and_then(Shown::read) {
                Some(shown) => session.heard.push(Heard {
                    shown,
                    cursor: self.last.as_ref().map_or(-1, |(_, seq)| *seq),
                    at: self.book.now(),
                }),
                None => session.strange.push(format!("{event:?}")),
            },
            "reset" => session.reset = event.json().ok().and_then(|data| data["head"].as_i64()),
            "ping" => {}
            "bye" => {
                session.bye = Bye::read(event);
                return false;
            }
            _ => session.strange.push(format!("{event:?}")),
        }
        true
    }
}
