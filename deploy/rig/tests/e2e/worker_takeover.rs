//! Workers take over from each other when one stops, is killed, hangs or loses Redis or the database: nothing is lost, doubled
//! or reordered, and it does not take long.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use rig::{AcknowledgedMessages, ApiClient, FIRST_SEQ, Failure, Result, Stack, Worker, eventually};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::fixture::{SOON, with_lobby};

/// Rooms that are posted to at the same time; together with `lobby` they are in several partitions.
pub(crate) const ROOMS: [&str; 6] = ["lobby", "a", "b", "c", "d", "e"];

/// With six rooms: 500 posts a second.
const POST_EVERY: Duration = Duration::from_millis(12);

/// "Planned hand-over ≤ 0.3 s": the median of a few, with a margin for a machine that is busy with other tests.
const HANDED_OVER_WITHIN: Duration = Duration::from_millis(600);
/// A worker that waits for a registration to expire takes longer: one is renewed when 0.4 s of 1.5 s have passed.
const REGISTRATION_EXPIRES: Duration = Duration::from_millis(1_100);
/// "Takeover after a crash ≤ 3 s".
pub(crate) const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(3);
/// Enough to see that posts are stored as before.
const SOME: i64 = 20;

/// A stack whose first worker owns all partitions, and a second worker that stands by.
async fn two_workers() -> (Stack, Worker, ApiClient) {
    let (stack, ann) = with_lobby(Stack::builder().without_rates().gateways(2).start().await.unwrap()).await;
    for room in &ROOMS[1..] {
        ann.create_room(room).await.unwrap();
    }
    let mut two = stack.another_worker("worker-2").unwrap();
    two.start().unwrap();
    wait_for_workers(&stack, 2).await.unwrap();
    (stack, two, ann)
}

/// Waits until so many workers are registered in Redis.
pub(crate) async fn wait_for_workers(stack: &Stack, count: u64) -> Result<()> {
    eventually(SOON, "the workers are registered", async || {
        let mut redis = stack.redis.connect().await?;
        match redis::cmd("ZCARD").arg(stack.redis_key("workers").await?).query_async::<u64>(&mut redis).await? {
            living if living == count => Ok(()),
            living => Err(Failure::new(format!("{living} of {count}"))),
        }
    })
    .await
}

/// How many messages a room has of which nobody but its owner is a member.
async fn message_count(client: &ApiClient, room: &str) -> Result<i64> {
    let newest = client.history(room, "?limit=1").await?;
    let seq = newest.first().and_then(|message| message["seq"].as_i64());
    Ok(seq.map_or(0, |seq| seq + 1 - FIRST_SEQ))
}

/// Waits until every room holds some more messages than now.
pub(crate) async fn wait_for_progress(client: &ApiClient) -> Result<()> {
    for room in ROOMS {
        let before = message_count(client, room).await?;
        eventually(SOON, "posts are stored", async || match message_count(client, room).await? {
            now if now >= before + SOME => Ok(()),
            now => Err(Failure::new(format!("{now} after {before} in {room}"))),
        })
        .await?;
    }
    Ok(())
}

/// Posts to `room` until `stop`, and returns what was acknowledged.
async fn post(client: &ApiClient, room: &str, stop: &CancellationToken) -> AcknowledgedMessages {
    let mut acknowledged = AcknowledgedMessages::default();
    let mut pace = interval(POST_EVERY);
    while !stop.is_cancelled() {
        pace.tick().await;
        let text = format!("{} in {room}", acknowledged.len());
        let id = client.post(room, &text).await.unwrap();
        acknowledged.add(id, text);
    }
    acknowledged
}

/// The longest time without a message on the stream of `room` until `stop`.
async fn longest_silence(client: &ApiClient, room: &str, stop: &CancellationToken) -> Duration {
    let mut stream = client.stream(room).open().await.unwrap();
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    loop {
        tokio::select! {
            () = stop.cancelled() => return longest,
            message = stream.message(SOON) => message.unwrap(),
        };
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
}

/// Posts to all rooms through both gateways while `change` happens, checks that nothing is lost, doubled or reordered, and
/// returns for how long nothing arrived in one of them.
pub(crate) async fn under_posting(
    urls: [String; 2],
    client: &ApiClient,
    change: impl AsyncFnOnce() -> Result<()>,
) -> Duration {
    let stop = CancellationToken::new();
    let mut before = Vec::new();
    for room in ROOMS {
        before.push(message_count(client, room).await.unwrap());
    }
    let clients: Vec<ApiClient> = urls.iter().map(|url| client.moved_to(url).unwrap()).collect();
    let posting = join_all((0..).zip(ROOMS).map(|(number, room)| post(&clients[number % 2], room, &stop)));
    let changing = async {
        wait_for_progress(client).await.unwrap();
        change().await.unwrap();
        wait_for_progress(client).await.unwrap();
        stop.cancel();
    };
    let watching = join_all(ROOMS.map(|room| longest_silence(&clients[1], room, &stop)));
    let ((acknowledged_by_room, silences), ()) = join(join(posting, watching), changing).await;
    for ((acknowledged, room), before) in acknowledged_by_room.iter().zip(ROOMS).zip(before) {
        let all = before + i64::try_from(acknowledged.len()).unwrap();
        let stored =
            eventually(SOON, "everything acknowledged is stored", async || match message_count(client, room).await? {
                now if now >= all => Ok(()),
                now => Err(Failure::new(format!("{now} of {all}"))),
            });
        stored.await.unwrap();
        let history = client.whole_history(room).await.unwrap();
        acknowledged.check_after(&history, usize::try_from(before).unwrap()).unwrap();
    }
    silences.into_iter().max().unwrap_or_default()
}

pub(crate) fn urls(stack: &Stack) -> [String; 2] {
    [stack.gateways[0].url(), stack.gateways[1].url()]
}

#[tokio::test]
async fn stopped_worker_hands_over_in_promised_time() {
    const TIMES: usize = 3;
    let (mut stack, mut two, ann) = two_workers().await;
    let mut silences = Vec::new();
    for _ in 0..TIMES {
        let urls = urls(&stack);
        let active = &mut stack.worker;
        silences.push(
            under_posting(urls, &ann, async || {
                assert_eq!(active.process.stop(SOON).await?, 0);
                Ok(())
            })
            .await,
        );
        stack.worker.start().unwrap();
        wait_for_workers(&stack, 2).await.unwrap();
        std::mem::swap(&mut stack.worker, &mut two);
    }
    silences.sort_unstable();
    assert!(silences[TIMES / 2] <= HANDED_OVER_WITHIN, "{silences:?}");
    assert!(silences[TIMES - 1] < REGISTRATION_EXPIRES, "{silences:?}");
}

#[tokio::test]
async fn killed_worker_is_replaced_in_promised_time() {
    const TIMES: usize = 2;
    let (mut stack, mut two, ann) = two_workers().await;
    for _ in 0..TIMES {
        let urls = urls(&stack);
        let active = &mut stack.worker;
        let silence = under_posting(urls, &ann, async || active.kill()).await;
        assert!(silence < REGISTRATION_EXPIRES, "{silence:?}");
        stack.worker.start().unwrap();
        wait_for_workers(&stack, 2).await.unwrap();
        std::mem::swap(&mut stack.worker, &mut two);
    }
}

#[tokio::test]
async fn alternating_worker_kills_lose_nothing() {
    const KILLS: usize = 4;
    let (mut stack, mut two, ann) = two_workers().await;
    let urls = urls(&stack);
    let one = &mut stack.worker;
    under_posting(urls, &ann, async || {
        for _ in 0..KILLS {
            // The active worker and the one that stands by in turn, and both for a moment.
            for worker in [&mut *one, &mut two] {
                worker.kill()?;
                worker.start()?;
            }
            wait_for_progress(&ann).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn paused_worker_does_not_reclaim_after_registration_expiry() {
    const TIMES: usize = 2;
    let (mut stack, mut two, ann) = two_workers().await;
    for _ in 0..TIMES {
        under_posting(urls(&stack), &ann, async || {
            let mut database = stack.database().await?;
            let paused = database.owners().await?[0].0.clone();
            stack.worker.process.pause()?;
            // How soon others store does not matter here: a worker that was paused in the middle of a transaction keeps SQLite's
            // file locked.
            wait_for_workers(&stack, 1).await?;
            stack.worker.process.resume()?;
            wait_for_workers(&stack, 2).await?;
            wait_for_progress(&ann).await?;
            let owners = database.owners().await?;
            assert!(owners.iter().all(|(owner, _)| *owner == owners[0].0 && *owner != paused), "{paused}: {owners:?}");
            wait_for_progress(&ann).await?;
            assert_eq!(database.owners().await?, owners);
            database.close().await
        })
        .await;
        // The next worker to be paused is the active one.
        std::mem::swap(&mut stack.worker, &mut two);
    }
}

#[tokio::test]
async fn worker_refused_by_redis_is_replaced_and_stands_by() {
    let (mut stack, mut two, ann) = two_workers().await;
    let mut redis = stack.redis.connect().await.unwrap();
    // The second worker gets a user of its own in Redis, so that it alone can be refused.
    let rights = ["ACL", "SETUSER", "refused", "on", ">secret", "~*", "&*", "+@all"];
    command(&mut redis, &rights).await.unwrap();
    let url = stack.redis.url().replace("redis://", "redis://refused:secret@");
    two.process.set("REDIS_URL", url);
    assert_eq!(two.process.stop(SOON).await.unwrap(), 0);
    two.start().unwrap();
    wait_for_workers(&stack, 2).await.unwrap();
    assert_eq!(stack.worker.process.stop(SOON).await.unwrap(), 0);
    stack.worker.start().unwrap();
    wait_for_workers(&stack, 2).await.unwrap();

    let silence = under_posting(urls(&stack), &ann, async || {
        let mut database = stack.database().await?;
        let refused = database.owners().await?;
        command(&mut redis, &["ACL", "SETUSER", "refused", "-@all"]).await?;
        command(&mut redis, &["CLIENT", "KILL", "USER", "refused"]).await?;
        wait_for_workers(&stack, 1).await?;
        wait_for_progress(&ann).await?;
        // Each partition was claimed once: the refused worker claimed none again.
        let owners = database.owners().await?;
        let claims: Vec<i64> = owners.iter().zip(&refused).map(|((_, now), (_, before))| now - before).collect();
        assert!(claims.iter().all(|claims| *claims == 1), "{refused:?} {owners:?}");
        command(&mut redis, &["ACL", "SETUSER", "refused", "+@all"]).await?;
        wait_for_workers(&stack, 2).await?;
        wait_for_progress(&ann).await?;
        assert_eq!(database.owners().await?, owners);
        database.close().await
    })
    .await;
    assert!(silence <= TAKEN_OVER_WITHIN, "{silence:?}");
}

async fn command(redis: &mut redis::aio::MultiplexedConnection, words: &[&str]) -> Result<()> {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    Ok(command.exec_async(redis).await?)
}

#[tokio::test]
async fn workers_without_database_release_partitions_and_return() {
    let (stack, two, ann) = two_workers().await;
    let file = SqliteConnectOptions::new().filename(stack.directory().join("roomcast.db"));
    under_posting(urls(&stack), &ann, async || {
        let mut other: SqliteConnection = file.connect().await?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await?;
        // The owner releases the partitions; so does the next worker, which cannot even claim them.
        wait_for_log(&stack.worker, "leaving the partitions").await?;
        wait_for_log(&two, "leaving the partitions").await?;
        other.close().await?;
        Ok(())
    })
    .await;
}

async fn wait_for_log(worker: &Worker, what: &str) -> Result<()> {
    eventually(SOON, "the worker logs what it does", async || {
        if worker.process.log().contains(what) {
            Ok(())
        } else {
            Err(Failure::new(worker.process.log_end()))
        }
    })
    .await
}
