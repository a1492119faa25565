use rig::RedisServer;
use shared::bus::{KeySpace, MacKey, RedisConnector};
use shared::settings::RedisArgs;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn unsafe_setting_of_a_running_redis_is_reported_once() {
    let directory = TempDir::with_prefix("roomcast-worker-").unwrap();
    let mut server = RedisServer::start(directory.path()).await.unwrap();
    let stop = CancellationToken::new();
    let keys = KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 1, MacKey::fresh());
    let redis = RedisConnector::open(&RedisArgs::at(&server.url()), keys, stop.clone()).unwrap();
    let mut report = redis.wait_until_safe(false, &stop).await.unwrap();
    assert!(redis.recheck(&mut report).await.is_empty());

    server.configure("appendfsync", "everysec").await.unwrap();
    let found = redis.recheck(&mut report).await;
    assert!(found.len() == 1 && found[0].contains("appendfsync everysec"), "{found:?}");
    assert!(redis.recheck(&mut report).await.is_empty(), "a known violation is not reported again");

    // A server that comes back after an outage is checked like a new one.
    server.kill().unwrap();
    assert!(redis.recheck(&mut report).await.is_empty());
    server.restart().await.unwrap();
    assert!(redis.recheck(&mut report).await.is_empty(), "it was started with the settings it needs");
    server.configure("appendonly", "no").await.unwrap();
    assert_eq!(redis.recheck(&mut report).await.len(), 1);
}
