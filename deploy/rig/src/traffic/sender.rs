//! A client that posts one message after the other, and repeats a post whose response did not come.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::pace::Pace;
use super::plan::{RESPONSE_WITHIN, room_name};
use super::recorder::Recorder;
use super::texts::text_of;
use crate::api_client::ApiClient;
use crate::evidence::{Digest, GatewayInterval, Post, PostOutcome};
use crate::failure::Result;
use crate::http_response::HttpResponse;

/// A try that takes this long is recorded.
const SLOW: Duration = Duration::from_secs(5);
/// How long a message is tried again before its sender gives it up.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_mins(1);
/// Pause before a message is tried again.
pub(super) const RETRY_AFTER: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_millis(400);

/// One sender in one room.
pub(super) struct Sender {
    pub(super) seed: u64,
    pub(super) number: usize,
    pub(super) room: usize,
    /// The same user at every gateway.
    pub(super) clients: Vec<ApiClient>,
    /// Mean time between two posts.
    pub(super) pace: Duration,
    /// Share of messages with an idempotency key.
    pub(super) keyed: f64,
    pub(super) rng: StdRng,
    pub(super) recorder: Arc<Recorder>,
}

/// How one try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Try {
    Acknowledged(Uuid),
    /// Nothing was done.
    Refused,
    Unknown,
}

impl Sender {
    /// Posts until `stop`; the message that is being posted then is finished first.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut pace = Pace::new(self.pace);
        for number in 0.. {
            if !pace.wait(&mut self.rng, &stop).await {
                return;
            }
            let post = self.post(number).await;
            if !self.recorder.add_post(post) {
                return;
            }
        }
    }

    /// Posts message `number`: with a key until the outcome is known, without one once.
    async fn post(&mut self, number: u32) -> Post {
        let text = text_of(self.seed, self.number, number);
        let key = self.rng.random_bool(self.keyed).then(|| self.key(number));
        let sent = self.recorder.now();
        let mut post = Post {
            room: self.room,
            sender: self.number,
            number,
            text: Digest::of(&text),
            reply_to: None,
            mentions: Vec::new(),
            sent,
            settled: sent,
            outcome: PostOutcome::Refused,
            unknown_tries: 0,
        };
        loop {
            let ended = self.try_once(&text, key.as_deref()).await;
            post.settled = self.recorder.now();
            match ended {
                Try::Acknowledged(id) => {
                    post.outcome = PostOutcome::Acknowledged(id);
                    return post;
                }
                Try::Refused => {}
                Try::Unknown => {
                    post.outcome = PostOutcome::Unknown;
                    post.unknown_tries += 1;
                }
            }
            if key.is_none() || post.settled > sent + GIVE_UP_AFTER {
                return post;
            }
            sleep(self.rng.random_range(RETRY_AFTER)).await;
        }
    }

    /// A key that nobody else has: every other one is time-ordered, with the time since the traffic began.
    fn key(&mut self, number: u32) -> String {
        if number.is_multiple_of(2) {
            let since = u64::try_from(self.recorder.now().as_millis()).unwrap_or_default();
            uuid::Builder::from_unix_timestamp_millis(since, &self.rng.random()).into_uuid().to_string()
        } else {
            format!("{}-{}-{number}", self.seed, self.number)
        }
    }

    async fn try_once(&mut self, text: &str, key: Option<&str>) -> Try {
        let gateway = self.rng.random_range(0..self.clients.len());
        let client = &self.clients[gateway];
        let path = format!("/chat/{}/message", room_name(self.room));
        let mut request = client.request(Method::POST, &path).json(&json!({"message": text})).timeout(RESPONSE_WITHIN);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let from = self.recorder.now();
        let response = match request.send().await {
            Ok(response) => HttpResponse::receive(response).await,
            // The request was not sent.
            Err(error) if error.is_connect() => return Try::Refused,
            Err(error) => Err(error.into()),
        };
        let until = self.recorder.now();
        if until.saturating_sub(from) >= SLOW {
            self.recorder.add_slow_post(GatewayInterval { gateway, from, until });
        }
        match classify(response) {
            Ok(ended) => ended,
            Err(unexpected) => {
                self.recorder.add_unexpected_response(format!("a post got {unexpected}"));
                Try::Refused
            }
        }
    }
}

/// What a response means for the message; an error for one that must never come.
pub(super) fn classify(response: Result<HttpResponse>) -> std::result::Result<Try, String> {
    let Ok(response) = response else {
        return Ok(Try::Unknown);
    };
    let id = response.header("message-id").and_then(|id| id.parse().ok());
    match (response.status(), id) {
        (204, Some(id)) => Ok(Try::Acknowledged(id)),
        (503, _) => match response.expect_error_shape() {
            Ok(problem) if problem["code"] == "outcome_unknown" => Ok(Try::Unknown),
            Ok(_) => Ok(Try::Refused),
            Err(failure) => Err(failure.to_string()),
        },
        _ => Err(response.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outcome(status: u16, header: (&str, &str), code: &str) -> std::result::Result<Try, String> {
        let response = http::Response::builder().status(status).header("content-type", "application/json");
        let body = json!({"status": "fail", "code": code, "message": "…", "request_id": "1"}).to_string();
        let response = response.header(header.0, header.1).body(body).map_err(|error| error.to_string())?;
        classify(HttpResponse::receive(response.into()).await)
    }

    #[tokio::test]
    async fn responses_to_posts_are_classified_and_others_are_unexpected() {
        let id = Uuid::from_u128(7);
        let retry = ("retry-after", "1");
        assert_eq!(outcome(204, ("message-id", &id.to_string()), "").await, Ok(Try::Acknowledged(id)));
        assert_eq!(outcome(503, retry, "outcome_unknown").await, Ok(Try::Unknown));
        assert_eq!(outcome(503, retry, "busy").await, Ok(Try::Refused));
        assert_eq!(classify(Err(crate::failure::Failure::new("no response"))), Ok(Try::Unknown));
        for (status, header) in [
            (204, ("message-id", "garbage")),
            (503, ("x-other", "1")),
            (500, retry),
            (200, retry),
        ] {
            assert!(outcome(status, header, "busy").await.is_err(), "{status} {header:?}");
        }
    }
}
