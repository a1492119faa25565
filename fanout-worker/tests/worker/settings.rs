use rig::RedisServer;
use shared::bus::{KeySpace, MacKey, RedisConnector};
use shared::settings::RedisArgs;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_redis_that_is_set_to_lose_messages_while_it_runs_is_found_once() {
    let directory = TempDir::with_prefix("roomcast-worker-").unwrap();
    let mut server = RedisServer::start(directory.path()).await.unwrap();
    let stop = CancellationToken::new();
    let keys = KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 1, MacKey::fresh());
    let redis = RedisConnector::open(&RedisArgs::at(&server.url()), keys, stop.clone()).unwrap();
    let mut looked = redis.wait_until_safe(false, &stop).await.unwrap();
    assert!(redis.recheck(&mut looked).await.is_empty());

    server.configure("appendfsync", "everysec").await.unwrap();
    let found = redis.recheck(&mut looked).await;
    assert!(found.len() == 1 && found[0].contains("appendfsync everysec"), "{found:?}");
    assert!(redis.recheck(&mut looked).await.is_empty(), "what is known is not told again");

    // Whoever comes back after an outage is looked at as if it were new.
    server.kill().unwrap();
    assert!(redis.recheck(&mut looked).await.is_empty());
    server.restart().await.unwrap();
    assert!(redis.recheck(&mut looked).await.is_empty(), "it was started with the settings it needs");
    server.configure("appendonly", "no").await.unwrap();
    assert_eq!(redis.recheck(&mut looked).await.len(), 1);
}
