//! Readiness for load balancers: the response comes soon and names the reasons.

use std::time::{Duration, Instant};

use rig::{ApiClient, Backend, Failure, Result, Stack, eventually};

use crate::fixture::{SOON, with_lobby};

/// Half a second is promised; the rest is for a machine that is busy with other tests.
const RESPONSE_WITHIN: Duration = Duration::from_secs(2);

/// Waits until readiness has this status for exactly these reasons; every response must come soon.
async fn wait_for(client: &ApiClient, status: u16, reasons: &[&str]) {
    let ready = eventually(SOON, "readiness has these reasons", async || {
        let asked = Instant::now();
        let response = client.get("/health/ready").await?;
        let took = asked.elapsed();
        assert!(took < RESPONSE_WITHIN, "{took:?}: {response}");
        let body = response.json()?;
        let found: Vec<&str> = body["reasons"].as_array().into_iter().flatten().filter_map(|r| r.as_str()).collect();
        if response.status() == 503 {
            response.expect_error(503, "not_ready")?;
        }
        if (response.status(), &found[..]) == (status, reasons) {
            Ok(())
        } else {
            Err(Failure::new(response.to_string()))
        }
    });
    ready.await.unwrap();
}

#[tokio::test]
async fn readiness_names_redis_problems() -> Result<()> {
    let (mut stack, ann) = with_lobby(Stack::start().await?).await;
    wait_for(&ann, 200, &[]).await;
    stack.redis.configure("maxmemory", "1").await?;
    wait_for(&ann, 503, &["redis_full"]).await;
    stack.redis.configure("maxmemory", "0").await?;
    wait_for(&ann, 200, &[]).await;
    stack.redis.configure("min-replicas-to-write", "1").await?;
    wait_for(&ann, 503, &["redis_refuses_writes"]).await;
    stack.redis.configure("min-replicas-to-write", "0").await?;
    wait_for(&ann, 200, &[]).await;
    stack.redis.process.pause()?;
    wait_for(&ann, 503, &["redis_unreachable"]).await;
    stack.redis.process.resume()?;
    wait_for(&ann, 200, &[]).await;
    stack.redis.kill()?;
    wait_for(&ann, 503, &["redis_unreachable"]).await;
    Ok(())
}

#[tokio::test]
async fn readiness_names_missing_worker_then_backlog() -> Result<()> {
    let stack = Stack::builder().gateway("BACKLOG_PER_PARTITION", "3").start().await?;
    let (mut stack, ann) = with_lobby(stack).await;
    stack.worker.process.stop(SOON).await?;
    wait_for(&ann, 200, &["no_worker"]).await;
    for number in 0..3 {
        ann.post("lobby", &format!("{number}")).await?;
    }
    wait_for(&ann, 503, &["backlog_full", "no_worker"]).await;
    stack.worker.start()?;
    wait_for(&ann, 200, &[]).await;
    Ok(())
}

#[tokio::test]
async fn readiness_fails_without_worker_if_ack_is_stored() -> Result<()> {
    let stack = Stack::builder().gateway("ACK", "stored").start().await?;
    let (mut stack, ann) = with_lobby(stack).await;
    wait_for(&ann, 200, &[]).await;
    stack.worker.process.stop(SOON).await?;
    wait_for(&ann, 503, &["no_worker"]).await;
    Ok(())
}

#[tokio::test]
async fn readiness_names_unreachable_database() -> Result<()> {
    let stack = Stack::builder().backend(Backend::Postgres).start().await?;
    let (mut stack, ann) = with_lobby(stack).await;
    wait_for(&ann, 200, &[]).await;
    stack.postgres.as_mut().ok_or_else(|| Failure::new("no Postgres"))?.kill()?;
    wait_for(&ann, 503, &["sql_unreachable"]).await;
    Ok(())
}
