//! With `ACK=stored` a 204 stands on the commit and not on Redis.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rig::{Answer, App, Stack, eventually};

use crate::scene::{SOON, busy_lobby, furnish};

/// "A post fails within 5 s", with air for a machine that is busy with other tests.
const FAILS_WITHIN: Duration = Duration::from_secs(7);

async fn stored_lobby() -> (Stack, App) {
    let stack = Stack::builder().without_rates().gateways(2).gateway("ACK", "stored").start().await.unwrap();
    furnish(stack).await
}

fn seq_of(answer: &Answer) -> Option<i64> {
    answer.header("message-seq").map(|seq| seq.parse().unwrap())
}

#[tokio::test]
async fn what_is_acknowledged_is_in_history_with_the_seq_that_was_told() {
    let (_stack, ann) = stored_lobby().await;
    for expected in 1..=5 {
        let text = format!("message {expected}");
        let answer = ann.try_post("lobby", &text, None).await.unwrap().expect(204).unwrap();
        assert_eq!(seq_of(&answer), Some(expected));
        let newest = ann.history("lobby", "?limit=1").await.unwrap().remove(0);
        assert_eq!(newest["seq"], expected);
        assert_eq!(newest["id"], answer.header("message-id").unwrap());
    }
    // Many at once get as many places.
    let posts = (0..50).map(|number| post_at_once(&ann, number));
    let mut seqs = try_join_all(posts).await.unwrap();
    seqs.sort_unstable();
    assert_eq!(seqs, (6..=55).collect::<Vec<_>>());
}

async fn post_at_once(app: &App, number: usize) -> rig::Result<i64> {
    let answer = app.try_post("lobby", &format!("at once {number}"), None).await?.expect(204)?;
    Ok(seq_of(&answer).unwrap_or_default())
}

#[tokio::test]
async fn a_repeated_post_is_told_the_same_seq_through_every_gateway() {
    const TRIES: usize = 24;
    let (stack, ann) = stored_lobby().await;
    let apps = [ann.clone(), ann.moved_to(&stack.gateways[1].url()).unwrap()];
    ann.post("lobby", "before").await.unwrap();
    let tries = (0..TRIES).map(|number| apps[number % 2].try_post("lobby", "only once", Some("key")));
    for answer in try_join_all(tries).await.unwrap() {
        assert_eq!((answer.status(), seq_of(&answer)), (204, Some(2)), "{answer}");
    }
    for app in &apps {
        let again = app.try_post("lobby", "only once", Some("key")).await.unwrap();
        assert_eq!((again.status(), seq_of(&again)), (204, Some(2)), "{again}");
    }
}

#[tokio::test]
async fn without_a_worker_the_outcome_is_unknown_and_a_repetition_converges() {
    let (mut stack, ann) = stored_lobby().await;
    stack.worker.kill().unwrap();
    let asked = Instant::now();
    let answer = ann.try_post("lobby", "patience", Some("key")).await.unwrap();
    answer.expect_error(503, "outcome_unknown").unwrap();
    assert!(asked.elapsed() < FAILS_WITHIN, "{:?}", asked.elapsed());

    stack.worker.start().unwrap();
    let answer = eventually(SOON, "the same post is acknowledged", async || {
        ann.try_post("lobby", "patience", Some("key")).await?.expect(204)
    });
    assert_eq!(seq_of(&answer.await.unwrap()), Some(1));
    // Posts that nobody waits for any more are stored all the same, and hinder nothing.
    assert_eq!(seq_of(&ann.try_post("lobby", "after", None).await.unwrap()), Some(2));
    assert_eq!(ann.whole_history("lobby").await.unwrap().len(), 2);
}

#[tokio::test]
async fn otherwise_the_seq_is_told_when_a_stored_message_is_repeated() {
    let (_stack, ann) = busy_lobby().await;
    let first = ann.try_post("lobby", "once", Some("key")).await.unwrap().expect(204).unwrap();
    assert_eq!(seq_of(&first), None);
    let told = eventually(SOON, "the repetition is told the seq", async || {
        let again = ann.try_post("lobby", "once", Some("key")).await?.expect(204)?;
        seq_of(&again).ok_or_else(|| rig::Failure::new(again.to_string()))
    });
    assert_eq!(told.await.unwrap(), 1);
}
