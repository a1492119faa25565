//! A user who creates a room, deletes it and creates it again, and asks for it at any gateway in between.
//!
//! Nobody else touches the room: whether it exists, and which of those of its name it is, follows from the responses alone.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::plan::{RECREATED_ROOMS, RESPONSE_WITHIN};
use super::recorder::Recorder;
use crate::api_client::ApiClient;
use crate::evidence::{RoomOperation, RoomResponse};
use crate::http_response::HttpResponse;

/// Pause between two calls: what one gateway has answered must hold at the other within milliseconds.
const PAUSES: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(120);

/// One room recreator, with one room at a time.
pub(super) struct RoomRecreator {
    pub(super) number: usize,
    /// The same user at every gateway.
    pub(super) clients: Vec<ApiClient>,
    pub(super) rng: StdRng,
    pub(super) recorder: Arc<Recorder>,
}

impl RoomRecreator {
    /// Performs one operation after the other until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut name_number = 0;
        while !stop.is_cancelled() {
            let room = format!("{RECREATED_ROOMS}{}-{name_number}", self.number);
            if !self.operate(room).await {
                // The operation may take effect later, so nothing more can be concluded about this name.
                name_number += 1;
            }
            sleep(self.rng.random_range(PAUSES)).await;
        }
    }

    /// Performs a random operation on `room`; false if its outcome is not known.
    async fn operate(&mut self, room: String) -> bool {
        let operation = match self.rng.random_range(0..10) {
            0..=2 => RoomOperation::Create,
            3..=5 => RoomOperation::Delete,
            6..=7 => RoomOperation::Get,
            _ => RoomOperation::Post,
        };
        let client = &self.clients[self.rng.random_range(0..self.clients.len())];
        let path = format!("/chat/{room}");
        let request = match operation {
            RoomOperation::Create => client.request(Method::POST, &path),
            RoomOperation::Delete => client.request(Method::DELETE, &path),
            RoomOperation::Get => client.request(Method::GET, &path),
            RoomOperation::Post => {
                client.request(Method::POST, &format!("{path}/message")).json(&json!({"message": "anybody in?"}))
            }
        };
        let is_change = matches!(operation, RoomOperation::Create | RoomOperation::Delete);
        let response = match request.timeout(RESPONSE_WITHIN).send().await {
            Ok(response) => HttpResponse::receive(response).await,
            // The request was not sent.
            Err(error) if error.is_connect() => return true,
            Err(error) => Err(error.into()),
        };
        match response {
            Ok(response) if response.status() != 503 => {
                self.recorder.add_room_response(RoomResponse {
                    room,
                    operation,
                    status: response.status(),
                    id: response.header("message-id").and_then(|id| id.parse().ok()),
                    at: self.recorder.now(),
                });
                true
            }
            Ok(_) | Err(_) => !is_change,
        }
    }
}
