//! With `ACK=stored` a 204 means that the message is committed, not merely in Redis.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rig::{ApiClient, HttpResponse, Stack, eventually};

use crate::fixture::{FIRST, SOON, lobby_without_rates, with_lobby};

/// "A post fails within 5 s", with a margin for a machine that is busy with other tests.
const FAILS_WITHIN: Duration = Duration::from_secs(7);

async fn stored_lobby() -> (Stack, ApiClient) {
    let stack = Stack::builder().without_rates().gateways(2).gateway("ACK", "stored").start().await.unwrap();
    with_lobby(stack).await
}

fn seq_of(response: &HttpResponse) -> Option<i64> {
    response.header("message-seq").map(|seq| seq.parse().unwrap())
}

#[tokio::test]
async fn acknowledged_message_has_its_seq_in_history() {
    let (_stack, ann) = stored_lobby().await;
    for expected in FIRST..FIRST + 5 {
        let text = format!("message {expected}");
        let response = ann.try_post("lobby", &text, None).await.unwrap().expect(204).unwrap();
        assert_eq!(seq_of(&response), Some(expected));
        let newest = ann.history("lobby", "?limit=1").await.unwrap().remove(0);
        assert_eq!(newest["seq"], expected);
        assert_eq!(newest["id"], response.header("message-id").unwrap());
    }
    // Concurrent posts get distinct, dense seqs.
    let posts = (0..50).map(|number| post_at_once(&ann, number));
    let mut seqs = try_join_all(posts).await.unwrap();
    seqs.sort_unstable();
    assert_eq!(seqs, (FIRST + 5..FIRST + 55).collect::<Vec<_>>());
}

async fn post_at_once(client: &ApiClient, number: usize) -> rig::Result<i64> {
    let response = client.try_post("lobby", &format!("at once {number}"), None).await?.expect(204)?;
    Ok(seq_of(&response).unwrap_or_default())
}

#[tokio::test]
async fn repeated_post_returns_same_seq_at_every_gateway() {
    const TRIES: usize = 24;
    let (stack, ann) = stored_lobby().await;
    let clients = [ann.clone(), ann.moved_to(&stack.gateways[1].url()).unwrap()];
    ann.post("lobby", "before").await.unwrap();
    let tries = (0..TRIES).map(|number| clients[number % 2].try_post("lobby", "only once", Some("key")));
    for response in try_join_all(tries).await.unwrap() {
        assert_eq!((response.status(), seq_of(&response)), (204, Some(FIRST + 1)), "{response}");
    }
    for client in &clients {
        let again = client.try_post("lobby", "only once", Some("key")).await.unwrap();
        assert_eq!((again.status(), seq_of(&again)), (204, Some(FIRST + 1)), "{again}");
    }
}

#[tokio::test]
async fn unknown_outcome_without_worker_converges_when_repeated() {
    let (mut stack, ann) = stored_lobby().await;
    stack.worker.kill().unwrap();
    let asked = Instant::now();
    let response = ann.try_post("lobby", "patience", Some("key")).await.unwrap();
    response.expect_error(503, "outcome_unknown").unwrap();
    assert!(asked.elapsed() < FAILS_WITHIN, "{:?}", asked.elapsed());

    stack.worker.start().unwrap();
    let response = eventually(SOON, "the same post is acknowledged", async || {
        ann.try_post("lobby", "patience", Some("key")).await?.expect(204)
    });
    assert_eq!(seq_of(&response.await.unwrap()), Some(FIRST));
    // Posts whose client no longer waits are stored all the same, and block nothing.
    assert_eq!(seq_of(&ann.try_post("lobby", "after", None).await.unwrap()), Some(FIRST + 1));
    assert_eq!(ann.whole_history("lobby").await.unwrap().len(), 2);
}

#[tokio::test]
async fn repeated_post_returns_seq_once_stored() {
    let (_stack, ann) = lobby_without_rates().await;
    let first = ann.try_post("lobby", "once", Some("key")).await.unwrap().expect(204).unwrap();
    assert_eq!(seq_of(&first), None);
    let seq = eventually(SOON, "the repetition returns the seq", async || {
        let again = ann.try_post("lobby", "once", Some("key")).await?.expect(204)?;
        seq_of(&again).ok_or_else(|| rig::Failure::new(again.to_string()))
    });
    assert_eq!(seq.await.unwrap(), FIRST);
}
