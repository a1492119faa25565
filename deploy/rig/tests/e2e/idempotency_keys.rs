//! Idempotency keys before their messages are stored: every acknowledged message is stored once, whatever else uses its key.

use std::collections::HashSet;

use futures_util::future::{join_all, try_join_all};
use rig::{ApiClient, Backend, Failure, Stack, eventually};
use uuid::Uuid;

use crate::fixture::{SOON, with_lobby};

async fn two_gateways(backend: Backend) -> (Stack, [ApiClient; 2]) {
    let stack = Stack::builder().backend(backend).without_rates().gateways(2).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    (stack, [ann, elsewhere])
}

/// Keys of a race.
const KEYS: usize = 20;

/// A key that no other test has: every other one is time-ordered.
fn key_of(name: &str, key: usize) -> String {
    if key.is_multiple_of(2) {
        Uuid::now_v7().to_string()
    } else {
        format!("{name}-{key}")
    }
}

/// Posts two texts under each key, each three times at once, through `clients` in turn. Returns the texts that were acknowledged.
async fn race(clients: &[&ApiClient], name: &str) -> HashSet<String> {
    let of_one = async |key: usize| {
        let key = key_of(name, key);
        let tries = (0..6).map(|number| {
            let (key, client) = (&key, clients[number / 2 % clients.len()]);
            async move {
                let text = format!("{key} {}", number % 2);
                let response = client.try_post("lobby", &text, Some(key)).await?;
                rig::Result::Ok((text, response))
            }
        });
        let responses = try_join_all(tries).await.unwrap();
        for (_, response) in responses.iter().filter(|(_, response)| response.status() != 204) {
            response.expect_error(422, "idempotency_key_reused").unwrap();
        }
        let posted = responses.into_iter().filter(|(_, response)| response.status() == 204).map(|(text, _)| text);
        posted.collect::<HashSet<_>>()
    };
    let posted = join_all((0..KEYS).map(of_one)).await;
    assert!(posted.iter().all(|texts| (1..=clients.len()).contains(&texts.len())), "{posted:?}");
    posted.into_iter().flatten().collect()
}

async fn check_racing_texts(backend: Backend) {
    let (stack, [here, elsewhere]) = two_gateways(backend).await;
    // A gateway accepts one of the two. If two gateways accept one each before they can know of the other, both are stored.
    let mut posted = race(&[&here], "one").await;
    assert_eq!(posted.len(), KEYS);
    posted.extend(race(&[&here, &elsewhere], "two").await);
    let stored = eventually(SOON, "every message is stored", async || {
        let messages = here.whole_history("lobby").await?;
        let texts = messages.iter().map(|message| message["message"].as_str().unwrap_or_default().to_owned());
        let texts: Vec<String> = texts.collect();
        if texts.len() >= posted.len() {
            Ok(texts)
        } else {
            Err(Failure::new(format!("{texts:?}")))
        }
    });
    let stored = stored.await.unwrap();
    assert_eq!(stored.len(), posted.len());
    assert_eq!(stored.into_iter().collect::<HashSet<_>>(), posted);
    assert_eq!(stack.database().await.unwrap().dead_letters().await.unwrap(), 0);
}

#[tokio::test]
async fn racing_texts_under_one_key_post_one_on_sqlite() {
    check_racing_texts(Backend::Sqlite).await;
}

#[tokio::test]
async fn racing_texts_under_one_key_post_one_on_postgres() {
    check_racing_texts(Backend::Postgres).await;
}

/// Each message that is acknowledged as stored has the id and the seq of its response.
#[tokio::test]
async fn racing_texts_are_stored_under_their_acknowledged_ids() {
    let stack = Stack::builder().without_rates().gateways(2).gateway("ACK", "stored").start().await.unwrap();
    let (stack, here) = with_lobby(stack).await;
    let elsewhere = here.moved_to(&stack.gateways[1].url()).unwrap();
    for key in 0..KEYS {
        let (key, texts) = (key_of("key", key), ["this", "that"]);
        let [first, second] = [(&here, texts[0]), (&elsewhere, texts[1])];
        let both = tokio::join!(
            first.0.try_post("lobby", first.1, Some(&key)),
            second.0.try_post("lobby", second.1, Some(&key)),
        );
        for (response, text) in [both.0.unwrap(), both.1.unwrap()].into_iter().zip(texts) {
            if response.status() == 422 {
                continue;
            }
            let response = response.expect(204).unwrap();
            let id = response.header("message-id").unwrap();
            let found = here.history("lobby", &format!("?message_id={id}")).await.unwrap();
            assert_eq!(found.len(), 1, "{key} {text}");
            assert_eq!(found[0]["message"], text);
            assert_eq!(found[0]["seq"].to_string(), response.header("message-seq").unwrap());
        }
    }
}

/// Also while nothing is stored, and when Redis and the gateway were killed meanwhile.
#[tokio::test]
async fn key_is_bound_to_its_text_before_and_after_storing() {
    let (mut stack, clients) = two_gateways(Backend::Sqlite).await;
    let [here, elsewhere] = &clients;
    let reused = async |client: &ApiClient, text: &str, key: &str| {
        let other = client.try_post("lobby", text, Some(key)).await.unwrap();
        other.expect_error(422, "idempotency_key_reused").unwrap();
    };
    here.try_post("lobby", "first", Some("key")).await.unwrap().expect(204).unwrap();
    reused(here, "second", "key").await;
    stored(here, "first", "key", "2").await;
    reused(elsewhere, "second", "key").await;

    stack.worker.kill().unwrap();
    here.try_post("lobby", "unstored", Some("later")).await.unwrap().expect(204).unwrap();
    reused(here, "another", "later").await;
    elsewhere.try_post("lobby", "unstored", Some("later")).await.unwrap().expect(204).unwrap();
    stack.redis.kill().unwrap();
    stack.redis.restart().await.unwrap();
    for gateway in &mut stack.gateways {
        gateway.kill().unwrap();
        gateway.start().unwrap();
    }
    stack.worker.start().unwrap();
    stored(elsewhere, "unstored", "later", "3").await;
    reused(here, "another", "later").await;
    assert_eq!(here.history("lobby", "").await.unwrap().len(), 2);
}

/// Waits until a repeated post returns this seq.
async fn stored(client: &ApiClient, text: &str, key: &str, seq: &str) {
    let again = eventually(SOON, "it is stored", async || {
        let response = client.try_post("lobby", text, Some(key)).await?.expect(204)?;
        response.header("message-seq").map(str::to_owned).ok_or_else(|| Failure::new(response.to_string()))
    });
    assert_eq!(again.await.unwrap(), seq);
}
