//! Somebody who leaves a room and comes back at once, at any gateway.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::sender::ANSWER_WITHIN;
use crate::evidence::{Bye, Return};
use crate::{Answer, App, EventStream};

/// Time between leaving and coming back.
const AWAY: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(200);
/// How long a stream is watched before its reader leaves again.
const STAYS: std::ops::Range<Duration> = Duration::from_millis(100)..Duration::from_millis(1_200);
/// Pause after something that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// One of them, with one room at a time.
pub(super) struct Returner {
    pub(super) number: usize,
    /// What the user is called.
    pub(super) name: String,
    /// The same user at every gateway.
    pub(super) doors: Vec<App>,
    pub(super) rng: StdRng,
    pub(super) book: Arc<Book>,
}

impl Returner {
    /// Leaves and comes back until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut inn = 0;
        while !stop.is_cancelled() {
            let room = format!("inn-{}-{inn}", self.number);
            // Of a call without an answer something may show later: the next room is another one.
            inn += 1;
            let created = self.call(Method::POST, &format!("/chat/{room}")).await;
            if created.is_none_or(|answer| answer.status() != 201) {
                sleep(PAUSE).await;
                continue;
            }
            while !stop.is_cancelled() {
                let left = self.call(Method::DELETE, &format!("/chat/{room}/message")).await;
                if left.is_none_or(|answer| answer.status() != 204) {
                    break;
                }
                self.come_back(&room).await;
            }
        }
    }

    async fn come_back(&mut self, room: &str) {
        let left = self.book.now();
        sleep(self.rng.random_range(AWAY)).await;
        let door = self.door();
        let (mut stream, mut posted) = (None, None);
        if self.rng.random_bool(0.5) {
            let body = json!({"message": "back again"});
            let request = door.request(Method::POST, &format!("/chat/{room}/message")).json(&body);
            posted = answer(request).await.filter(|answer| answer.status() == 204);
        } else {
            stream = door.stream(room).open().await.ok();
        }
        if stream.is_none() && posted.is_none() {
            return sleep(PAUSE).await;
        }
        let listed = self.call(Method::GET, &format!("/chat/{room}/users")).await;
        let members = listed.filter(|answer| answer.status() == 200).and_then(|answer| answer.json().ok());
        let is_in = |members: &serde_json::Value| {
            members.as_array().is_some_and(|members| members.contains(&self.name.as_str().into()))
        };
        let is_listed = members.as_ref().map(is_in);
        let ended = match stream {
            Some(stream) => self.watch(stream).await,
            None => None,
        };
        self.book.came_back(Return {
            room: room.to_owned(),
            left,
            posted: posted.and_then(|answer| answer.header("message-id")?.parse().ok()),
            is_listed,
            ended,
        });
    }

    /// Why the stream ended before its reader left again, if it did.
    async fn watch(&mut self, mut stream: EventStream) -> Option<Bye> {
        let stays = self.rng.random_range(STAYS);
        let watching = async {
            while let Ok(Some(event)) = stream.next(stays).await {
                if event.name == "bye" {
                    return Bye::read(&event);
                }
            }
            // Cut, and not ended.
            None
        };
        timeout(stays, watching).await.ok().flatten()
    }

    fn door(&mut self) -> App {
        self.doors[self.rng.random_range(0..self.doors.len())].clone()
    }

    async fn call(&mut self, method: Method, path: &str) -> Option<Answer> {
        answer(self.door().request(method, path)).await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Option<Answer> {
    Answer::read(request.timeout(ANSWER_WITHIN).send().await.ok()?).await.ok()
}
