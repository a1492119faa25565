//! Several installations on one Redis, and a database that is restored under open streams.

use rig::{Backend, RedisCluster, RedisSentinels, Result, Stack};
use tempfile::TempDir;

use crate::fixture::{SOON, with_lobby};

/// Two installations, whose rooms have the same numbers, on the Redis at `urls` do not affect each other.
async fn check_isolation(urls: [String; 2]) -> Result<()> {
    let start = async |url: &str| -> Result<_> {
        Ok(with_lobby(Stack::builder().gateway("REDIS_URL", url).worker("REDIS_URL", url).start().await?).await)
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
    // A log-out stays within its installation, like any notification to all gateways: the sessions have the same shape, the users
    // the same numbers.
    ann.call(rig::Method::POST, "/auth/logout").await?.expect(200)?;
    ben.post("lobby", "still here").await?;
    assert_eq!(streams.1.message(SOON).await?.json()?["message"], "still here");
    Ok(())
}

#[tokio::test]
async fn installations_on_one_redis_are_isolated() {
    let (stack, _ann) = with_lobby(Stack::start().await.unwrap()).await;
    let url = stack.redis.url();
    check_isolation([url.clone(), url.clone()]).await.unwrap();
    // Pub/sub ignores database numbers.
    check_isolation([format!("{url}/1"), format!("{url}/2")]).await.unwrap();
}

#[tokio::test]
async fn installations_on_one_sentinel_set_are_isolated() {
    let directory = TempDir::new().unwrap();
    let redis = RedisSentinels::start(directory.path()).await.unwrap();
    check_isolation([redis.url(), redis.url()]).await.unwrap();
}

#[tokio::test]
async fn installations_on_one_cluster_are_isolated() {
    let directory = TempDir::new().unwrap();
    let redis = RedisCluster::start(directory.path()).await.unwrap();
    check_isolation([redis.url(), redis.url()]).await.unwrap();
}

/// Five messages, a backup, three more; then the database is restored while the gateway goes on.
async fn check_restore_under_open_stream(backend: Backend) {
    let (mut stack, ann) = with_lobby(Stack::builder().backend(backend).start().await.unwrap()).await;
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
    // Only trimmed messages can be lost, because they are in SQL alone.
    rig::eventually(SOON, "the log is trimmed", async || match stack.redis.waiting_entries().await? {
        0 => Ok(()),
        left => Err(rig::Failure::new(format!("{left} entries wait"))),
    })
    .await
    .unwrap();
    assert_eq!(stack.worker.process.stop(SOON).await.unwrap(), 0);
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
    let messages = rig::eventually(SOON, "all that is left and new is in history", async || {
        let history = ann.history("lobby", "").await?;
        if history.len() == 10 {
            Ok(history)
        } else {
            Err(rig::Failure::new(format!("{} messages", history.len())))
        }
    });
    let texts: Vec<String> =
        messages.await.unwrap().iter().rev().map(|message| message["message"].to_string()).collect();
    let of = |word: &'static str| (0..5).map(move |number| format!("\"{word} {number}\""));
    assert_eq!(texts, of("kept").chain(of("after")).collect::<Vec<_>>());
    assert!(stack.worker.process.log().contains("was restored from a backup"), "it is logged");
    database.close().await.unwrap();
}

#[tokio::test]
async fn restored_sqlite_database_resets_every_client() {
    check_restore_under_open_stream(Backend::Sqlite).await;
}

#[tokio::test]
async fn restored_postgres_database_resets_every_client() {
    check_restore_under_open_stream(Backend::Postgres).await;
}
