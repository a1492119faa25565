//! A device that follows all rooms of its user: it is cut off, catches up by calls in between, and comes back at any gateway with the
//! cursor that it has, or with one that it kept from earlier.

mod held_rooms;
mod parsing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use self::held_rooms::HeldRooms;
use self::parsing::{answer_news, event_news};
use super::plan::RESPONSE_WITHIN;
use super::recorder::Recorder;
use super::room_reader::{OFFLINE_FOR, ONLINE_FOR, RETRY_AFTER, SILENCE};
use crate::api_client::ApiClient;
use crate::evidence::{ByeReason, ExistingRoom, FinalRooms, UserReceived, UserRecord, UserSource, rooms_of};
use crate::http_response::HttpResponse;
use crate::sse::{EventStream, SseEvent};

/// How often a device that roams catches up by calls before it opens a stream.
const SYNCS: f64 = 0.4;
/// How often it goes on with the cursor that it kept, and how often it keeps the one that it has.
const LOOKS_BACK: f64 = 0.15;
const KEEPS: f64 = 0.3;
/// How often it asks for small pages, and how many rooms these have.
const SMALL_PAGES: f64 = 0.3;
const ROOMS_OF_SMALL_PAGE: usize = 5;
/// Answers to calls in a row, after which it goes on with a stream: there may always be more to come.
const ANSWERS: usize = 20;
/// Characters of a cursor.
const CURSOR_CHARACTERS: &str = "-_.";

/// The rooms that exist in the end, once everything is stored.
pub(super) type EndRooms = Option<Arc<BTreeMap<String, ExistingRoom>>>;

/// One device.
pub(super) struct UserDevice {
    pub(super) number: usize,
    /// The name of its user.
    pub(super) username: String,
    /// The same user at every gateway.
    pub(super) clients: Vec<ApiClient>,
    /// Whether it cuts its own streams, is offline for a while, and catches up by calls, or holds each stream for as long as it lasts.
    pub(super) roams: bool,
    pub(super) rng: StdRng,
    pub(super) recorder: Arc<Recorder>,
    pub(super) end: watch::Receiver<EndRooms>,
    /// What it has.
    held: HeldRooms,
    /// What it had at some time.
    kept: HeldRooms,
    /// When it gives up; `None` while the run goes on.
    deadline: Option<Instant>,
}

impl UserDevice {
    pub(super) fn new(
        (number, username): (usize, String),
        clients: Vec<ApiClient>,
        roams: bool,
        rng: StdRng,
        recorder: Arc<Recorder>,
        end: watch::Receiver<EndRooms>,
    ) -> Self {
        Self {
            number,
            username,
            clients,
            roams,
            rng,
            recorder,
            end,
            held: HeldRooms::default(),
            kept: HeldRooms::default(),
            deadline: None,
        }
    }

    /// Follows the rooms until everything of them has come, or until `settle_within` after the end was announced; returns what it
    /// has.
    pub(super) async fn run(mut self, settle_within: Duration) -> FinalRooms {
        loop {
            let deadline = self.deadline(settle_within);
            if self.has_all() || deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return FinalRooms {
                    device: self.number,
                    username: self.username,
                    rooms: self.held.rooms().clone(),
                };
            }
            if self.roams && self.deadline.is_none() {
                self.look_back();
                if self.rng.random_bool(SYNCS) {
                    self.catch_up().await;
                }
            }
            self.stream(settle_within).await;
            let pause = if self.roams && self.deadline.is_none() {
                OFFLINE_FOR
            } else {
                RETRY_AFTER
            };
            sleep(self.rng.random_range(pause)).await;
        }
    }

    /// Now and then goes back to what it had earlier, or keeps what it has for that.
    fn look_back(&mut self) {
        if self.rng.random_bool(LOOKS_BACK) && self.kept.is_resumable() {
            self.held = self.kept.clone();
        } else if self.rng.random_bool(KEEPS) {
            self.kept = self.held.clone();
        }
    }

    /// When to give up, once the end is known.
    fn deadline(&mut self, settle_within: Duration) -> Option<Instant> {
        if self.deadline.is_none() && self.end.borrow().is_some() {
            self.deadline = Some(Instant::now() + settle_within);
        }
        self.deadline
    }

    /// True when the end is known and this device has exactly the rooms of its user, each with its last entry.
    fn has_all(&self) -> bool {
        let end = self.end.borrow();
        end.as_ref().is_some_and(|rooms| *self.held.rooms() == rooms_of(&self.username, rooms))
    }

    fn gateway(&mut self) -> usize {
        self.rng.random_range(0..self.clients.len())
    }

    /// The record of what is asked for now.
    fn record(&self, gateway: usize, source: UserSource) -> UserRecord {
        let now = self.recorder.now();
        UserRecord {
            device: self.number,
            username: self.username.clone(),
            gateway,
            source,
            known: self.held.rooms().clone(),
            unbegun: self.held.unbegun().clone(),
            is_resumed: self.held.is_resumable(),
            was_paged: self.held.was_paged(),
            has_recovered: true,
            received: Vec::new(),
            unexpected_events: Vec::new(),
            requested: now,
            opened: now,
            bye: None,
        }
    }

    /// Catches up by calls until there is no more.
    async fn catch_up(&mut self) {
        let limit = self.rng.random_bool(SMALL_PAGES).then_some(ROOMS_OF_SMALL_PAGE);
        for _ in 0..ANSWERS {
            let gateway = self.gateway();
            let mut request = self.clients[gateway].request(reqwest::Method::GET, "/user/sync");
            if let Some(cursor) = self.held.cursor() {
                request = request.query(&[("since", cursor)]);
            }
            if let Some(limit) = limit {
                request = request.query(&[("limit", limit)]);
            }
            let record = self.record(gateway, UserSource::Sync);
            let Ok(response) = request.timeout(RESPONSE_WITHIN).send().await else {
                return;
            };
            let Ok(response) = HttpResponse::receive(response).await else {
                return;
            };
            match response.status() {
                200 => {}
                // Busy, or without its database.
                503 => return,
                _ => return self.recorder.add_unexpected_response(format!("a call to catch up got {response}")),
            }
            if !self.apply_answer(record, &response) {
                return;
            }
        }
    }

    /// Takes over an answer to a call; true if there is more.
    fn apply_answer(&mut self, mut record: UserRecord, response: &HttpResponse) -> bool {
        let at = self.recorder.now();
        record.opened = at;
        let answer = response.json().unwrap_or_default();
        let is_reset = answer["reset"].is_string();
        let is_first = !record.is_resumed || is_reset;
        record.has_recovered = record.is_resumed && !is_reset;
        let (Some(news), Some(cursor), Some(more)) =
            (answer_news(&answer, is_first), answer["cursor"].as_str(), answer["more"].as_bool())
        else {
            record.unexpected_events.push(response.to_string());
            self.recorder.add_user_record(record);
            return false;
        };
        if is_reset {
            self.held = HeldRooms::default();
        }
        for (room, news) in news {
            let received = UserReceived { room, news, at };
            self.held.note(&received);
            record.received.push(received);
        }
        check_cursor(cursor, &mut record);
        if is_first {
            self.held.commit_page(cursor, more);
        } else {
            self.held.commit(cursor);
        }
        self.recorder.add_user_record(record);
        more
    }

    /// Opens a stream and reads it until it ends, breaks, or the device leaves it.
    async fn stream(&mut self, settle_within: Duration) {
        let gateway = self.gateway();
        let mut request = self.clients[gateway].user_events();
        if self.roams {
            // A device that changes networks replaces its own stream.
            request = request.query("client", &format!("device-{}", self.number));
        }
        if let Some(cursor) = self.held.cursor() {
            request = request.after(cursor);
        }
        let mut record = self.record(gateway, UserSource::Stream);
        if let Ok(stream) = request.open().await {
            record.opened = self.recorder.now();
            self.follow(&mut record, stream, settle_within).await;
            self.held.forget_uncommitted();
            self.recorder.add_user_record(record);
        }
    }

    async fn follow(&mut self, record: &mut UserRecord, mut stream: EventStream, settle_within: Duration) {
        let leave = self.roams.then(|| Instant::now() + self.rng.random_range(ONLINE_FOR));
        if !self.apply_event(&stream.ready().clone(), record) {
            return;
        }
        while !self.has_all() {
            let silent = Instant::now() + SILENCE;
            let until = self.deadline(settle_within).or(leave).map_or(silent, |end| end.min(silent));
            tokio::select! {
                event = timeout_at(until, stream.next(SILENCE)) => match event {
                    Ok(Ok(Some(event))) if self.apply_event(&event, record) => {}
                    _ => return,
                },
                // The end was announced: the loop checks again whether there is more to come.
                _ = self.end.changed() => {}
            }
        }
    }

    /// Takes over an event; false if nothing more of its stream is to be read.
    fn apply_event(&mut self, event: &SseEvent, record: &mut UserRecord) -> bool {
        match event.name.as_str() {
            "bye" => {
                record.bye = ByeReason::of(event);
                return false;
            }
            // They say nothing about entries; those without a position come with the id of the event before.
            "typing" | "presence" => return true,
            _ => {}
        }
        let data = event.json().ok();
        let Some(news) = data.as_ref().and_then(|data| event_news(&event.name, data)) else {
            record.unexpected_events.push(format!("{event:?}"));
            return true;
        };
        if event.name == "ready" {
            record.has_recovered = data.is_some_and(|data| data["recovered"] == true);
            if !record.has_recovered {
                self.held.begin_anew();
            }
        }
        let at = self.recorder.now();
        for (room, news) in news {
            let received = UserReceived { room, news, at };
            self.held.note(&received);
            record.received.push(received);
        }
        check_cursor(&event.id, record);
        self.held.commit(&event.id);
        true
    }
}

/// Notes a cursor that has other characters than the contract allows.
fn check_cursor(cursor: &str, record: &mut UserRecord) {
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || CURSOR_CHARACTERS.contains(character);
    if cursor.is_empty() || !cursor.chars().all(is_allowed) {
        record.unexpected_events.push(format!("the cursor {cursor:?}"));
    }
}
