//! Three quick figures of the whole product on this machine: posts acknowledged a second, the time from a post to its
//! event, and the memory of idle streams.
//!
//! Client, Redis, worker and gateway share the cores, so they are a floor and good for comparing two builds in one
//! sitting. `make figures` runs it with release builds.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rig::{App, Explain, Result, Stack, resident_kib};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

/// Users who post at the same time when it is about throughput, each on a connection of their own.
const POSTERS: usize = 64;
/// How long they post.
const POSTING: Duration = Duration::from_secs(10);
/// Posts a second when it is about latency, over this many rooms, for so long.
const RATE: u32 = 500;
const ROOMS: usize = 20;
const PACED: Duration = Duration::from_secs(10);
/// Idle streams when it is about memory.
const IDLE_STREAMS: usize = 1_000;
/// How long an event may take before the run fails.
const EVENT_WITHIN: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let stack = Stack::start().await?;
    // A few at a time: hashing passwords is bounded, and refuses what would wait too long.
    let users: Vec<App> = stream::iter(0..POSTERS).map(|n| register(&stack, n)).buffered(4).try_collect().await?;
    for room in 0..ROOMS {
        users[0].create_room(&room_name(room)).await?;
    }
    let posts = throughput(&users).await?;
    println!("posts acknowledged, {POSTERS} connections: {posts:.0} posts/s");
    let caught_up = catch_up(&stack).await?;
    println!("stored and caught up after: {} ms", caught_up.as_millis());
    let (p50, p99) = latency(&users).await?;
    println!("post to event at {RATE} posts/s over {ROOMS} rooms: p50 {p50:.1} ms, p99 {p99:.1} ms");
    let kib = memory(&stack, &users[0]).await?;
    println!("gateway's resident memory for an idle stream, of {IDLE_STREAMS}: {kib:.1} KiB");
    Ok(())
}

async fn register(stack: &Stack, number: usize) -> Result<App> {
    stack.app()?.register(&format!("user{number}")).await
}

fn room_name(number: usize) -> String {
    format!("room{number}")
}

/// Every user posts as fast as answers come.
async fn throughput(users: &[App]) -> Result<f64> {
    let began = Instant::now();
    let posted = Arc::new(AtomicUsize::new(0));
    let mut posters = JoinSet::new();
    for (number, user) in users.iter().cloned().enumerate() {
        let posted = Arc::clone(&posted);
        posters.spawn(async move {
            while began.elapsed() < POSTING {
                user.post(&room_name(number % ROOMS), "a message of about the length that people write").await?;
                posted.fetch_add(1, Ordering::Relaxed);
            }
            Result::Ok(())
        });
    }
    while let Some(done) = posters.join_next().await {
        done.explain(|| "a poster panicked".to_owned())??;
    }
    Ok(as_f64(posted.load(Ordering::Relaxed)) / began.elapsed().as_secs_f64())
}

/// How long the worker still takes to store what was accepted: the time until one more message shows.
async fn catch_up(stack: &Stack) -> Result<Duration> {
    let user = stack.app()?.login("user0").await?;
    let mut stream = user.stream(&room_name(0)).open().await?;
    let began = Instant::now();
    let last = user.post(&room_name(0), "the last one").await?;
    loop {
        let message = stream.message(EVENT_WITHIN).await?.json()?;
        if message["id"] == last.as_str() {
            return Ok(began.elapsed());
        }
    }
}

/// Posts at a fixed rate, one follower for each room; the text of a message is when it was sent.
async fn latency(users: &[App]) -> Result<(f64, f64)> {
    let began = Instant::now();
    let per_room = usize::try_from(RATE).unwrap_or(0) * usize::try_from(PACED.as_secs()).unwrap_or(0) / ROOMS;
    let mut followers = JoinSet::new();
    for (room, user) in users.iter().enumerate().take(ROOMS) {
        let mut stream = user.stream(&room_name(room)).open().await?;
        followers.spawn(async move {
            let mut times = Vec::with_capacity(per_room);
            for message in 0..per_room {
                let event = stream.message(EVENT_WITHIN).await.explain(|| format!("message {message}"))?.json()?;
                let sent = event["message"].as_str().and_then(|sent| sent.parse().ok()).unwrap_or(0);
                times.push(began.elapsed().saturating_sub(Duration::from_micros(sent)));
            }
            Result::Ok(times)
        });
    }
    let mut pace = interval(Duration::from_secs(1) / RATE);
    let mut posts = JoinSet::new();
    for number in 0..per_room * ROOMS {
        pace.tick().await;
        let user = users[number % users.len()].clone();
        posts.spawn(async move {
            user.post(&room_name(number % ROOMS), &began.elapsed().as_micros().to_string()).await.map(drop)
        });
    }
    while let Some(done) = posts.join_next().await {
        done.explain(|| "a post panicked".to_owned())??;
    }
    let mut times = Vec::new();
    while let Some(done) = followers.join_next().await {
        times.extend(done.explain(|| "a follower panicked".to_owned())??);
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
    Ok((at(50), at(99)))
}

/// Resident memory of the gateway with and without idle streams, in KiB a stream.
async fn memory(stack: &Stack, user: &App) -> Result<f64> {
    let pid = stack.gateways[0].service.pid()?;
    let before = resident_kib(pid)?;
    let mut streams = Vec::with_capacity(IDLE_STREAMS);
    for number in 0..IDLE_STREAMS {
        let opening = user.stream(&room_name(number % ROOMS)).open();
        streams.push(timeout(EVENT_WITHIN, opening).await.explain(|| format!("stream {number}"))??);
    }
    let after = resident_kib(pid)?;
    Ok(as_f64(after.saturating_sub(before)) / as_f64(IDLE_STREAMS))
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
