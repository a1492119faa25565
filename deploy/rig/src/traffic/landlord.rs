//! Somebody who makes a room, deletes it and makes it again, and asks for it at any gateway in between.
//!
//! Nobody else touches the room: whether it is there, and which of those of its name, follows from the answers alone.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::sender::ANSWER_WITHIN;
use crate::evidence::{Answered, Deed};
use crate::{Answer, App};

/// Pause between two calls: what one gateway was told must hold at the other within milliseconds.
const PAUSES: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(120);

/// One landlord, with one room at a time.
pub(super) struct Landlord {
    pub(super) number: usize,
    /// The same user at every gateway.
    pub(super) doors: Vec<App>,
    pub(super) rng: StdRng,
    pub(super) book: Arc<Book>,
}

impl Landlord {
    /// Does one thing after the other until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut house = 0;
        while !stop.is_cancelled() {
            let room = format!("lodge-{}-{house}", self.number);
            if !self.act(room).await {
                // What became of it may show later: this name is of no use any more.
                house += 1;
            }
            sleep(self.rng.random_range(PAUSES)).await;
        }
    }

    /// Does something to `room`; false if it is not known what came of it.
    async fn act(&mut self, room: String) -> bool {
        let deed = match self.rng.random_range(0..10) {
            0..=2 => Deed::Create,
            3..=5 => Deed::Delete,
            6..=7 => Deed::Look,
            _ => Deed::Post,
        };
        let door = &self.doors[self.rng.random_range(0..self.doors.len())];
        let path = format!("/chat/{room}");
        let request = match deed {
            Deed::Create => door.request(Method::POST, &path),
            Deed::Delete => door.request(Method::DELETE, &path),
            Deed::Look => door.request(Method::GET, &path),
            Deed::Post => {
                door.request(Method::POST, &format!("{path}/message")).json(&json!({"message": "anybody in?"}))
            }
        };
        let is_change = matches!(deed, Deed::Create | Deed::Delete);
        let answer = match request.timeout(ANSWER_WITHIN).send().await {
            Ok(response) => Answer::read(response).await,
            // It was not sent.
            Err(error) if error.is_connect() => return true,
            Err(error) => Err(error.into()),
        };
        match answer {
            Ok(answer) if answer.status() != 503 => {
                self.book.answered(Answered {
                    room,
                    deed,
                    status: answer.status(),
                    id: answer.header("message-id").and_then(|id| id.parse().ok()),
                    at: self.book.now(),
                });
                true
            }
            Ok(_) | Err(_) => !is_change,
        }
    }
}
