//! Client libraries follow one room concurrently while connections are cut, a gateway is killed and streams reach their greatest
//! age. In the end each of their streams must have shown the room's history, each message once and in order.
//!
//! ```text
//! writer ──► gateway 2 ──► room ──► gateway 1 ──► one proxy for each stream ──► library
//! ```

use std::time::{Duration, Instant};

use reqwest::Method;

use super::check::{Check, Paths};
use super::follower::Follower;
use super::{hostile_texts, library};
use crate::api_client::ApiClient;
use crate::eventually::eventually;
use crate::failure::{Failure, Result};
use crate::proxy::Proxy;
use crate::stack::Stack;

/// Streams of each library. Each round of cuts costs a reconnection of all of them, which servers and libraries space by
/// seconds, and tries as many positions.
const STREAMS: usize = 32;

/// Messages in the room before events are measured and cut, so that the numbers in them keep their length.
const FIRST_SEQ_OF_CUTS: i64 = 101;
/// Rounds of cuts in what a stream begins with, each at other positions.
const OPENING_ROUNDS: usize = 3;
/// How often the gateway is killed.
const KILLS: usize = 3;
/// Messages posted before, between and after a kill or a cut.
const SOME: usize = 10;

/// Greatest age of streams while the end by age is tested; the gateway subtracts up to a fifth.
const MAX_AGE_S: u64 = 5;
/// How long messages are posted in that time: each stream is opened at least twice.
const AGE_TEST: Duration = Duration::from_secs(20);
/// Pause between two messages of that time.
const PAUSE: Duration = Duration::from_millis(100);

/// How long it may take until the programs run and have opened all streams.
const START_WITHIN: Duration = Duration::from_secs(90);
/// How long it may take until all streams have caught up, with reconnections of some seconds. A longer wait is not a failure of
/// its own, since the comparison at the end reports what is missing.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(40);
/// How long a gateway may take to stop or start.
const GATEWAY_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two checks of all streams.
const CHECK_EVERY: Duration = Duration::from_millis(50);

const ROOM: &str = "library";

pub(super) async fn run(paths: &Paths) -> Result<Vec<Check>> {
    let mut trial = StreamTrial::start(paths).await?;
    let opening = trial.opening_bytes();
    trial.post_hostile_texts().await?;
    trial.cut_an_event_at_every_byte().await?;
    trial.cut_openings(opening).await?;
    trial.kill_the_gateway().await?;
    trial.end_streams_by_age().await?;
    trial.judge().await
}

/// Entries before the first message: that the room was created, and that the writer joined it.
const ENTRIES_BEFORE: i64 = 2;

/// The stack, the libraries that follow its room, and the user who posts.
struct StreamTrial {
    stack: Stack,
    followers: Vec<Follower>,
    writer: ApiClient,
    /// Seq of the last message.
    head: i64,
}

impl StreamTrial {
    async fn start(paths: &Paths) -> Result<Self> {
        let stack = Stack::builder().without_limits().gateways(2).start().await?;
        let reader = stack.client()?.register("reader").await?;
        reader.create_room(ROOM).await?;
        let writer = stack.client()?.register("writer").await?.moved_to(&stack.gateways[1].url())?;
        writer.call(Method::POST, &format!("/chat/{ROOM}/join")).await?.expect(204)?;
        eventually(START_WITHIN, "the log has its entries before messages", async || {
            let page = writer.get(&format!("/chat/{ROOM}/messagehistory")).await?.expect(200)?;
            match page.header("last-event-id") {
                Some(id) if id.ends_with(&format!("-{ENTRIES_BEFORE}")) => Ok(()),
                id => Err(Failure::new(format!("the position is {id:?}"))),
            }
        })
        .await?;
        let mut followers = Vec::new();
        for library in library::all(paths) {
            let port = stack.gateways[0].port();
            followers.push(Follower::start(library, STREAMS, port, (reader.token(), ROOM), stack.directory()).await?);
        }
        let mut trial = Self {
            stack,
            followers,
            writer,
            head: ENTRIES_BEFORE,
        };
        let is_open = |follower: &Follower| follower.readies().iter().all(|&readies| readies > 0);
        trial.wait("all streams are open", START_WITHIN, is_open).await;
        trial.followers.iter_mut().try_for_each(Follower::check_runs)?;
        Ok(trial)
    }

    /// Length of the beginning of a stream, in bytes: the headers of the response and `ready`.
    fn opening_bytes(&self) -> usize {
        let proxies = self.followers.iter().flat_map(|follower| &follower.proxies);
        let bytes = proxies.map(Proxy::passed_bytes).min().unwrap_or_default();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    async fn post(&mut self, text: &str) -> Result<()> {
        self.writer.post(ROOM, text).await?;
        self.head += 1;
        Ok(())
    }

    async fn post_some(&mut self) -> Result<()> {
        for number in 0..SOME {
            self.post(&format!("some {number}")).await?;
        }
        Ok(())
    }

    /// Waits until `condition` holds for every library whose program still runs, and prints which are late.
    async fn wait(&self, what: &str, within: Duration, condition: impl Fn(&Follower) -> bool) {
        let deadline = Instant::now() + within;
        loop {
            let is_late = |follower: &&Follower| !follower.has_ended() && !condition(follower);
            let late: Vec<&str> = self.followers.iter().filter(is_late).map(|follower| follower.name).collect();
            if late.is_empty() {
                return;
            }
            if Instant::now() >= deadline {
                eprintln!("not within {within:?}: {what} ({})", late.join(", "));
                return;
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    async fn catch_up(&self) {
        let head = self.head;
        self.wait("all streams have caught up", CAUGHT_UP_WITHIN, |follower| follower.has_seen(head)).await;
    }

    async fn post_hostile_texts(&mut self) -> Result<()> {
        for text in hostile_texts::all() {
            self.post(&text).await?;
        }
        self.catch_up().await;
        Ok(())
    }

    /// Cuts the event of a message at each of its bytes, for every library: before the first, after the last, and everywhere
    /// in between.
    async fn cut_an_event_at_every_byte(&mut self) -> Result<()> {
        while self.head + 1 < FIRST_SEQ_OF_CUTS {
            self.post("before the cuts").await?;
        }
        self.catch_up().await;
        let before = self.passed_bytes();
        self.post(&text_of_round(0)).await?;
        self.catch_up().await;
        let after = self.passed_bytes();
        // The smallest number counts: a ping may have come in between.
        let length = after.iter().zip(before).map(|(after, before)| after - before).min().unwrap_or_default();
        let length = usize::try_from(length)?;
        if length == 0 {
            return Err(Failure::new("a message arrived without a byte"));
        }
        let rounds = (length + 1).div_ceil(STREAMS);
        for round in 0..rounds {
            let readies = self.readies();
            for follower in &self.followers {
                for (stream, proxy) in follower.proxies.iter().enumerate() {
                    let bytes = round * STREAMS + stream;
                    if bytes <= length {
                        follower.note_cut(stream, self.head + 1, bytes);
                        proxy.cut_after(bytes);
                    }
                }
            }
            self.post(&text_of_round(round)).await?;
            let expected = |stream: usize| usize::from(round * STREAMS + stream <= length);
            self.wait_reconnected(&readies, expected).await;
        }
        eprintln!("an event of {length} bytes was cut at each of them, in {rounds} rounds");
        Ok(())
    }

    /// Cuts the existing connections, and the next ones within the beginning of their stream.
    async fn cut_openings(&mut self, length: usize) -> Result<()> {
        let step = length / (STREAMS * OPENING_ROUNDS);
        for round in 0..OPENING_ROUNDS {
            let readies = self.readies();
            let cuts = self.cuts();
            for follower in &self.followers {
                for (stream, proxy) in follower.proxies.iter().enumerate() {
                    proxy.cut();
                    proxy.cut_after((stream * OPENING_ROUNDS + round) * step);
                }
            }
            self.post_some().await?;
            let is_cut = |follower: &Follower| {
                let now = follower.proxies.iter().map(Proxy::cut_within).sum::<u64>();
                now >= cuts[self.number(follower)] + STREAMS as u64
            };
            self.wait("all openings are cut", CAUGHT_UP_WITHIN, is_cut).await;
            self.wait_reconnected(&readies, |_| 1).await;
        }
        Ok(())
    }

    async fn kill_the_gateway(&mut self) -> Result<()> {
        for _ in 0..KILLS {
            let readies = self.readies();
            self.post_some().await?;
            self.stack.gateways[0].kill()?;
            self.post_some().await?;
            self.stack.gateways[0].start()?;
            self.stack.gateways[0].wait_ready(GATEWAY_WITHIN).await?;
            self.post_some().await?;
            self.wait_reconnected(&readies, |_| 1).await;
        }
        Ok(())
    }

    /// Stops the gateway cleanly, which ends streams with `bye`, and starts it with a small greatest age of streams.
    async fn end_streams_by_age(&mut self) -> Result<()> {
        let gateway = &mut self.stack.gateways[0];
        gateway.process.stop(GATEWAY_WITHIN).await?;
        gateway.process.set("STREAM_MAX_AGE_S", MAX_AGE_S.to_string());
        gateway.start()?;
        gateway.wait_ready(GATEWAY_WITHIN).await?;
        let until = Instant::now() + AGE_TEST;
        while Instant::now() < until {
            self.post("before streams end by age").await?;
            tokio::time::sleep(PAUSE).await;
        }
        self.catch_up().await;
        let is_old = |follower: &Follower| follower.was_ended("max_age");
        self.wait("all streams ended by their age", CAUGHT_UP_WITHIN, is_old).await;
        self.post_some().await?;
        self.catch_up().await;
        Ok(())
    }

    /// Waits until every stream was opened as many times as expected since `readies`, and has caught up.
    async fn wait_reconnected(&self, readies: &[Vec<usize>], expected: impl Fn(usize) -> usize) {
        let head = self.head;
        let is_back = |follower: &Follower| {
            let before = &readies[self.number(follower)];
            let opened = follower.readies().iter().zip(before).map(|(now, before)| now - before).collect::<Vec<_>>();
            opened.iter().enumerate().all(|(stream, &opened)| opened >= expected(stream)) && follower.has_seen(head)
        };
        self.wait("all streams are back and have caught up", CAUGHT_UP_WITHIN, is_back).await;
        // A cut that did not happen must not happen later.
        for follower in &self.followers {
            follower.proxies.iter().for_each(Proxy::clear_faults);
        }
    }

    fn number(&self, follower: &Follower) -> usize {
        self.followers.iter().position(|other| other.name == follower.name).unwrap_or_default()
    }

    fn readies(&self) -> Vec<Vec<usize>> {
        self.followers.iter().map(Follower::readies).collect()
    }

    fn passed_bytes(&self) -> Vec<u64> {
        self.followers.iter().flat_map(|follower| &follower.proxies).map(Proxy::passed_bytes).collect()
    }

    fn cuts(&self) -> Vec<u64> {
        let sum = |follower: &Follower| follower.proxies.iter().map(Proxy::cut_within).sum();
        self.followers.iter().map(sum).collect()
    }

    async fn judge(self) -> Result<Vec<Check>> {
        let history = eventually(GATEWAY_WITHIN, "the whole history", async || {
            let history = self.writer.whole_history(ROOM).await?;
            let length = i64::try_from(history.len())?;
            let messages = self.head - ENTRIES_BEFORE;
            if length == messages {
                Ok(history)
            } else {
                Err(Failure::new(format!("{length} of {messages}")))
            }
        })
        .await?;
        let mut checks = Vec::new();
        for follower in self.followers {
            let name = follower.name;
            let ended = follower.was_ended("max_age");
            let outcome = follower.judge(&history).await;
            let outcome = outcome.and_then(|seen| {
                if ended {
                    Ok(seen)
                } else {
                    Err(Failure::new("not every stream was ended by its age"))
                }
            });
            checks.push(Check::new(name, outcome));
        }
        Ok(checks)
    }
}

/// A text whose length does not depend on the round.
fn text_of_round(round: usize) -> String {
    format!("an event that is cut, round {round:03}")
}
