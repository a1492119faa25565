//! A user who leaves a room and comes back at once, at any gateway.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::plan::{REJOINED_ROOMS, RESPONSE_WITHIN};
use super::recorder::Recorder;
use crate::api_client::ApiClient;
use crate::evidence::{ByeReason, MembershipCall, Rejoin};
use crate::http_response::HttpResponse;
use crate::sse::EventStream;

/// Time between leaving and coming back.
const AWAY: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(200);
/// How long a stream is watched before its reader leaves again.
const STAYS: std::ops::Range<Duration> = Duration::from_millis(100)..Duration::from_millis(1_200);
/// Pause after something that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// One rejoiner, with one room at a time.
pub(super) struct Rejoiner {
    pub(super) number: usize,
    /// The name of the user.
    pub(super) name: String,
    /// The same user at every gateway.
    pub(super) clients: Vec<ApiClient>,
    pub(super) rng: StdRng,
    pub(super) recorder: Arc<Recorder>,
}

impl Rejoiner {
    /// Leaves and comes back until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut room_number = 0;
        while !stop.is_cancelled() {
            let room = format!("{REJOINED_ROOMS}{}-{room_number}", self.number);
            // A call without a response may take effect later, so the next room is another one.
            room_number += 1;
            let created = self.call(Method::POST, &format!("/chat/{room}")).await;
            if created.is_none_or(|response| response.status() != 201) {
                sleep(PAUSE).await;
                continue;
            }
            while !stop.is_cancelled() {
                let left = self.call(Method::DELETE, &format!("/chat/{room}/message")).await;
                let has_left = left.is_some_and(|response| response.status() == 204);
                self.record_call(&room, false, has_left, None);
                if !has_left {
                    break;
                }
                self.come_back(&room).await;
            }
        }
    }

    async fn come_back(&mut self, room: &str) {
        let left = self.recorder.now();
        sleep(self.rng.random_range(AWAY)).await;
        let client = self.client();
        let (mut stream, mut posted) = (None, None);
        if self.rng.random_bool(0.5) {
            let body = json!({"message": "back again"});
            let request = client.request(Method::POST, &format!("/chat/{room}/message")).json(&body);
            posted = send(request).await.filter(|response| response.status() == 204);
        } else {
            stream = client.stream(room).open().await.ok();
        }
        let posted: Option<Uuid> = posted.and_then(|response| response.header("message-id")?.parse().ok());
        self.record_call(room, true, stream.is_some() || posted.is_some(), posted);
        if stream.is_none() && posted.is_none() {
            return sleep(PAUSE).await;
        }
        let listed = self.call(Method::GET, &format!("/chat/{room}/users")).await;
        let members = listed.filter(|response| response.status() == 200).and_then(|response| response.json().ok());
        let is_in =
            |members: &Value| members.as_array().is_some_and(|members| members.contains(&self.name.as_str().into()));
        let is_listed = members.as_ref().map(is_in);
        let ended = match stream {
            Some(stream) => self.watch(stream).await,
            None => None,
        };
        self.recorder.add_rejoin(Rejoin {
            room: room.to_owned(),
            left,
            posted,
            is_listed,
            ended,
        });
    }

    /// Records a call that joins the room or leaves it.
    fn record_call(&self, room: &str, joins: bool, is_acknowledged: bool, posted: Option<Uuid>) {
        self.recorder.add_membership_call(MembershipCall {
            room: room.to_owned(),
            username: self.name.clone(),
            joins,
            posted,
            settled: self.recorder.now(),
            is_acknowledged,
            unknown_tries: u32::from(!is_acknowledged),
        });
    }

    /// Why the stream ended before its reader left again, if it did.
    async fn watch(&mut self, mut stream: EventStream) -> Option<ByeReason> {
        let stays = self.rng.random_range(STAYS);
        let watching = async {
            while let Ok(Some(event)) = stream.next(stays).await {
                if event.name == "bye" {
                    return ByeReason::of(&event);
                }
            }
            // The stream was cut, and not ended.
            None
        };
        timeout(stays, watching).await.ok().flatten()
    }

    fn client(&mut self) -> ApiClient {
        self.clients[self.rng.random_range(0..self.clients.len())].clone()
    }

    async fn call(&mut self, method: Method, path: &str) -> Option<HttpResponse> {
        send(self.client().request(method, path)).await
    }
}

/// Sends a request; `None` if no complete response comes in time.
async fn send(request: reqwest::RequestBuilder) -> Option<HttpResponse> {
    HttpResponse::receive(request.timeout(RESPONSE_WITHIN).send().await.ok()?).await.ok()
}
