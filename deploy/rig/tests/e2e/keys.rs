//! Idempotency keys before their messages are stored: what is not in SQL yet is told apart as well, and Redis keeps no more than
//! that.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use rig::{App, Backend, Failure, Stack, eventually};

use crate::scene::{SOON, furnish};

/// Keys are forgotten some seconds after their messages were stored; with air for a machine that is busy with other tests.
const FORGOTTEN_WITHIN: Duration = Duration::from_mins(1);

async fn two_gateways(backend: Backend) -> (Stack, [App; 2]) {
    let stack = Stack::builder().backend(backend).without_rates().gateways(2).start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    (stack, [ann, elsewhere])
}

/// How many keys Redis remembers.
async fn remembered(stack: &Stack) -> rig::Result<Vec<String>> {
    let mut connection = stack.redis.connect().await?;
    Ok(redis::cmd("KEYS").arg("roomcast:*:{*}:keys*").query_async(&mut connection).await?)
}

async fn of_two_texts_that_race_under_one_key_one_is_posted(backend: Backend) {
    const KEYS: usize = 20;
    let (stack, apps) = two_gateways(backend).await;
    let race = async |key: usize| {
        let (key, apps) = (format!("key-{key}"), &apps);
        let tries = (0..6).map(|number| {
            let key = &key;
            // Each text through both gateways.
            async move {
                let text = format!("{key} {}", number % 2);
                let answer = apps[number / 2 % 2].try_post("lobby", &text, Some(key)).await?;
                rig::Result::Ok((text, answer))
            }
        });
        let answers = try_join_all(tries).await.unwrap();
        let mut posted: Vec<&String> =
            answers.iter().filter(|(_, answer)| answer.status() == 204).map(|(text, _)| text).collect();
        for (_, answer) in answers.iter().filter(|(_, answer)| answer.status() != 204) {
            answer.expect_error(422, "idempotency_key_reused").unwrap();
        }
        posted.dedup();
        assert_eq!(posted.len(), 1, "{key}: {posted:?}");
        posted[0].clone()
    };
    let mut posted = join_all((0..KEYS).map(race)).await;
    posted.sort();
    let stored = eventually(SOON, "every message is stored", async || {
        let messages = apps[0].whole_history("lobby").await?;
        let mut texts: Vec<String> =
            messages.iter().map(|message| message["message"].as_str().unwrap_or_default().to_owned()).collect();
        texts.sort();
        if texts.len() == KEYS {
            Ok(texts)
        } else {
            Err(Failure::new(format!("{texts:?}")))
        }
    });
    assert_eq!(stored.await.unwrap(), posted);
    assert_eq!(stack.database().await.unwrap().dead_letters().await.unwrap(), 0);
}

#[tokio::test]
async fn of_two_texts_that_race_under_one_key_one_is_posted_with_sqlite() {
    of_two_texts_that_race_under_one_key_one_is_posted(Backend::Sqlite).await;
}

#[tokio::test]
async fn of_two_texts_that_race_under_one_key_one_is_posted_with_postgres() {
    of_two_texts_that_race_under_one_key_one_is_posted(Backend::Postgres).await;
}

/// Whatever is restarted meanwhile, and however long it takes.
#[tokio::test]
async fn redis_remembers_a_key_until_sql_does_and_no_longer() {
    let (mut stack, apps) = two_gateways(Backend::Sqlite).await;
    posted_once(&apps).await;
    eventually(FORGOTTEN_WITHIN, "what is stored is forgotten", async || {
        match remembered(&stack).await?.as_slice() {
            [] => Ok(()),
            keys => Err(Failure::new(format!("{keys:?}"))),
        }
    })
    .await
    .unwrap();
    posted_once(&apps).await;

    stack.worker.kill().unwrap();
    for app in &apps {
        app.try_post("lobby", "unstored", Some("later")).await.unwrap().expect(204).unwrap();
    }
    // The recent keys become the older ones, and these stay.
    eventually(SOON, "the key is one of the older ones", async || {
        let keys = remembered(&stack).await?;
        if keys.iter().any(|key| key.ends_with(":older")) {
            Ok(())
        } else {
            Err(Failure::new(format!("{keys:?}")))
        }
    })
    .await
    .unwrap();
    stack.redis.kill().unwrap();
    stack.redis.restart().await.unwrap();
    for gateway in &mut stack.gateways {
        gateway.kill().unwrap();
        gateway.start().unwrap();
    }
    let apps = [0, 1].map(|number| apps[0].moved_to(&stack.gateways[number].url()).unwrap());
    for app in &apps {
        let other = eventually(SOON, "Redis is found again", async || {
            let answer = app.try_post("lobby", "another", Some("later")).await?;
            if answer.status() == 503 {
                Err(Failure::new(answer.to_string()))
            } else {
                Ok(answer)
            }
        });
        other.await.unwrap().expect_error(422, "idempotency_key_reused").unwrap();
        app.try_post("lobby", "unstored", Some("later")).await.unwrap().expect(204).unwrap();
    }
    stack.worker.start().unwrap();
    let again = eventually(SOON, "it is stored", async || {
        let answer = apps[1].try_post("lobby", "unstored", Some("later")).await?.expect(204)?;
        answer.header("message-seq").map(str::to_owned).ok_or_else(|| Failure::new(answer.to_string()))
    });
    assert_eq!(again.await.unwrap(), "2");
}

/// The key stands for its text, and for no other.
async fn posted_once(apps: &[App]) {
    for app in apps {
        app.try_post("lobby", "first", Some("key")).await.unwrap().expect(204).unwrap();
        let other = app.try_post("lobby", "second", Some("key")).await.unwrap();
        other.expect_error(422, "idempotency_key_reused").unwrap();
    }
}
