//! A user who posts messages and replies, edits and deletes their own, reacts to everybody's and takes that back, leaves and comes
//! back; repeats each call until its outcome is known.
//!
//! Only one editor ever changes the text of a message, and only the user themselves their reactions, so what the last
//! acknowledgement of each said must hold. A try without a response may be carried out much later, after its repetition and what the
//! editor did then: it has the same idempotency key, and changes nothing more.

mod responses;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::responses::{Tried, classify, classify_post};
use super::pace::Pace;
use super::plan::{RESPONSE_WITHIN, edited_room_name};
use super::recorder::Recorder;
use super::sender::{GIVE_UP_AFTER, RETRY_AFTER};
use super::texts::text_of;
use crate::api_client::ApiClient;
use crate::evidence::{ChangeOutcome, ChangeRequest, Digest, MembershipCall, Post, PostOutcome, RequestedChange};
use crate::failure::Result;
use crate::http_response::HttpResponse;

/// Reactions, two of which are several characters.
const EMOJIS: [&str; 4] = ["👍", "🎉", "❤️", "👩‍💻"];
/// Messages that are changed: the newest ones of an editor, and of the room for reactions.
const OWN_AT_MOST: usize = 20;
const REACTED_TO_AT_MOST: usize = 30;
/// Share of messages that are replies, share of these that are to a message which the editor has deleted, and share of messages that
/// mention others.
const REPLIES: f64 = 0.3;
const TO_DELETED: f64 = 0.1;
const MENTIONING: f64 = 0.3;
/// How long an editor who has left stays away.
const AWAY: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(500);
/// Texts of editors are those of senders that do not exist.
const FIRST_EDITOR: usize = 1_000_000;

/// The messages of a room that may be reacted to, oldest first, for all of its editors.
pub(super) type Postings = Arc<Mutex<Vec<Uuid>>>;

/// One editor in one room.
pub(super) struct Editor {
    pub(super) seed: u64,
    pub(super) number: usize,
    /// The name of the user.
    pub(super) name: String,
    /// Number of the edited room.
    pub(super) room: usize,
    /// The same user at every gateway.
    pub(super) clients: Vec<ApiClient>,
    /// Mean time between two things.
    pub(super) pace: Duration,
    pub(super) rng: StdRng,
    pub(super) recorder: Arc<Recorder>,
    pub(super) postings: Postings,
    /// Notified when a deletion was acknowledged.
    pub(super) deletions: Arc<Notify>,
    /// Names of the editors of the room, with its own.
    pub(super) editors_of_room: Vec<String>,
    pub(super) memory: Memory,
}

/// What an editor remembers of what it did.
#[derive(Default)]
pub(super) struct Memory {
    /// Texts written so far.
    texts: u32,
    /// Its messages, oldest first.
    own: Vec<Uuid>,
    /// The last of its messages that it has deleted.
    deleted: Option<Uuid>,
    /// Whether it reacts to a message with an emoji.
    reactions: HashMap<(Uuid, &'static str), bool>,
    /// Changes asked for so far.
    changes: u32,
}

/// How a call ended after all its tries.
struct Ended<T> {
    sent: Duration,
    settled: Duration,
    /// `None` if the editor gave up.
    outcome: Option<T>,
    unknown_tries: u32,
}

impl Editor {
    /// Does one thing after the other until `stop`; what is being done then is finished first.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut pace = Pace::new(self.pace);
        while pace.wait(&mut self.rng, &stop).await {
            let is_recorded = match self.rng.random_range(0..20) {
                0..7 => self.post().await,
                7..11 => self.edit().await,
                11..13 => self.delete().await,
                13..15 => self.leave_and_come_back().await,
                _ => self.react().await,
            };
            if !is_recorded {
                return;
            }
        }
    }

    /// Posts a message with a key; false when the recorder is full.
    async fn post(&mut self) -> bool {
        let text = self.next_text();
        let (reply_to, mentions) = (self.replied_to(), self.mentioned());
        let mut body = json!({"message": text});
        if let Some(id) = reply_to {
            body["reply_to"] = json!(id);
        }
        if !mentions.is_empty() {
            body["mentions"] = json!(mentions);
        }
        let number = self.memory.texts;
        let key = format!("{}-{}-{number}", self.seed, self.name);
        let path = format!("/chat/{}/message", edited_room_name(self.room));
        let request = |client: &ApiClient| {
            let request = client.request(Method::POST, &path).json(&body);
            request.header("idempotency-key", &key)
        };
        let ended = self.until_known(request, |response| classify_post(response, reply_to.is_some())).await;
        let outcome = ended.outcome.unwrap_or(if ended.unknown_tries > 0 {
            PostOutcome::Unknown
        } else {
            PostOutcome::Refused
        });
        let posted = outcome.id();
        if let Some(id) = posted {
            self.memory.own.push(id);
            self.postings.lock().push(id);
        }
        self.record_membership(true, posted, &ended);
        self.recorder.add_editor_post(Post {
            room: self.room,
            sender: self.number,
            number,
            text: Digest::of(&text),
            reply_to,
            mentions,
            sent: ended.sent,
            settled: ended.settled,
            outcome,
            unknown_tries: ended.unknown_tries,
        })
    }

    /// The message that the next one replies to, if it is a reply.
    fn replied_to(&mut self) -> Option<Uuid> {
        if !self.rng.random_bool(REPLIES) {
            return None;
        }
        let deleted = self.memory.deleted;
        if deleted.is_some() && self.rng.random_bool(TO_DELETED) {
            return deleted;
        }
        let known: Vec<Uuid> = newest(&self.postings.lock(), REACTED_TO_AT_MOST).collect();
        self.any_of(&known)
    }

    /// Whom the next message mentions: nobody, or some of the room's editors.
    fn mentioned(&mut self) -> Vec<String> {
        if !self.rng.random_bool(MENTIONING) {
            return Vec::new();
        }
        let count = self.rng.random_range(1..=self.editors_of_room.len());
        let first = self.rng.random_range(0..self.editors_of_room.len());
        self.editors_of_room.iter().cycle().skip(first).take(count).cloned().collect()
    }

    /// Leaves the room, and comes back by joining it or by posting to it; false when the recorder is full.
    async fn leave_and_come_back(&mut self) -> bool {
        let room = edited_room_name(self.room);
        let path = format!("/chat/{room}/message");
        let leave = |client: &ApiClient| client.request(Method::DELETE, &path);
        let ended = self.until_known(leave, |response| classify(response, 204)).await;
        self.record_membership(false, None, &ended);
        sleep(self.rng.random_range(AWAY)).await;
        if self.rng.random_bool(0.5) {
            return self.post().await;
        }
        let path = format!("/chat/{room}/join");
        let join = |client: &ApiClient| client.request(Method::POST, &path);
        let ended = self.until_known(join, |response| classify(response, 204)).await;
        self.record_membership(true, None, &ended);
        true
    }

    /// Records a call that joins the room or leaves it. Whatever else its outcome says, that is done.
    fn record_membership<T>(&self, joins: bool, posted: Option<Uuid>, ended: &Ended<T>) {
        self.recorder.add_membership_call(MembershipCall {
            room: edited_room_name(self.room),
            username: self.name.clone(),
            joins,
            posted,
            settled: ended.settled,
            is_acknowledged: ended.outcome.is_some(),
            unknown_tries: ended.unknown_tries,
        });
    }

    /// Edits a message of its own.
    async fn edit(&mut self) -> bool {
        let own: Vec<Uuid> = newest(&self.memory.own, OWN_AT_MOST).collect();
        let Some(id) = self.any_of(&own) else {
            return self.post().await;
        };
        let text = self.next_text();
        let (path, body) = (self.path(id), json!({"message": text}));
        let key = self.next_key();
        let request =
            |client: &ApiClient| client.request(Method::PATCH, &path).header("idempotency-key", &key).json(&body);
        let to_tried = |response: Result<HttpResponse>| {
            if let Ok(response) = &response
                && response.status() == 200
                && response.json().ok().is_none_or(|message| message["message"] != text.as_str())
            {
                return Err(format!("for the text {text:?} {response}"));
            }
            classify(response, 200)
        };
        let ended = self.until_known(request, to_tried).await;
        if ended.outcome != Some(ChangeOutcome::Acknowledged) {
            self.forget(id);
        }
        self.record(id, ChangeRequest::Edit(Digest::of(&text)), &ended)
    }

    /// Deletes a message of its own.
    async fn delete(&mut self) -> bool {
        let own: Vec<Uuid> = newest(&self.memory.own, OWN_AT_MOST).collect();
        let Some(id) = self.any_of(&own) else {
            return self.post().await;
        };
        let path = self.path(id);
        let key = self.next_key();
        let request = |client: &ApiClient| client.request(Method::DELETE, &path).header("idempotency-key", &key);
        let ended = self.until_known(request, |response| classify(response, 204)).await;
        self.forget(id);
        self.memory.deleted = Some(id);
        if ended.outcome == Some(ChangeOutcome::Acknowledged) {
            self.deletions.notify_one();
        }
        self.record(id, ChangeRequest::Delete, &ended)
    }

    /// Reacts to a message, or takes a reaction back.
    async fn react(&mut self) -> bool {
        let known: Vec<Uuid> = newest(&self.postings.lock(), REACTED_TO_AT_MOST).collect();
        let Some(id) = self.any_of(&known) else {
            return self.post().await;
        };
        let emoji = EMOJIS[self.rng.random_range(0..EMOJIS.len())];
        let is_on = self.memory.reactions.get(&(id, emoji)).copied().unwrap_or_default();
        let path = format!("{}/reactions/{emoji}", self.path(id));
        let method = if is_on { Method::DELETE } else { Method::PUT };
        let key = self.next_key();
        let request = |client: &ApiClient| client.request(method.clone(), &path).header("idempotency-key", &key);
        let ended = self.until_known(request, |response| classify(response, 204)).await;
        // Reacting joins the room, as posting does.
        self.record_membership(true, None, &ended);
        if ended.outcome == Some(ChangeOutcome::Acknowledged) {
            self.memory.reactions.insert((id, emoji), !is_on);
        } else {
            self.forget(id);
        }
        let request = ChangeRequest::React {
            emoji: emoji.to_owned(),
            on: !is_on,
        };
        self.record(id, request, &ended)
    }

    /// Records a change; false when the recorder is full.
    fn record(&self, target: Uuid, request: ChangeRequest, ended: &Ended<ChangeOutcome>) -> bool {
        self.recorder.add_change(RequestedChange {
            room: self.room,
            username: self.name.clone(),
            target,
            request,
            sent: ended.sent,
            settled: ended.settled,
            outcome: ended.outcome.unwrap_or(ChangeOutcome::Unknown),
            unknown_tries: ended.unknown_tries,
        })
    }

    /// Changes a message no more.
    fn forget(&mut self, id: Uuid) {
        self.memory.own.retain(|own| *own != id);
        self.postings.lock().retain(|posted| *posted != id);
    }

    fn path(&self, id: Uuid) -> String {
        format!("/chat/{}/message/{id}", edited_room_name(self.room))
    }

    fn next_key(&mut self) -> String {
        self.memory.changes += 1;
        format!("{}-{}-change-{}", self.seed, self.name, self.memory.changes)
    }

    fn next_text(&mut self) -> String {
        self.memory.texts += 1;
        text_of(self.seed, FIRST_EDITOR + self.number, self.memory.texts)
    }

    fn any_of(&mut self, ids: &[Uuid]) -> Option<Uuid> {
        (!ids.is_empty()).then(|| ids[self.rng.random_range(0..ids.len())])
    }

    /// Sends a request, through any gateway, until its outcome is known.
    async fn until_known<T>(
        &mut self,
        request: impl Fn(&ApiClient) -> RequestBuilder,
        to_tried: impl Fn(Result<HttpResponse>) -> std::result::Result<Tried<T>, String>,
    ) -> Ended<T> {
        let sent = self.recorder.now();
        let mut unknown_tries = 0;
        loop {
            let client = &self.clients[self.rng.random_range(0..self.clients.len())];
            let tried = match request(client).timeout(RESPONSE_WITHIN).send().await {
                Ok(response) => to_tried(HttpResponse::receive(response).await),
                // The request was not sent.
                Err(error) if error.is_connect() => Ok(Tried::Refused),
                Err(error) => to_tried(Err(error.into())),
            };
            let settled = self.recorder.now();
            let outcome = match tried {
                Ok(Tried::Known(outcome)) => Some(outcome),
                Ok(Tried::Refused) => None,
                Ok(Tried::Unknown) => {
                    unknown_tries += 1;
                    None
                }
                Err(unexpected) => {
                    self.recorder.add_unexpected_response(format!("{} got {unexpected}", self.name));
                    unknown_tries += 1;
                    None
                }
            };
            if outcome.is_some() || settled > sent + GIVE_UP_AFTER {
                return Ended {
                    sent,
                    settled,
                    outcome,
                    unknown_tries,
                };
            }
            sleep(self.rng.random_range(RETRY_AFTER)).await;
        }
    }
}

/// The last `count` of `ids`.
fn newest(ids: &[Uuid], count: usize) -> impl Iterator<Item = Uuid> {
    ids[ids.len().saturating_sub(count)..].iter().copied()
}
