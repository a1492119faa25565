//! Every deployment of Redis that a URL can name: TLS with few rights, Sentinel failover, and Cluster.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rig::{
    AcknowledgedMessages, ApiClient, EventStream, Failure, RedisCluster, RedisSentinels, RedisTls, Result, Stack,
    StackBuilder, eventually,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{SOON, with_lobby};

/// The rights that the services need on Redis; deploy/docs/redis.md says the same.
const RIGHTS: &str = "~roomcast:* ~chat:* &roomcast:* -@all +@connection +@pubsub +@scripting \
                      +@sortedset +@stream +get +set +psetex +hget +hset +hdel +del +exists +rename \
                      +pexpire +time +unwatch +info +role +config|get +cluster|slots";

/// A post repeats until another server has taken over, or the one that was killed is back.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(20);

/// Pause of a sender between two posts: the faults fall between many of them.
const BETWEEN_POSTS: Duration = Duration::from_millis(30);

/// A stack whose processes use the Redis at `url`.
fn on_redis(url: &str) -> StackBuilder {
    Stack::builder().without_rates().gateway("REDIS_URL", url).worker("REDIS_URL", url)
}

/// Posts to `room`, one after another, until `enough` is set; each is repeated under its key until it is accepted.
async fn post_until(client: &ApiClient, room: &str, enough: &AtomicBool) -> Result<Vec<(String, String)>> {
    let mut acknowledged = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let text = format!("{} in {room}", acknowledged.len());
        let key = format!("{room}-{}", acknowledged.len());
        let response = eventually(ACCEPTED_WITHIN, "the post is accepted", async || {
            client.try_post(room, &text, Some(&key)).await?.expect(204)
        })
        .await?;
        acknowledged.push((response.header("message-id").unwrap_or_default().to_owned(), text));
        tokio::time::sleep(BETWEEN_POSTS).await;
    }
    Ok(acknowledged)
}

/// Waits until a last post is in history, and returns the history then. Everything posted earlier is before it.
async fn close_room(client: &ApiClient, room: &str) -> Result<Vec<Value>> {
    let last = client.post(room, "the last").await?;
    eventually(SOON, "the last post shows", async || match client.history(room, "?limit=1").await?.first() {
        Some(message) if message["id"] == last.as_str() => Ok(()),
        other => Err(Failure::new(format!("{other:?}"))),
    })
    .await?;
    client.whole_history(room).await
}

/// Fails unless the stream brings the whole history, once and in order.
async fn check_stream(stream: &mut EventStream, history: &[Value]) -> Result<()> {
    for (event, message) in stream.messages(history.len(), SOON).await?.iter().zip(history) {
        if event.json()? != *message {
            return Err(Failure::new(format!("the stream has {event:?} and history {message}")));
        }
    }
    Ok(())
}

/// Waits until the channels of this many rooms are subscribed to at the masters of their slots. Without subscriptions,
/// messages would be shown all the same, a second late.
async fn wait_until_subscribed(redis: &RedisCluster, rooms: usize) -> Result<()> {
    eventually(SOON, "every room is subscribed to", async || {
        let mut subscribed = 0;
        for master in &redis.masters {
            subscribed += master.run::<Vec<String>>(redis::cmd("PUBSUB").arg("SHARDCHANNELS")).await?.len();
        }
        if subscribed >= rooms {
            Ok(())
        } else {
            Err(Failure::new(format!("{subscribed} of {rooms}")))
        }
    })
    .await
}

fn acknowledged_messages(posted: &[(String, String)]) -> AcknowledgedMessages {
    let mut acknowledged = AcknowledgedMessages::default();
    for (id, text) in posted {
        acknowledged.add(id, text);
    }
    acknowledged
}

#[tokio::test]
async fn tls_with_least_rights_suffices() {
    let page = include_str!("../../../docs/redis.md");
    let documented: Vec<&str> = page.split_whitespace().collect();
    let needed: Vec<&str> = RIGHTS.split_whitespace().collect();
    assert!(documented.windows(needed.len()).any(|words| words == needed), "redis.md names other rights");

    let directory = TempDir::new().unwrap();
    let redis = RedisTls::start(directory.path(), RIGHTS).await.unwrap();
    let authority = redis.authority();
    let stack = on_redis(&redis.url())
        .gateways(2)
        .gateway("REDIS_CA_FILE", &authority)
        .worker("REDIS_CA_FILE", &authority)
        .gateway("LOGIN_PER_ACCOUNT", "5")
        .gateway("STREAMS_PER_USER", "5")
        .gateway("POST_PER_S", "100");
    let (mut stack, ann) = with_lobby(stack.start().await.unwrap()).await;
    let bob = stack.client().unwrap().register("bob").await.unwrap().moved_to(&stack.gateways[1].url()).unwrap();
    let mut stream = bob.stream("lobby").open().await.unwrap();
    for number in 0..20 {
        ann.try_post("lobby", &format!("message {number}"), Some(&number.to_string()))
            .await
            .unwrap()
            .expect(204)
            .unwrap();
    }
    let history = close_room(&ann, "lobby").await.unwrap();
    assert_eq!(history.len(), 21);
    check_stream(&mut stream, &history).await.unwrap();
    bob.moved_to(&stack.gateways[0].url()).unwrap().logout().await.unwrap();
    assert_eq!(stream.bye(SOON).await.unwrap(), "revoked");
    let denied: Vec<redis::Value> = redis.server.run(redis::cmd("ACL").arg("LOG")).await.unwrap();
    assert!(denied.is_empty(), "{denied:?}");

    let gateway = &mut stack.gateways[0];
    for (variable, value, complaint) in [
        (
            "REDIS_CA_FILE",
            redis.foreign_authority(),
            "REDIS_CA_FILE: the certificate of Redis is not accepted: ",
        ),
        ("REDIS_URL", redis.url_with_wrong_password(), "REDIS_URL: Redis refuses the user or the password"),
    ] {
        gateway.kill().unwrap();
        gateway.process.set("REDIS_CA_FILE", &authority);
        gateway.process.set(variable, value);
        gateway.start().unwrap();
        assert_eq!(gateway.process.exit_code(SOON).await.unwrap(), 64);
        let log = gateway.process.log();
        assert!(log.lines().last().is_some_and(|line| line.contains(complaint)), "{log}");
        assert!(!log.contains("gu3ss") && !log.contains("p@ss") && !log.contains("p%40ss"), "{log}");
        gateway.process.set("REDIS_URL", redis.url());
        gateway.process.set("REDIS_CA_FILE", &authority);
        gateway.start().unwrap();
        gateway.wait_ready(SOON).await.unwrap();
    }
}

#[tokio::test]
async fn sentinel_failover_doubles_and_reorders_nothing() {
    const ROOMS: usize = 4;
    // The old master may acknowledge posts in its last moment that are never replicated: Redis documents this.
    const LOST_AT_MOST: usize = ROOMS;
    let directory = TempDir::new().unwrap();
    let mut redis = RedisSentinels::start(directory.path()).await.unwrap();
    let (mut stack, ann) = with_lobby(on_redis(&redis.url()).start().await.unwrap()).await;
    let rooms: Vec<String> = (0..ROOMS).map(|number| format!("room{number}")).collect();
    let mut streams = Vec::new();
    for room in &rooms {
        ann.create_room(room).await.unwrap();
        streams.push(ann.stream(room).open().await.unwrap());
    }
    let enough = AtomicBool::new(false);
    let posting = try_join_all(rooms.iter().map(|room| post_until(&ann, room, &enough)));
    let failing = async {
        for (stream, room) in streams.iter_mut().zip(&rooms) {
            stream.messages(10, SOON).await.map_err(|error| Failure::new(format!("{room}: {error}")))?;
        }
        redis.servers[0].kill()?;
        let killed = Instant::now();
        eventually(ACCEPTED_WITHIN, "a post is accepted again", async || {
            ann.try_post("lobby", "after the failover", Some("after")).await?.expect(204)
        })
        .await?;
        println!("posts were accepted {:?} after the kill", killed.elapsed());
        assert!(killed.elapsed() < Duration::from_secs(12), "{:?}", killed.elapsed());
        // The old master comes back, and for some seconds still considers itself the master. No service may use it.
        redis.servers[0].restart().await?;
        for stream in &mut streams {
            stream.messages(20, SOON).await?;
        }
        enough.store(true, Ordering::Relaxed);
        Ok(())
    };
    let (acknowledged, ()) = futures_util::future::try_join(posting, failing).await.unwrap();
    stack.wait_ready().await.unwrap();

    let mut lost = 0;
    for ((room, stream), mut acknowledged) in rooms.iter().zip(&mut streams).zip(acknowledged) {
        let history = close_room(&ann, room).await.unwrap();
        let ids: HashSet<&str> = history.iter().filter_map(|message| message["id"].as_str()).collect();
        let answered = acknowledged.len();
        acknowledged.retain(|(id, _)| ids.contains(id.as_str()));
        lost += answered - acknowledged.len();
        acknowledged_messages(&acknowledged).check(&history).unwrap();
        check_stream(stream, &history[30..]).await.unwrap();
    }
    println!("{lost} acknowledged messages were lost by the failover");
    assert!(lost <= LOST_AT_MOST, "{lost} acknowledged messages were lost");
}

#[tokio::test]
async fn cluster_slot_moves_and_master_kills_lose_nothing() {
    const ROOMS: usize = 24;
    let directory = TempDir::new().unwrap();
    let mut redis = RedisCluster::start(directory.path()).await.unwrap();
    let stack = on_redis(&redis.url())
        .gateways(2)
        .gateway("LOGIN_PER_ACCOUNT", "3")
        .gateway("STREAMS_PER_USER", "50");
    let (mut stack, ann) = with_lobby(stack.start().await.unwrap()).await;
    let there = stack.gateways[1].url();
    let ann_there = ann.moved_to(&there).unwrap();
    let rooms: Vec<String> = (0..ROOMS).map(|number| format!("room{number}")).collect();
    let mut streams = Vec::new();
    for room in &rooms {
        ann.create_room(room).await.unwrap();
        streams.push(ann_there.stream(room).open().await.unwrap());
    }

    let enough = AtomicBool::new(false);
    let posting = try_join_all(rooms.iter().map(|room| post_until(&ann, room, &enough)));
    let failing = async {
        for partition in [3, 7] {
            let stream = stack.accept_stream(partition).await?;
            let owner = redis.owner_of(&stream).await?;
            redis.move_slot(&stream, owner, (owner + 1) % 3).await?;
            wait_until_subscribed(&redis, ROOMS).await?;
        }
        let victim = redis.owner_of(&stack.accept_stream(5).await?).await?;
        redis.masters[victim].kill()?;
        // A worker that starts now goes on with the slots of the other masters.
        stack.worker.kill()?;
        stack.worker.start()?;
        redis.wait_missed(victim).await?;
        redis.masters[victim].restart().await?;
        redis.wait_formed().await?;
        wait_until_subscribed(&redis, ROOMS).await?;
        enough.store(true, Ordering::Relaxed);
        Ok(())
    };
    let (acknowledged, ()) = futures_util::future::try_join(posting, failing).await.unwrap();
    stack.wait_ready().await.unwrap();
    for ((room, stream), acknowledged) in rooms.iter().zip(&mut streams).zip(acknowledged) {
        let history = close_room(&ann, room).await.unwrap();
        acknowledged_messages(&acknowledged).check(&history).unwrap();
        check_stream(stream, &history).await.unwrap();
    }
}

#[tokio::test]
async fn cluster_keeps_limits_and_logout_across_gateways() {
    let directory = TempDir::new().unwrap();
    let redis = RedisCluster::start(directory.path()).await.unwrap();
    let stack = on_redis(&redis.url())
        .gateways(2)
        .gateway("LOGIN_PER_ACCOUNT", "3")
        .gateway("STREAMS_PER_USER", "2");
    let (stack, _ann) = with_lobby(stack.start().await.unwrap()).await;
    let there = stack.gateways[1].url();

    let bob = stack.client().unwrap().register("bob").await.unwrap();
    let bob_there = bob.moved_to(&there).unwrap();
    let mut stream = bob_there.stream("lobby").open().await.unwrap();
    let _second = bob.stream("lobby").open().await.unwrap();
    assert!(bob_there.stream("lobby").open().await.is_err(), "a third stream");
    bob.logout().await.unwrap();
    assert_eq!(stream.bye(SOON).await.unwrap(), "revoked");
    let guess = json!({"email": "bob", "password": "a guess"});
    let mut statuses = Vec::new();
    for gateway in [0, 1, 0, 1] {
        let client = ApiClient::at(&stack.gateways[gateway].url()).unwrap();
        statuses.push(client.send_json("/auth/login", &guess).await.unwrap().status());
    }
    assert_eq!(statuses, [401, 401, 401, 429]);

    let node = redis.masters[0].address();
    for (url, complaint) in [
        (format!("redis://{node}"), "REDIS_URL: the server is part of a cluster"),
        (format!("redis+sentinel://{node}/chat"), "REDIS_URL: the server is no sentinel"),
    ] {
        let mut lost = stack.another_worker("lost").unwrap();
        lost.process.set("REDIS_URL", url);
        lost.start().unwrap();
        assert_eq!(lost.process.exit_code(SOON).await.unwrap(), 64);
        assert!(lost.process.log_end().contains(complaint), "{}", lost.process.log_end());
    }
}
