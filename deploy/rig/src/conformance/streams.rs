//! Client libraries follow one room, and all rooms of a user, concurrently while connections are cut, a gateway is killed and
//! streams reach their greatest age. In the end each of their streams must have shown the room's history, each message once and in
//! order.
//!
//! ```text
//! writer ──► gateway 2 ──► room ──► gateway 1 ──► one proxy for each stream ──► library
//! ```

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::Method;

use super::check::{Check, Paths};
use super::follower::Follower;
use super::stream_kind::StreamKind;
use super::{hostile_texts, library};
use crate::api_client::ApiClient;
use crate::eventually::eventually;
use crate::failure::{Failure, Result};
use crate::proxy::Proxy;
use crate::stack::Stack;

/// Streams of each library and kind. Each round of cuts costs a reconnection of all of them, which servers and libraries space by
/// seconds, and tries as many positions.
const STREAMS: usize = 32;

/// Seq of the first message that is posted while streams are cut, so that the numbers in events and cursors keep their length: three
/// digits, and two bytes in a cursor.
const FIRST_SEQ_OF_CUTS: i64 = 129;
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
    let openings = trial.passed_bytes();
    trial.post_hostile_texts().await?;
    // Before events are measured: since it resumed, the cursors of a stream have the length that they keep.
    trial.cut_openings(&smallest_of_each(&openings)?).await?;
    trial.cut_an_event_at_every_byte().await?;
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
            for kind in [StreamKind::Room(ROOM), StreamKind::AllRooms] {
                let (port, directory) = (stack.gateways[0].port(), stack.directory());
                followers.push(Follower::start(&library, (STREAMS, kind), port, reader.token(), directory).await?);
            }
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
            let late: Vec<&str> =
                self.followers.iter().filter(is_late).map(|follower| follower.name.as_str()).collect();
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

    /// Cuts the existing connections, and the next ones within the beginning of their stream, whose length is known for each
    /// follower.
    async fn cut_openings(&mut self, lengths: &[usize]) -> Result<()> {
        while self.head + 1 < FIRST_SEQ_OF_CUTS {
            self.post("before the cuts").await?;
        }
        self.catch_up().await;
        for round in 0..OPENING_ROUNDS {
            let readies = self.readies();
            let cuts: Vec<u64> = self.followers.iter().map(Follower::cuts).collect();
            for (follower, length) in self.followers.iter().zip(lengths) {
                let step = length / (STREAMS * OPENING_ROUNDS);
                for (stream, proxy) in follower.proxies.iter().enumerate() {
                    proxy.cut();
                    proxy.cut_after((stream * OPENING_ROUNDS + round) * step);
                }
            }
            self.post_some().await?;
            let is_cut = |follower: &Follower| follower.cuts() >= cuts[self.number(follower)] + STREAMS as u64;
            self.wait("all openings are cut", CAUGHT_UP_WITHIN, is_cut).await;
            self.wait_reconnected(&readies, |_, _| 1).await;
        }
        Ok(())
    }

    /// Cuts the event of a message at each of its bytes, for every follower: before the first, after the last, and everywhere
    /// in between.
    async fn cut_an_event_at_every_byte(&mut self) -> Result<()> {
        let lengths = self.event_lengths().await?;
        let longest = lengths.iter().copied().max().unwrap_or_default();
        let rounds = (longest + 1).div_ceil(STREAMS);
        for round in 0..rounds {
            let readies = self.readies();
            // Where a stream is cut, unless that is beyond the event.
            let cut_in = |length: usize, stream: usize| {
                let bytes = round * STREAMS + stream;
                (bytes <= length).then_some(bytes)
            };
            for (follower, length) in self.followers.iter().zip(&lengths) {
                for (stream, proxy) in follower.proxies.iter().enumerate() {
                    if let Some(bytes) = cut_in(*length, stream) {
                        follower.note_cut(stream, self.head + 1, bytes);
                        proxy.cut_after(bytes);
                    }
                }
            }
            self.post(&text_of_round(round)).await?;
            let expected = |follower: usize, stream| usize::from(cut_in(lengths[follower], stream).is_some());
            self.wait_reconnected(&readies, expected).await;
        }
        let distinct: BTreeSet<usize> = lengths.into_iter().collect();
        eprintln!("events of {distinct:?} bytes were cut at each of them, in {rounds} rounds");
        Ok(())
    }

    /// Length of the event of a message for each follower, in bytes. In the stream of all rooms the id is a cursor, whose length
    /// can differ: the smallest one counts, so that no cut lies beyond the event.
    async fn event_lengths(&mut self) -> Result<Vec<usize>> {
        let before = self.passed_bytes();
        self.post(&text_of_round(0)).await?;
        self.catch_up().await;
        let grown = self.passed_bytes().into_iter().zip(before).map(|(after, before)| {
            let streams = after.into_iter().zip(before);
            streams.map(|(after, before)| after - before).collect()
        });
        // A ping may have come in between, in some of them.
        let lengths = smallest_of_each(&grown.collect::<Vec<_>>())?;
        match lengths.iter().position(|&length| length == 0) {
            Some(number) => {
                let name = &self.followers[number].name;
                Err(Failure::new(format!("a message arrived without a byte for {name}")))
            }
            None => Ok(lengths),
        }
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
            self.wait_reconnected(&readies, |_, _| 1).await;
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

    /// Waits until every stream was opened as many times as `expected` of a follower and a stream since `readies`, and has caught up.
    async fn wait_reconnected(&self, readies: &[Vec<usize>], expected: impl Fn(usize, usize) -> usize) {
        let head = self.head;
        let is_back = |follower: &Follower| {
            let number = self.number(follower);
            let opened = follower.readies().into_iter().zip(&readies[number]).map(|(now, before)| now - before);
            opened.enumerate().all(|(stream, opened)| opened >= expected(number, stream)) && follower.has_seen(head)
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

    fn passed_bytes(&self) -> Vec<Vec<u64>> {
        self.followers.iter().map(Follower::passed_bytes).collect()
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
            let name = follower.name.clone();
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

/// The smallest number of each follower's streams.
fn smallest_of_each(bytes: &[Vec<u64>]) -> Result<Vec<usize>> {
    let smallest = |streams: &Vec<u64>| Ok(usize::try_from(streams.iter().copied().min().unwrap_or_default())?);
    bytes.iter().map(smallest).collect()
}

/// A text whose length does not depend on the round.
fn text_of_round(round: usize) -> String {
    format!("an event that is cut, round {round:03}")
}
