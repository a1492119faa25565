//! What a load balancer is told: soon, and why.

use std::time::{Duration, Instant};

use rig::{App, Backend, Failure, Result, Stack, eventually};

use crate::scene::{SOON, furnish};

/// Half a second is promised; the rest is for a machine that is busy with other tests.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Waits until readiness is answered with this status for exactly these reasons; every answer must come soon.
async fn wait_for(app: &App, status: u16, reasons: &[&str]) {
    let told = eventually(SOON, "the reasons are told", async || {
        let asked = Instant::now();
        let answer = app.get("/health/ready").await?;
        let took = asked.elapsed();
        assert!(took < ANSWERED_WITHIN, "{took:?}: {answer}");
        let body = answer.json()?;
        let told: Vec<&str> = body["reasons"].as_array().into_iter().flatten().filter_map(|r| r.as_str()).collect();
        if answer.status() == 503 {
            answer.expect_error(503, "not_ready")?;
        }
        if (answer.status(), &told[..]) == (status, reasons) {
            Ok(())
        } else {
            Err(Failure::new(answer.to_string()))
        }
    });
    told.await.unwrap();
}

#[tokio::test]
async fn readiness_names_what_is_wrong_with_redis() -> Result<()> {
    let (mut stack, ann) = furnish(Stack::start().await?).await;
    wait_for(&ann, 200, &[]).await;
    stack.redis.configure("maxmemory", "1").await?;
    wait_for(&ann, 503, &["redis_full"]).await;
    stack.redis.configure("maxmemory", "0").await?;
    wait_for(&ann, 200, &[]).await;
    stack.redis.configure("min-replicas-to-write", "1").await?;
    wait_for(&ann, 503, &["redis_refuses_writes"]).await;
    stack.redis.configure("min-replicas-to-write", "0").await?;
    wait_for(&ann, 200, &[]).await;
    stack.redis.service.pause()?;
    wait_for(&ann, 503, &["redis_unreachable"]).await;
    stack.redis.service.resume()?;
    wait_for(&ann, 200, &[]).await;
    stack.redis.kill()?;
    wait_for(&ann, 503, &["redis_unreachable"]).await;
    Ok(())
}

#[tokio::test]
async fn readiness_names_a_missing_worker_and_then_the_backlog() -> Result<()> {
    let stack = Stack::builder().gateway("BACKLOG_PER_PARTITION", "3").start().await?;
    let (mut stack, ann) = furnish(stack).await;
    stack.worker.service.stop(SOON).await?;
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
async fn without_a_worker_nothing_can_be_acknowledged_as_stored() -> Result<()> {
    let stack = Stack::builder().gateway("ACK", "stored").start().await?;
    let (mut stack, ann) = furnish(stack).await;
    wait_for(&ann, 200, &[]).await;
    stack.worker.service.stop(SOON).await?;
    wait_for(&ann, 503, &["no_worker"]).await;
    Ok(())
}

#[tokio::test]
async fn readiness_names_a_database_that_is_away() -> Result<()> {
    let stack = Stack::builder().backend(Backend::Postgres).start().await?;
    let (mut stack, ann) = furnish(stack).await;
    wait_for(&ann, 200, &[]).await;
    stack.postgres.as_mut().ok_or_else(|| Failure::new("no Postgres"))?.kill()?;
    wait_for(&ann, 503, &["sql_unreachable"]).await;
    Ok(())
}
