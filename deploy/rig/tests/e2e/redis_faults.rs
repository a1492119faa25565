//! Redis is killed under posting: nothing that was answered with 204 is lost.

use std::time::Duration;

use futures_util::future::try_join_all;
use rig::{AcknowledgedMessages, ApiClient, Result, eventually};

use crate::fixture::{FIRST, SOON, lobby_without_rates};

const SENDERS: usize = 4;
const POSTS: usize = 60;
/// A post repeats until Redis is back.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(30);

/// Posts one after another, each under a key of its own that is repeated until it is accepted.
async fn post_until_accepted(client: &ApiClient, sender: usize) -> Result<AcknowledgedMessages> {
    let mut acknowledged = AcknowledgedMessages::default();
    for number in 0..POSTS {
        let text = format!("{number} of sender {sender}");
        let key = format!("{sender}-{number}");
        let response = eventually(ACCEPTED_WITHIN, "the post is accepted", async || {
            let response = client.try_post("lobby", &text, Some(&key)).await?;
            if response.status() != 204 {
                // Until then every refusal must be a 503.
                response.expect_error_shape()?;
                assert_eq!(response.status(), 503, "{response}");
            }
            response.expect(204)
        })
        .await?;
        acknowledged.add(response.header("message-id").unwrap_or_default(), text);
    }
    Ok(acknowledged)
}

/// Waits until this many messages are in history.
async fn wait_for_history(client: &ApiClient, count: i64) -> Result<()> {
    let last = count + FIRST - 1;
    eventually(ACCEPTED_WITHIN, "the messages have arrived", async || {
        let newest = client.history("lobby", "?limit=1").await?;
        match newest.first().and_then(|message| message["seq"].as_i64()).unwrap_or(0) {
            seq if seq >= last => Ok(()),
            seq => Err(rig::Failure::new(format!("{seq} of {last}"))),
        }
    })
    .await
}

#[tokio::test]
async fn redis_killed_under_posting_loses_nothing() {
    const KILLS: usize = 3;
    let (mut stack, ann) = lobby_without_rates().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    let start = stream.ready().id.clone();
    let posting = try_join_all((0..SENDERS).map(|sender| post_until_accepted(&ann, sender)));
    let killing = async {
        for kill in 1..=KILLS {
            // Each kill falls into the posting: a part of it has arrived, and a part has not.
            let part = i64::try_from(SENDERS * POSTS * kill / (KILLS + 2))?;
            wait_for_history(&ann, part).await?;
            stack.redis.kill()?;
            stack.redis.restart().await?;
        }
        Ok(())
    };
    let (acknowledged_by_sender, ()) = futures_util::future::try_join(posting, killing).await.unwrap();

    let all = SENDERS * POSTS;
    wait_for_history(&ann, i64::try_from(all).unwrap()).await.unwrap();
    let history = ann.whole_history("lobby").await.unwrap();
    assert_eq!(history.len(), all);
    for acknowledged in &acknowledged_by_sender {
        acknowledged.check(&history).unwrap();
    }
    // The stream that was open all the time saw the same, and so does one that is opened now.
    let live: Vec<_> = stream.messages(all, SOON).await.unwrap().iter().map(|event| event.json().unwrap()).collect();
    assert_eq!(live, history);
    let mut late = ann.stream("lobby").after(&start).open().await.unwrap();
    assert_eq!(late.messages(all, SOON).await.unwrap().len(), all);

    // Afterwards everything works as before.
    stack.wait_ready().await.unwrap();
    ann.post("lobby", "afterwards").await.unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["message"], "afterwards");
}

#[tokio::test]
async fn reads_continue_and_posts_fail_without_redis() {
    let (mut stack, ann) = lobby_without_rates().await;
    ann.post("lobby", "before").await.unwrap();
    let mut stream = ann.stream("lobby").open().await.unwrap();
    wait_for_history(&ann, 1).await.unwrap();
    stack.redis.kill().unwrap();

    assert_eq!(ann.history("lobby", "").await.unwrap().len(), 1);
    ann.get("/chat/").await.unwrap().expect(200).unwrap();
    let response = ann.try_post("lobby", "during", Some("key")).await.unwrap();
    response.expect_error_shape().unwrap();
    assert_eq!(response.status(), 503, "{response}");
    let readiness =
        eventually(SOON, "the gateway says that it is not ready", async || ann.get("/health/ready").await?.expect(503));
    readiness.await.unwrap();
    ann.get("/health/live").await.unwrap().expect(200).unwrap();

    stack.redis.restart().await.unwrap();
    stack.wait_ready().await.unwrap();
    let again = eventually(SOON, "the same post is accepted", async || {
        ann.try_post("lobby", "during", Some("key")).await?.expect(204)
    });
    again.await.unwrap();
    // However the first try ended, there is one message.
    ann.post("lobby", "after").await.unwrap();
    let mut texts = Vec::new();
    while texts.last().is_none_or(|text| text != "after") {
        texts.push(stream.message(SOON).await.unwrap().json().unwrap()["message"].as_str().unwrap().to_owned());
    }
    texts.retain(|text| text != "before");
    assert_eq!(texts, ["during", "after"]);
}

#[tokio::test]
async fn redis_older_than_sql_loses_nothing() {
    let (mut stack, ann) = lobby_without_rates().await;
    ann.post("lobby", "before").await.unwrap();
    wait_for_history(&ann, 1).await.unwrap();
    stack.worker.kill().unwrap();
    // This message is appended behind the stored position; then that Redis is replaced by one which holds the same entry
    // under an id from long ago, as after a failover to a replica with a slow clock.
    let id = ann.post("lobby", "accepted").await.unwrap();
    stack.redis.rewrite_ids().await.unwrap();
    stack.worker.start().unwrap();
    wait_for_history(&ann, 2).await.unwrap();
    assert_eq!(ann.history("lobby", "?limit=1").await.unwrap()[0]["id"], id.as_str());
    // Later messages are read as well.
    stack.wait_ready().await.unwrap();
    ann.post("lobby", "after").await.unwrap();
    wait_for_history(&ann, 3).await.unwrap();
    let entries =
        eventually(SOON, "the accept log is empty again", async || match stack.redis.waiting_entries().await? {
            0 => Ok(()),
            waiting => Err(rig::Failure::new(format!("{waiting} entries"))),
        });
    entries.await.unwrap();
}

#[tokio::test]
async fn unsafe_redis_stops_services_unless_allowed() {
    let (mut stack, ann) = lobby_without_rates().await;
    stack.redis.configure("appendfsync", "everysec").await.unwrap();
    stack.worker.kill().unwrap();
    stack.gateways[0].kill().unwrap();
    stack.worker.start().unwrap();
    stack.gateways[0].start().unwrap();
    for process in [&mut stack.worker.process, &mut stack.gateways[0].process] {
        assert_eq!(process.exit_code(SOON).await.unwrap(), 64);
        let log = process.log();
        let complaint = log.lines().last().unwrap_or_default();
        for part in [
            &format!(
                "{}: Redis at 127.0.0.1:",
                process.name().trim_end_matches("-1").replace("worker", "fanout-worker")
            ),
            "has appendfsync everysec, and always is needed: acknowledged messages can be lost",
            "--allow-unsafe-redis (ALLOW_UNSAFE_REDIS=true)",
        ] {
            assert!(complaint.contains(part), "no {part:?} in {complaint:?}");
        }
        process.set("ALLOW_UNSAFE_REDIS", "true");
        process.start().unwrap();
    }
    stack.wait_ready().await.unwrap();
    ann.post("lobby", "at my own risk").await.unwrap();
    wait_for_history(&ann, 1).await.unwrap();
    for log in [stack.worker.process.log_end(), stack.gateways[0].process.log_end()] {
        assert!(log.contains("WARN") && log.contains("has appendfsync everysec"), "{log}");
    }
}

#[tokio::test]
async fn services_started_before_redis_wait_and_check_it() {
    let (mut stack, ann) = lobby_without_rates().await;
    stack.worker.kill().unwrap();
    stack.gateways[0].kill().unwrap();
    stack.redis.kill().unwrap();
    stack.worker.start().unwrap();
    stack.gateways[0].start().unwrap();
    let waiting = eventually(SOON, "both wait", async || {
        ann.get("/health/live").await?.expect(200)?;
        for log in [stack.worker.process.log_end(), stack.gateways[0].process.log_end()] {
            if !log.contains("waiting for Redis") {
                return Err(rig::Failure::new(log));
            }
        }
        Ok(())
    });
    waiting.await.unwrap();
    // Calls that need only SQL are served meanwhile.
    assert!(ann.history("lobby", "").await.unwrap().is_empty());
    stack.redis.restart().await.unwrap();
    stack.wait_ready().await.unwrap();
    ann.post("lobby", "hello").await.unwrap();
    wait_for_history(&ann, 1).await.unwrap();
}
