//! Missing or overloaded servers make posts fail soon, and never make memory grow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rig::{AcknowledgedMessages, ApiClient, Failure, Gateway, RedisServer, Result, Stack, eventually, resident_kib};
use serde_json::json;
use tokio::time::sleep;

use crate::fixture::{FIRST, SOON, with_lobby};

/// "Recovers by itself within 10 s", with a margin for a machine that is busy with other tests.
const RECOVERS_WITHIN: Duration = Duration::from_secs(15);

/// "A post fails within 5 s", with a margin for the same reason.
const FAILS_WITHIN: Duration = Duration::from_secs(7);

/// Clients that post at the same time.
const POSTERS: usize = 16;

/// By how much a gateway may grow in any of these tests, in KiB.
const GROWTH_KIB: usize = 48 * 1024;

/// How long a flood goes on while its posts are refused: long enough for memory to grow if it is not bounded.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Pause between two reads while Redis hangs.
const BETWEEN_READS: Duration = Duration::from_millis(200);

/// How often memory is sampled.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// The most resident memory of the gateway until `load` ends, in KiB.
async fn peak_kib(gateway: &Gateway, load: impl Future<Output = Result<()>>) -> usize {
    let pid = gateway.process.pid().unwrap();
    let mut load = std::pin::pin!(load);
    let mut samples = tokio::time::interval(SAMPLE_EVERY);
    let mut peak = 0;
    loop {
        tokio::select! {
            done = &mut load => {
                done.unwrap();
                return peak;
            }
            _ = samples.tick() => peak = peak.max(resident_kib(pid).unwrap()),
        }
    }
}

/// What one flooding client saw.
#[derive(Default)]
struct Flood {
    acknowledged: AcknowledgedMessages,
    /// Posts that were refused.
    refused: usize,
    /// The longest time until a response.
    slowest: Duration,
}

/// Posts `text` with a number repeatedly until `end`; every post that is not accepted must get 503 with one of `codes`.
async fn post_until(client: &ApiClient, label: usize, text: &str, codes: &[&str], end: &AtomicBool) -> Result<Flood> {
    let mut flood = Flood::default();
    let mut number = 0;
    while !end.load(Ordering::Relaxed) {
        number += 1;
        let text = format!("{label} {number} {text}");
        let asked = Instant::now();
        let response = client.try_post("lobby", &text, None).await?;
        flood.slowest = flood.slowest.max(asked.elapsed());
        if response.status() == 204 {
            flood.acknowledged.add(response.header("message-id").unwrap_or_default(), text);
            continue;
        }
        let problem = response.expect_error_shape()?;
        if response.status() != 503 || !codes.iter().any(|code| problem["code"] == *code) {
            return Err(Failure::new(format!("not one of {codes:?}: {response}")));
        }
        flood.refused += 1;
    }
    Ok(flood)
}

/// Floods `lobby` for as long as `during` takes and returns what the clients saw.
async fn flood(client: &ApiClient, text: &str, codes: &[&str], during: impl Future<Output = ()>) -> Vec<Flood> {
    let end = AtomicBool::new(false);
    let posting = try_join_all((0..POSTERS).map(|label| post_until(client, label, text, codes, &end)));
    let ending = async {
        during.await;
        end.store(true, Ordering::Relaxed);
        Ok(())
    };
    futures_util::future::try_join(posting, ending).await.unwrap().0
}

/// Waits until posts are refused as busy, and lets the flood go on for [`REFUSED_FOR`].
async fn post_until_busy(client: &ApiClient, text: &str) {
    let busy = eventually(SOON * 3, "posts are refused", async || {
        client.try_post("lobby", text, None).await?.expect_error(503, "busy")
    });
    busy.await.unwrap();
    sleep(REFUSED_FOR).await;
}

/// Waits until a post is accepted again, and until everything that was acknowledged is in history.
async fn assert_recovers(client: &ApiClient, floods: &[Flood]) {
    let back = eventually(RECOVERS_WITHIN, "posts are accepted again", async || {
        client.try_post("lobby", "it works again", None).await?.expect(204)
    });
    back.await.unwrap();
    let complete = eventually(SOON * 6, "everything acknowledged is in history", async || {
        let history = client.whole_history("lobby").await?;
        floods.iter().try_for_each(|flood| flood.acknowledged.check(&history))
    });
    complete.await.unwrap();
}

/// Logs in again and again, with the right password and the wrong one.
async fn log_in_until(client: ApiClient, end: Instant) -> Result<()> {
    for number in 0.. {
        if Instant::now() >= end {
            break;
        }
        let password = if number % 2 == 0 { "secret of ann" } else { "wrong" };
        let response = client.send_json("/auth/login", &json!({"email": "ann", "password": password})).await?;
        assert!([200, 401, 503].contains(&response.status()), "{response}");
    }
    Ok(())
}

#[tokio::test]
async fn posts_over_backlog_cap_are_refused_until_worker_returns() {
    const CAP: u64 = 300;
    let stack = Stack::builder().without_rates().gateway("BACKLOG_PER_PARTITION", &CAP.to_string());
    let (mut stack, ann) = with_lobby(stack.start().await.unwrap()).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    stack.worker.kill().unwrap();
    // The sockets and buffers of the clients exist before memory is measured.
    try_join_all((0..POSTERS).map(|_| ann.post("lobby", "warm"))).await.unwrap();
    let before = resident_kib(stack.gateways[0].process.pid().unwrap()).unwrap();

    let mut floods = Vec::new();
    let load = async {
        floods = flood(&ann, "over the cap", &["busy"], post_until_busy(&ann, "one more")).await;
        Ok(())
    };
    let peak = peak_kib(&stack.gateways[0], load).await;
    let accepted: usize = floods.iter().map(|flood| flood.acknowledged.len()).sum();
    let refused: usize = floods.iter().map(|flood| flood.refused).sum();
    let waiting = stack.redis.waiting_entries().await.unwrap();
    println!("{accepted} accepted, {refused} refused, {waiting} waiting; {before} KiB before, {peak} at most");
    assert!(refused > 0);
    assert!(waiting >= CAP, "{waiting} wait");
    assert!(peak < before + GROWTH_KIB, "{before} KiB before, {peak} KiB at most");
    ann.get("/chat/").await.unwrap().expect(200).unwrap();

    stack.worker.start().unwrap();
    assert_recovers(&ann, &floods).await;
    let stored = ann.whole_history("lobby").await.unwrap();
    let events = stream.messages(stored.len(), SOON).await.unwrap();
    rig::check_dense_seqs(&events.iter().map(|event| event.json().unwrap()).collect::<Vec<_>>(), FIRST).unwrap();
}

/// Bytes that Redis uses for data.
async fn used_memory(redis: &RedisServer) -> u64 {
    let mut connection = redis.connect().await.unwrap();
    let info: redis::InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut connection).await.unwrap();
    info.get("used_memory").unwrap()
}

#[tokio::test]
async fn nearly_full_redis_refuses_posts_until_worker_trims() {
    const SPARE_BYTES: u64 = 16 * 1024 * 1024;
    let (mut stack, ann) = with_lobby(Stack::builder().without_rates().start().await.unwrap()).await;
    stack.worker.kill().unwrap();
    let most = used_memory(&stack.redis).await + SPARE_BYTES;
    stack.redis.configure("maxmemory", &most.to_string()).await.unwrap();

    let large = "x".repeat(3_900);
    let before = resident_kib(stack.gateways[0].process.pid().unwrap()).unwrap();
    let mut floods = Vec::new();
    let load = async {
        floods = flood(&ann, &large, &["busy", "unavailable"], post_until_busy(&ann, &large)).await;
        Ok(())
    };
    let peak = peak_kib(&stack.gateways[0], load).await;
    let used = used_memory(&stack.redis).await;
    println!("Redis uses {used} of {most} bytes; gateway {before} KiB before, {peak} KiB at most");
    assert!(used < most, "{used} of {most} bytes");
    assert!(peak < before + GROWTH_KIB, "{before} KiB before, {peak} KiB at most");
    // Calls that need little of Redis's memory succeed.
    ann.register("bob").await.unwrap();
    ann.stream("lobby").open().await.unwrap();

    stack.worker.start().unwrap();
    assert_recovers(&ann, &floods).await;
}

#[tokio::test]
async fn full_redis_refuses_posts_while_reads_continue() {
    let (stack, ann) = with_lobby(Stack::builder().without_rates().start().await.unwrap()).await;
    // Until the gateway checks Redis again, its responses are those to Redis's own refusals.
    stack.redis.configure("maxmemory", "1").await.unwrap();
    let refused = flood(&ann, "no space", &["busy", "unavailable"], sleep(REFUSED_FOR)).await;
    assert!(refused.iter().all(|flood| flood.acknowledged.is_empty() && flood.refused > 0));
    assert!(ann.history("lobby", "").await.unwrap().is_empty());
    ann.get("/chat/").await.unwrap().expect(200).unwrap();
    stack.redis.configure("maxmemory", "0").await.unwrap();
    assert_recovers(&ann, &refused).await;
}

#[tokio::test]
async fn hanging_redis_fails_posts_soon_while_reads_continue() {
    let (stack, ann) = with_lobby(Stack::builder().without_rates().start().await.unwrap()).await;
    ann.post("lobby", "before").await.unwrap();
    let stored = eventually(SOON, "it is stored", async || match ann.history("lobby", "").await?.len() {
        1 => Ok(()),
        count => Err(Failure::new(format!("{count} messages"))),
    });
    stored.await.unwrap();
    try_join_all((0..POSTERS).map(|_| ann.get("/chat/"))).await.unwrap();
    let before = resident_kib(stack.gateways[0].process.pid().unwrap()).unwrap();

    stack.redis.process.pause().unwrap();
    let reading = async {
        for _ in 0..20 {
            assert_eq!(ann.history("lobby", "?limit=1").await.unwrap().len(), 1);
            sleep(BETWEEN_READS).await;
        }
    };
    let mut floods = Vec::new();
    let load = async {
        floods = flood(&ann, "nobody reads", &["unavailable", "outcome_unknown"], reading).await;
        Ok(())
    };
    let peak = peak_kib(&stack.gateways[0], load).await;
    stack.redis.process.resume().unwrap();
    let slowest = floods.iter().map(|flood| flood.slowest).max().unwrap();
    println!("the slowest post failed after {slowest:?}; {before} KiB before, {peak} KiB at most");
    assert!(slowest < FAILS_WITHIN, "{slowest:?}");
    assert!(peak < before + GROWTH_KIB, "{before} KiB before, {peak} KiB at most");
    assert_recovers(&ann, &floods).await;
}

#[tokio::test]
async fn login_flood_keeps_memory_bounded() {
    const CLIENTS: usize = 8;
    const FLOOD: Duration = Duration::from_secs(5);
    // Each core may hash with its 19 MiB; an allocator that does not give memory back grew to a gigabyte here.
    let cores = std::thread::available_parallelism().unwrap().get();
    let bound_kib = (96 + 24 * cores) * 1024;
    let (stack, ann) = with_lobby(Stack::builder().without_limits().start().await.unwrap()).await;
    let before = resident_kib(stack.gateways[0].process.pid().unwrap()).unwrap();
    let end = Instant::now() + FLOOD;
    let flood = async {
        try_join_all((0..CLIENTS).map(|_| log_in_until(ann.clone(), end))).await?;
        Ok(())
    };
    let peak = peak_kib(&stack.gateways[0], flood).await;
    let after = resident_kib(stack.gateways[0].process.pid().unwrap()).unwrap();
    println!("KiB resident: {before} before, {peak} at most, {after} after");
    assert!(peak < bound_kib, "{before} KiB before, {peak} KiB at most");
}
