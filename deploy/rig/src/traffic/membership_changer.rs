//! A user who joins and leaves rooms, creates rooms of their own, posts to them, deletes them and creates them again under the same
//! name, one thing after the other and at any gateway, while devices follow all their rooms.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::plan::{CHANGERS_ROOMS, RESPONSE_WITHIN, room_name};
use super::recorder::Recorder;
use crate::api_client::ApiClient;
use crate::evidence::{MembershipCall, UserRoomCall};
use crate::http_response::HttpResponse;

/// Pause between two calls.
const PAUSES: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(600);
/// Names of rooms of their own that a membership changer uses at a time.
const OWN_ROOMS: usize = 3;

/// One membership changer.
pub(super) struct MembershipChanger {
    pub(super) number: usize,
    /// The name of the user.
    pub(super) name: String,
    /// The same user at every gateway.
    pub(super) clients: Vec<ApiClient>,
    /// Rooms that are there for everybody.
    pub(super) rooms: usize,
    pub(super) rng: StdRng,
    pub(super) recorder: Arc<Recorder>,
}

/// What a membership changer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Join,
    Leave,
    Create,
    Delete,
    Post,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// It has no effect: it was refused, or not sent.
    Nothing,
    Unknown,
}

/// The rooms that a membership changer is in.
#[derive(Debug, Default)]
struct Memberships {
    /// Numbers of the rooms that are there for everybody.
    joined: BTreeSet<usize>,
    /// Numbers in the names of the rooms of their own that exist.
    own: BTreeSet<usize>,
    /// The first number that they use for such names.
    first: usize,
}

impl MembershipChanger {
    /// Does one thing after the other until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut memberships = Memberships::default();
        while !stop.is_cancelled() {
            match self.rng.random_range(0..10) {
                0..=3 => self.join_or_leave(&mut memberships).await,
                4..=6 => self.create_or_delete(&mut memberships).await,
                _ => {
                    let number = self.own_number(&memberships);
                    if memberships.own.contains(&number) {
                        self.call(Step::Post, &self.own_room(number)).await;
                    }
                }
            }
            sleep(self.rng.random_range(PAUSES)).await;
        }
    }

    /// Joins a room that is there for everybody, or leaves it.
    async fn join_or_leave(&mut self, memberships: &mut Memberships) {
        let room = self.rng.random_range(0..self.rooms);
        if memberships.joined.contains(&room) {
            if self.change_membership(Step::Leave, &room_name(room)).await != Outcome::Nothing {
                memberships.joined.remove(&room);
            }
        } else if self.change_membership(Step::Join, &room_name(room)).await == Outcome::Done {
            memberships.joined.insert(room);
        }
    }

    /// Creates a room, or deletes it.
    async fn create_or_delete(&mut self, memberships: &mut Memberships) {
        let number = self.own_number(memberships);
        let exists = memberships.own.contains(&number);
        let step = if exists { Step::Delete } else { Step::Create };
        match self.call(step, &self.own_room(number)).await {
            Outcome::Done if exists => {
                memberships.own.remove(&number);
            }
            Outcome::Done => {
                memberships.own.insert(number);
            }
            Outcome::Nothing => {}
            // It may take effect later, so nothing more can be concluded about these names.
            Outcome::Unknown => memberships.first += OWN_ROOMS,
        }
    }

    fn own_number(&mut self, memberships: &Memberships) -> usize {
        memberships.first + self.rng.random_range(0..OWN_ROOMS)
    }

    fn own_room(&self, number: usize) -> String {
        format!("{CHANGERS_ROOMS}{}-{number}", self.number)
    }

    /// Joins or leaves a room in which others record who is in it.
    async fn change_membership(&mut self, step: Step, room: &str) -> Outcome {
        let outcome = self.call(step, room).await;
        if outcome != Outcome::Nothing {
            self.recorder.add_membership_call(MembershipCall {
                room: room.to_owned(),
                username: self.name.clone(),
                joins: step == Step::Join,
                posted: None,
                settled: self.recorder.now(),
                is_acknowledged: outcome == Outcome::Done,
                unknown_tries: u32::from(outcome == Outcome::Unknown),
            });
        }
        outcome
    }

    async fn call(&mut self, step: Step, room: &str) -> Outcome {
        let client = &self.clients[self.rng.random_range(0..self.clients.len())];
        let request = match step {
            Step::Join => client.request(Method::POST, &format!("/chat/{room}/join")),
            Step::Leave => client.request(Method::DELETE, &format!("/chat/{room}/message")),
            Step::Create => client.request(Method::POST, &format!("/chat/{room}")),
            Step::Delete => client.request(Method::DELETE, &format!("/chat/{room}")),
            Step::Post => client
                .request(Method::POST, &format!("/chat/{room}/message"))
                .json(&json!({"message": "from a membership changer"})),
        };
        let sent = self.recorder.now();
        let response = match request.timeout(RESPONSE_WITHIN).send().await {
            Ok(response) => HttpResponse::receive(response).await.ok(),
            // The request was not sent.
            Err(error) if error.is_connect() => return Outcome::Nothing,
            Err(_) => None,
        };
        let outcome = match response.as_ref().map(HttpResponse::status) {
            Some(201 | 204) => Outcome::Done,
            Some(503) | None => Outcome::Unknown,
            // What it was done to is not, or no longer, as the user believes: after a call of unknown outcome.
            Some(404 | 409) => Outcome::Nothing,
            Some(_) => {
                let response = response.map(|response| response.to_string()).unwrap_or_default();
                self.recorder.add_unexpected_response(format!("{step:?} of {room} got {response}"));
                Outcome::Nothing
            }
        };
        if outcome != Outcome::Nothing && step != Step::Post {
            self.recorder.add_user_room_call(UserRoomCall {
                username: self.name.clone(),
                room: room.to_owned(),
                is_in: matches!(step, Step::Join | Step::Create),
                sent,
                settled: self.recorder.now(),
                is_acknowledged: outcome == Outcome::Done,
            });
        }
        outcome
    }
}
