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
use crate::evidence::{ByeReason, Departure, HistoryPage, MembershipCall, Message};
use crate::sse::EventStream;

/// How long a reader stays in a room, and how long it is until it joins the next one.
const STAYS: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_millis(1_500);
const AWAY: std::ops::Range<Duration> = Duration::from_millis(100)..Duration::from_secs(1);
/// How long the stream of a reader who has left is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// One transient reader.
pub(super) struct TransientReader {
    /// The name of the user.
    pub(super) name: String,
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
            let opened = self.clients[gateway].stream(&room_name(room)).open().await;
            self.record_call(room, true, opened.is_ok());
            if let Ok(stream) = opened {
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

    /// Records a call that joins the room or leaves it.
    fn record_call(&self, room: usize, joins: bool, is_acknowledged: bool) {
        self.recorder.add_membership_call(MembershipCall {
            room: room_name(room),
            username: self.name.clone(),
            joins,
            posted: None,
            settled: self.recorder.now(),
            is_acknowledged,
            unknown_tries: u32::from(!is_acknowledged),
        });
    }

    /// Leaves at any gateway and watches what the stream still brings.
    async fn leave(&mut self, room: usize, (gateway, mut stream): (usize, EventStream)) {
        let path = format!("/chat/{}/message", room_name(room));
        let response = self.client().call(Method::DELETE, &path).await;
        let has_left = response.is_ok_and(|response| response.status() == 204);
        self.record_call(room, false, has_left);
        if !has_left {
            // It is not known whether the user has left, so nothing was promised.
            return;
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
