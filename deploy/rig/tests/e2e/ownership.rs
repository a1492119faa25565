//! Workers take over from each other, whatever becomes of one: nothing is lost, doubled or reordered, and it does not take
//! long.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use rig::{App, Failure, Ledger, Result, Stack, Worker, eventually};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::scene::{SOON, furnish};

/// Rooms that are posted to at the same time; with `lobby` they lie in several partitions.
pub(crate) const ROOMS: [&str; 6] = ["lobby", "a", "b", "c", "d", "e"];

/// With six rooms: 500 posts a second.
const POST_EVERY: Duration = Duration::from_millis(12);

/// "Planned hand-over ≤ 0.3 s": the median of a few, with air for a machine that is busy with other tests.
const HANDED_OVER_WITHIN: Duration = Duration::from_millis(600);
/// Whoever waits for a place to run out takes longer: it is renewed when 0.4 s of 1.5 s are used up.
const PLACE_RUNS_OUT: Duration = Duration::from_millis(1_100);
/// "Takeover after a crash ≤ 3 s".
pub(crate) const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(3);
/// Enough to see that posts are stored as before.
const SOME: i64 = 20;

/// A stack of the worker `one`, which has everything, and the worker `two`, which stands by.
async fn two_workers() -> (Stack, Worker, App) {
    let (stack, ann) = furnish(Stack::builder().without_rates().gateways(2).start().await.unwrap()).await;
    for room in &ROOMS[1..] {
        ann.create_room(room).await.unwrap();
    }
    let mut two = stack.another_worker("worker-2").unwrap();
    two.start().unwrap();
    wait_for_workers(&stack, 2).await.unwrap();
    (stack, two, ann)
}

/// Waits until Redis knows so many workers.
pub(crate) async fn wait_for_workers(stack: &Stack, count: u64) -> Result<()> {
    eventually(SOON, "the workers have their places", async || {
        let mut redis = stack.redis.connect().await?;
        match redis::cmd("ZCARD").arg(stack.name("workers").await?).query_async::<u64>(&mut redis).await? {
            living if living == count => Ok(()),
            living => Err(Failure::new(format!("{living} of {count}"))),
        }
    })
    .await
}

async fn head(app: &App, room: &str) -> Result<i64> {
    let newest = app.history(room, "?limit=1").await?;
    Ok(newest.first().and_then(|message| message["seq"].as_i64()).unwrap_or(0))
}

/// Waits until every room holds some more messages than now.
pub(crate) async fn wait_for_progress(app: &App) -> Result<()> {
    for room in ROOMS {
        let before = head(app, room).await?;
        eventually(SOON, "posts are stored", async || match head(app, room).await? {
            now if now >= before + SOME => Ok(()),
            now => Err(Failure::new(format!("{now} after {before} in {room}"))),
        })
        .await?;
    }
    Ok(())
}

/// Posts to `room` until `stop`, and returns what was acknowledged.
async fn post(app: &App, room: &str, stop: &CancellationToken) -> Ledger {
    let mut ledger = Ledger::default();
    let mut pace = interval(POST_EVERY);
    while !stop.is_cancelled() {
        pace.tick().await;
        let text = format!("{} in {room}", ledger.len());
        let id = app.post(room, &text).await.unwrap();
        ledger.acknowledge(id, text);
    }
    ledger
}

/// The longest time without a message on the stream of `room` until `stop`.
async fn longest_silence(app: &App, room: &str, stop: &CancellationToken) -> Duration {
    let mut stream = app.stream(room).open().await.unwrap();
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

/// Posts to all rooms through both gateways while `story` happens, checks that nothing is lost, doubled or reordered, and
/// returns for how long nothing arrived in one of them.
pub(crate) async fn under_posting(urls: [String; 2], app: &App, story: impl AsyncFnOnce() -> Result<()>) -> Duration {
    let stop = CancellationToken::new();
    let mut before = Vec::new();
    for room in ROOMS {
        before.push(head(app, room).await.unwrap());
    }
    let apps: Vec<App> = urls.iter().map(|url| app.moved_to(url).unwrap()).collect();
    let posting = join_all((0..).zip(ROOMS).map(|(number, room)| post(&apps[number % 2], room, &stop)));
    let telling = async {
        wait_for_progress(app).await.unwrap();
        story().await.unwrap();
        wait_for_progress(app).await.unwrap();
        stop.cancel();
    };
    let watching = join_all(ROOMS.map(|room| longest_silence(&apps[1], room, &stop)));
    let ((ledgers, silences), ()) = join(join(posting, watching), telling).await;
    for ((ledger, room), before) in ledgers.iter().zip(ROOMS).zip(before) {
        let all = before + i64::try_from(ledger.len()).unwrap();
        let stored = eventually(SOON, "everything acknowledged is stored", async || match head(app, room).await? {
            now if now >= all => Ok(()),
            now => Err(Failure::new(format!("{now} of {all}"))),
        });
        stored.await.unwrap();
        let history = app.whole_history(room).await.unwrap();
        ledger.check_after(&history, usize::try_from(before).unwrap()).unwrap();
    }
    silences.into_iter().max().unwrap_or_default()
}

pub(crate) fn urls(stack: &Stack) -> [String; 2] {
    [stack.gateways[0].url(), stack.gateways[1].url()]
}

#[tokio::test]
async fn a_worker_that_stops_hands_over_within_the_promised_time() {
    const TIMES: usize = 3;
    let (mut stack, mut two, ann) = two_workers().await;
    let mut silences = Vec::new();
    for _ in 0..TIMES {
        let urls = urls(&stack);
        let active = &mut stack.worker;
        silences.push(
            under_posting(urls, &ann, async || {
                assert_eq!(active.service.stop(SOON).await?, 0);
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
    assert!(silences[TIMES - 1] < PLACE_RUNS_OUT, "{silences:?}");
}

#[tokio::test]
async fn a_worker_that_is_killed_is_replaced_within_the_promised_time() {
    const TIMES: usize = 2;
    let (mut stack, mut two, ann) = two_workers().await;
    for _ in 0..TIMES {
        let urls = urls(&stack);
        let active = &mut stack.worker;
        let silence = under_posting(urls, &ann, async || active.kill()).await;
        assert!(silence < PLACE_RUNS_OUT, "{silence:?}");
        stack.worker.start().unwrap();
        wait_for_workers(&stack, 2).await.unwrap();
        std::mem::swap(&mut stack.worker, &mut two);
    }
}

#[tokio::test]
async fn workers_killed_one_after_the_other_under_posting_change_nothing() {
    const KILLS: usize = 4;
    let (mut stack, mut two, ann) = two_workers().await;
    let urls = urls(&stack);
    let one = &mut stack.worker;
    under_posting(urls, &ann, async || {
        for _ in 0..KILLS {
            // Now the one at work, now the one that stands by, and both for a moment.
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
async fn a_worker_that_slept_longer_than_its_place_lasts_takes_nothing_back() {
    const TIMES: usize = 2;
    let (mut stack, mut two, ann) = two_workers().await;
    for _ in 0..TIMES {
        under_posting(urls(&stack), &ann, async || {
            let mut database = stack.database().await?;
            let asleep = database.owners().await?[0].0.clone();
            stack.worker.service.pause()?;
            // How soon others store is not the question here: if it fell asleep in the middle of a transaction, it keeps
            // SQLite's file locked.
            wait_for_workers(&stack, 1).await?;
            stack.worker.service.resume()?;
            wait_for_workers(&stack, 2).await?;
            wait_for_progress(&ann).await?;
            let owners = database.owners().await?;
            assert!(owners.iter().all(|(owner, _)| *owner == owners[0].0 && *owner != asleep), "{asleep}: {owners:?}");
            wait_for_progress(&ann).await?;
            assert_eq!(database.owners().await?, owners);
            database.close().await
        })
        .await;
        // The next one to fall asleep is the one at work.
        std::mem::swap(&mut stack.worker, &mut two);
    }
}

#[tokio::test]
async fn a_worker_that_redis_refuses_is_replaced_and_stands_by_when_it_is_served_again() {
    let (mut stack, mut two, ann) = two_workers().await;
    let mut redis = stack.redis.connect().await.unwrap();
    // The second worker gets a name of its own in Redis, by which it can be refused alone.
    let rights = ["ACL", "SETUSER", "refused", "on", ">secret", "~*", "&*", "+@all"];
    command(&mut redis, &rights).await.unwrap();
    let url = stack.redis.url().replace("redis://", "redis://refused:secret@");
    two.service.set("REDIS_URL", url);
    assert_eq!(two.service.stop(SOON).await.unwrap(), 0);
    two.start().unwrap();
    wait_for_workers(&stack, 2).await.unwrap();
    assert_eq!(stack.worker.service.stop(SOON).await.unwrap(), 0);
    stack.worker.start().unwrap();
    wait_for_workers(&stack, 2).await.unwrap();

    let silence = under_posting(urls(&stack), &ann, async || {
        let mut database = stack.database().await?;
        let refused = database.owners().await?;
        command(&mut redis, &["ACL", "SETUSER", "refused", "-@all"]).await?;
        command(&mut redis, &["CLIENT", "KILL", "USER", "refused"]).await?;
        wait_for_workers(&stack, 1).await?;
        wait_for_progress(&ann).await?;
        // Each was claimed once: the one that Redis refuses took nothing back.
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
async fn workers_that_cannot_write_to_the_database_make_room_and_come_back() {
    let (stack, two, ann) = two_workers().await;
    let file = SqliteConnectOptions::new().filename(stack.directory().join("roomcast.db"));
    under_posting(urls(&stack), &ann, async || {
        let mut other: SqliteConnection = file.connect().await?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await?;
        // Whoever has the partitions leaves them; so does the next one, who cannot even claim them.
        wait_for_log(&stack.worker, "leaving the partitions").await?;
        wait_for_log(&two, "leaving the partitions").await?;
        other.close().await?;
        Ok(())
    })
    .await;
}

async fn wait_for_log(worker: &Worker, what: &str) -> Result<()> {
    eventually(SOON, "the worker says what it does", async || {
        if worker.service.log().contains(what) {
            Ok(())
        } else {
            Err(Failure::new(worker.service.log_end()))
        }
    })
    .await
}
