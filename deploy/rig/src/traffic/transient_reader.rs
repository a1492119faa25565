//! A user who joins a room, reads its history, leaves, and must no longer receive its messages.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::plan::room_name;
use super::recorder::Recorder;
use crate::api_client::ApiClient;
use crate::evidence::{ByeReason, Departure, HistoryPage, Message};
use crate::sse::EventStream;

/// How long a reader stays in a room, and how long it is until it joins the next one.
const STAYS: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_millis(1_500);
const AWAY: std::ops::Range<Duration> = Duration::from_millis(100)..Duration::from_secs(1);
/// How long the stream of a reader who has left is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// One transient reader.
pub(super) struct TransientReader {
    /// The same user at every gateway.
    pub(super) clients: Vec<ApiClient>,
    pub(super) rooms: usize,
    pub(super) rng: StdRng,
    pub(super) recorder: Arc<Recorder>,
}

impl TransientReader {
    /// Joins and leaves one room after the other until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let room = self.rng.random_range(0..self.rooms);
            let gateway = self.gateway();
            if let Ok(stream) = self.clients[gateway].stream(&room_name(room)).open().await {
                sleep(self.rng.random_range(STAYS)).await;
                self.read_history(room).await;
                self.leave(room, (gateway, stream)).await;
            }
            sleep(self.rng.random_range(AWAY)).await;
        }
    }

    fn gateway(&mut self) -> usize {
        self.rng.random_range(0..self.clients.len())
    }

    fn client(&mut self) -> ApiClient {
        let gateway = self.gateway();
        self.clients[gateway].clone()
    }

    /// Reads the newest page of history.
    async fn read_history(&mut self, room: usize) {
        let page = self.client().history(&room_name(room), "").await;
        if let Ok(page) = page {
            self.recorder.add_history_page(HistoryPage {
                room,
                messages: page.iter().filter_map(Message::parse).collect(),
                at: self.recorder.now(),
            });
        }
    }

    /// Leaves at any gateway and watches what the stream still brings.
    async fn leave(&mut self, room: usize, (gateway, mut stream): (usize, EventStream)) {
        let path = format!("/chat/{}/message", room_name(room));
        match self.client().call(Method::DELETE, &path).await {
            Ok(response) if response.status() == 204 => {}
            // It is not known whether the user has left, so nothing was promised.
            _ => return,
        }
        let left = self.recorder.now();
        let mut departure = Departure {
            room,
            gateway,
            left,
            last_received: None,
            ended: None,
            watched_until: left,
            bye: None,
        };
        let watching = async {
            while let Ok(Some(event)) = stream.next(WATCHED).await {
                if event.name == "message" {
                    departure.last_received = Some(self.recorder.now());
                }
                departure.bye = ByeReason::of(&event).or(departure.bye);
            }
        };
        if timeout(WATCHED, watching).await.is_ok() {
            departure.ended = Some(self.recorder.now());
        }
        departure.watched_until = self.recorder.now();
        self.recorder.add_departure(departure);
    }
}
