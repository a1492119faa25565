//! Redis is killed under posting: nothing that was answered with 204 is lost.

use std::time::Duration;

use futures_util::future::try_join_all;
use rig::{App, Ledger, Result, eventually};

use crate::scene::{SOON, busy_lobby};

const SENDERS: usize = 4;
const POSTS: usize = 60;
/// A post repeats until Redis is back.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(30);

/// Posts one after another, each under a key of its own that is repeated until it is accepted.
async fn post_stubbornly(app: &App, sender: usize) -> Result<Ledger> {
    let mut ledger = Ledger::default();
    for number in 0..POSTS {
        let text = format!("{number} of sender {sender}");
        let key = format!("{sender}-{number}");
        let answer = eventually(ACCEPTED_WITHIN, "the post is accepted", async || {
            let answer = app.try_post("lobby", &text, Some(&key)).await?;
            if answer.status() != 204 {
                // Nothing but "come back later" may be said meanwhile.
                answer.expect_error_shape()?;
                assert_eq!(answer.status(), 503, "{answer}");
            }
            answer.expect(204)
        })
        .await?;
        ledger.acknowledge(answer.header("message-id").unwrap_or_default(), text);
    }
    Ok(ledger)
}

/// Waits until this many messages are in history.
async fn wait_for_history(app: &App, count: i64) -> Result<()> {
    eventually(ACCEPTED_WITHIN, "the messages have arrived", async || {
        let newest = app.history("lobby", "?limit=1").await?;
        match newest.first().and_then(|message| message["seq"].as_i64()).unwrap_or(0) {
            head if head >= count => Ok(()),
            head => Err(rig::Failure::new(format!("{head} of {count}"))),
        }
    })
    .await
}

#[tokio::test]
async fn redis_killed_under_posting_loses_nothing() {
    const KILLS: usize = 3;
    let (mut stack, ann) = busy_lobby().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    let start = stream.ready().id.clone();
    let posting = try_join_all((0..SENDERS).map(|sender| post_stubbornly(&ann, sender)));
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
    let (ledgers, ()) = futures_util::future::try_join(posting, killing).await.unwrap();

    let all = SENDERS * POSTS;
    wait_for_history(&ann, i64::try_from(all).unwrap()).await.unwrap();
    let history = ann.whole_history("lobby").await.unwrap();
    assert_eq!(history.len(), all);
    for ledger in &ledgers {
        ledger.check(&history).unwrap();
    }
    // The stream that was open all the time saw the same, and so does one that comes now.
    let live: Vec<_> = stream.messages(all, SOON).await.unwrap().iter().map(|event| event.json().unwrap()).collect();
    assert_eq!(live, history);
    let mut late = ann.stream("lobby").after(&start).open().await.unwrap();
    assert_eq!(late.messages(all, SOON).await.unwrap().len(), all);

    // And everything works as before.
    stack.wait_ready().await.unwrap();
    ann.post("lobby", "afterwards").await.unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["message"], "afterwards");
}

#[tokio::test]
async fn without_redis_reading_goes_on_and_posting_is_refused() {
    let (mut stack, ann) = busy_lobby().await;
    ann.post("lobby", "before").await.unwrap();
    let mut stream = ann.stream("lobby").open().await.unwrap();
    wait_for_history(&ann, 1).await.unwrap();
    stack.redis.kill().unwrap();

    assert_eq!(ann.history("lobby", "").await.unwrap().len(), 1);
    ann.get("/chat/").await.unwrap().expect(200).unwrap();
    let answer = ann.try_post("lobby", "during", Some("key")).await.unwrap();
    answer.expect_error_shape().unwrap();
    assert_eq!(answer.status(), 503, "{answer}");
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
    // However the first try ended, it is one message.
    ann.post("lobby", "after").await.unwrap();
    let mut texts = Vec::new();
    while texts.last().is_none_or(|text| text != "after") {
        texts.push(stream.message(SOON).await.unwrap().json().unwrap()["message"].as_str().unwrap().to_owned());
    }
    texts.retain(|text| text != "before");
    assert_eq!(texts, ["during", "after"]);
}

#[tokio::test]
async fn a_redis_that_comes_back_older_than_what_is_stored_loses_nothing() {
    let (mut stack, ann) = busy_lobby().await;
    ann.post("lobby", "before").await.unwrap();
    wait_for_history(&ann, 1).await.unwrap();
    stack.worker.kill().unwrap();
    // What is posted now is appended behind the position that is stored; then that Redis is exchanged for one which
    // holds the same entry under an id from long ago, as after a failover to a replica with a slow clock.
    let id = ann.post("lobby", "accepted").await.unwrap();
    stack.redis.rewrite_ids().await.unwrap();
    stack.worker.start().unwrap();
    wait_for_history(&ann, 2).await.unwrap();
    assert_eq!(ann.history("lobby", "?limit=1").await.unwrap()[0]["id"], id.as_str());
    // And what comes after it is read as well.
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
async fn a_redis_that_may_lose_messages_stops_both_services_unless_it_is_allowed() {
    let (mut stack, ann) = busy_lobby().await;
    stack.redis.configure("appendfsync", "everysec").await.unwrap();
    stack.worker.kill().unwrap();
    stack.gateways[0].kill().unwrap();
    stack.worker.start().unwrap();
    stack.gateways[0].start().unwrap();
    for service in [&mut stack.worker.service, &mut stack.gateways[0].service] {
        assert_eq!(service.exit_code(SOON).await.unwrap(), 64);
        let log = service.log();
        let complaint = log.lines().last().unwrap_or_default();
        for part in [
            &format!(
                "{}: Redis at 127.0.0.1:",
                service.name().trim_end_matches("-1").replace("worker", "fanout-worker")
            ),
            "has appendfsync everysec, and always is needed: acknowledged messages can be lost",
            "--allow-unsafe-redis (ALLOW_UNSAFE_REDIS=true)",
        ] {
            assert!(complaint.contains(part), "no {part:?} in {complaint:?}");
        }
        service.set("ALLOW_UNSAFE_REDIS", "true");
        service.start().unwrap();
    }
    stack.wait_ready().await.unwrap();
    ann.post("lobby", "at my own risk").await.unwrap();
    wait_for_history(&ann, 1).await.unwrap();
    for log in [stack.worker.service.log_end(), stack.gateways[0].service.log_end()] {
        assert!(log.contains("WARN") && log.contains("has appendfsync everysec"), "{log}");
    }
}

#[tokio::test]
async fn services_that_start_before_redis_wait_for_it_and_look_then() {
    let (mut stack, ann) = busy_lobby().await;
    stack.worker.kill().unwrap();
    stack.gateways[0].kill().unwrap();
    stack.redis.kill().unwrap();
    stack.worker.start().unwrap();
    stack.gateways[0].start().unwrap();
    let waiting = eventually(SOON, "both wait", async || {
        ann.get("/health/live").await?.expect(200)?;
        for log in [stack.worker.service.log_end(), stack.gateways[0].service.log_end()] {
            if !log.contains("waiting for Redis") {
                return Err(rig::Failure::new(log));
            }
        }
        Ok(())
    });
    waiting.await.unwrap();
    // What needs only SQL is served meanwhile.
    assert!(ann.history("lobby", "").await.unwrap().is_empty());
    stack.redis.restart().await.unwrap();
    stack.wait_ready().await.unwrap();
    ann.post("lobby", "hello").await.unwrap();
    wait_for_history(&ann, 1).await.unwrap();
}
