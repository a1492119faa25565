//! Somebody who looks into a room, reads its history, leaves, and must not hear it any more.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::book::Book;
use crate::evidence::{Bye, Departure, Reading, Shown};
use crate::{App, EventStream};

/// How long a visit lasts, and how long it is until the next one.
const STAYS: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_millis(1_500);
const AWAY: std::ops::Range<Duration> = Duration::from_millis(100)..Duration::from_secs(1);
/// How long the stream of a visitor who has left is watched for.
const WATCHED: Duration = Duration::from_secs(10);

/// One visitor.
pub(super) struct Visitor {
    /// The same user at every gateway.
    pub(super) doors: Vec<App>,
    pub(super) rooms: usize,
    pub(super) rng: StdRng,
    pub(super) book: Arc<Book>,
}

impl Visitor {
    /// Visits one room after the other until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let room = self.rng.random_range(0..self.rooms);
            let gateway = self.gateway();
            if let Ok(stream) = self.doors[gateway].stream(&super::room_name(room)).open().await {
                sleep(self.rng.random_range(STAYS)).await;
                self.read(room).await;
                self.leave(room, (gateway, stream)).await;
            }
            sleep(self.rng.random_range(AWAY)).await;
        }
    }

    fn gateway(&mut self) -> usize {
        self.rng.random_range(0..self.doors.len())
    }

    fn door(&mut self) -> App {
        let gateway = self.gateway();
        self.doors[gateway].clone()
    }

    /// Reads the newest page of history.
    async fn read(&mut self, room: usize) {
        let page = self.door().history(&super::room_name(room), "").await;
        if let Ok(page) = page {
            self.book.reading(Reading {
                room,
                page: page.iter().filter_map(Shown::read).collect(),
                at: self.book.now(),
            });
        }
    }

    /// Leaves at any gateway and watches what the stream still brings.
    async fn leave(&mut self, room: usize, (gateway, mut stream): (usize, EventStream)) {
        let path = format!("/chat/{}/message", super::room_name(room));
        match self.door().call(Method::DELETE, &path).await {
            Ok(answer) if answer.status() == 204 => {}
            // Whether that was leaving is not known, so nothing was promised.
            _ => return,
        }
        let left = self.book.now();
        let mut departure = Departure {
            room,
            gateway,
            left,
            last_heard: None,
            ended: None,
            watched_until: left,
            bye: None,
        };
        let watching = async {
            while let Ok(Some(event)) = stream.next(WATCHED).await {
                if event.name == "message" {
                    departure.last_heard = Some(self.book.now());
                }
                departure.bye = Bye::read(&event).or(departure.bye);
            }
        };
        if timeout(WATCHED, watching).await.is_ok() {
            departure.ended = Some(self.book.now());
        }
        departure.watched_until = self.book.now();
        self.book.departure(departure);
    }
}
