//! Several installations on one Redis, and a database that is restored under open streams.

use rig::{Backend, RedisCluster, RedisSentinels, Result, Stack};
use tempfile::TempDir;

use crate::scene::{SOON, furnish};

/// Two installations, whose rooms have the same numbers, on the Redis at `urls`.
async fn do_not_meet(urls: [String; 2]) -> Result<()> {
    let start = async |url: &str| -> Result<_> {
        Ok(furnish(Stack::builder().gateway("REDIS_URL", url).worker("REDIS_URL", url).start().await?).await)
    };
    let (_ours, ann) = start(&urls[0]).await?;
    let (_theirs, ben) = start(&urls[1]).await?;
    let mut streams = (ann.stream("lobby").open().await?, ben.stream("lobby").open().await?);
    for round in 0..3 {
        ann.post("lobby", &format!("ours {round}")).await?;
        ben.post("lobby", &format!("theirs {round}")).await?;
    }
    for (stream, whose) in [(&mut streams.0, "ours"), (&mut streams.1, "theirs")] {
        let messages = stream.messages(3, SOON).await?;
        let texts: Vec<String> =
            messages.iter().map(|event| Ok(event.json()?["message"].to_string())).collect::<Result<_>>()?;
        assert_eq!(texts, [0, 1, 2].map(|round| format!("\"{whose} {round}\"")));
    }
    // A log-out, like any news for all gateways, stays at home: the sessions have the same shape, the users the same numbers.
    ann.call(rig::Method::POST, "/auth/logout").await?.expect(200)?;
    ben.post("lobby", "still here").await?;
    assert_eq!(streams.1.message(SOON).await?.json()?["message"], "still here");
    Ok(())
}

#[tokio::test]
async fn installations_on_one_server_never_see_each_other() {
    let (stack, _ann) = furnish(Stack::start().await.unwrap()).await;
    let url = stack.redis.url();
    do_not_meet([url.clone(), url.clone()]).await.unwrap();
    // Pub/sub knows no database numbers.
    do_not_meet([format!("{url}/1"), format!("{url}/2")]).await.unwrap();
}

#[tokio::test]
async fn installations_on_one_sentinel_set_never_see_each_other() {
    let directory = TempDir::new().unwrap();
    let redis = RedisSentinels::start(directory.path()).await.unwrap();
    do_not_meet([redis.url(), redis.url()]).await.unwrap();
}

#[tokio::test]
async fn installations_on_one_cluster_never_see_each_other() {
    let directory = TempDir::new().unwrap();
    let redis = RedisCluster::start(directory.path()).await.unwrap();
    do_not_meet([redis.url(), redis.url()]).await.unwrap();
}

/// Five messages, a backup, three more; then the database is as it was, while the gateway goes on.
async fn restore_under_an_open_stream(backend: Backend) {
    let (mut stack, ann) = furnish(Stack::builder().backend(backend).start().await.unwrap()).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    for number in 0..5 {
        ann.post("lobby", &format!("kept {number}")).await.unwrap();
    }
    stream.messages(5, SOON).await.unwrap();
    let mut database = stack.database().await.unwrap();
    database.back_up().await.unwrap();
    for number in 0..3 {
        ann.post("lobby", &format!("lost {number}")).await.unwrap();
    }
    let last = stream.messages(3, SOON).await.unwrap().pop().unwrap().id;
    // What is trimmed is in SQL alone: only that can be lost.
    rig::eventually(SOON, "the log is trimmed", async || match stack.redis.waiting_entries().await? {
        0 => Ok(()),
        left => Err(rig::Failure::new(format!("{left} entries wait"))),
    })
    .await
    .unwrap();
    assert_eq!(stack.worker.service.stop(SOON).await.unwrap(), 0);
    database.restore().await.unwrap();
    stack.worker.start().unwrap();

    let bye = stream.expect("bye", SOON).await.unwrap();
    assert_eq!(bye.json().unwrap()["reason"], "history_changed");
    for number in 0..5 {
        ann.post("lobby", &format!("after {number}")).await.unwrap();
    }
    let mut again = ann.stream("lobby").after(&last).open().await.unwrap();
    let reset = again.expect("reset", SOON).await.unwrap();
    assert_eq!(reset.json().unwrap()["reason"], "foreign");
    let shown = rig::eventually(SOON, "all that is left and new is in history", async || {
        let history = ann.history("lobby", "").await?;
        if history.len() == 10 {
            Ok(history)
        } else {
            Err(rig::Failure::new(format!("{} messages", history.len())))
        }
    });
    let texts: Vec<String> = shown.await.unwrap().iter().rev().map(|message| message["message"].to_string()).collect();
    let of = |word: &'static str| (0..5).map(move |number| format!("\"{word} {number}\""));
    assert_eq!(texts, of("kept").chain(of("after")).collect::<Vec<_>>());
    assert!(stack.worker.service.log().contains("was restored from a backup"), "it is told loudly");
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_restored_sqlite_database_resets_every_client() {
    restore_under_an_open_stream(Backend::Sqlite).await;
}

#[tokio::test]
async fn a_restored_postgres_database_resets_every_client() {
    restore_under_an_open_stream(Backend::Postgres).await;
}
