//! What is away or overrun makes posts fail soon, and never makes memory grow.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rig::{App, Gateway, Result, Stack, resident_kib};
use serde_json::json;

use crate::scene::furnish;

/// How often memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// The most resident memory of the gateway until `load` ends, in KiB.
async fn peak_kib(gateway: &Gateway, load: impl Future<Output = Result<()>>) -> usize {
    let pid = gateway.service.pid().unwrap();
    let mut load = std::pin::pin!(load);
    let mut samples = tokio::time::interval(SAMPLE_EVERY);
    let mut peak = 0;
    loop {
        tokio::select! {
            done = &mut load => {
                done.unwrap();
                return peak;
            }
            _ = samples.tick() => peak = peak.max(resident_kib(pid).unwrap()),
        }
    }
}

/// Logs in again and again, with the right password and the wrong one.
async fn log_in_until(app: App, end: Instant) -> Result<()> {
    for number in 0.. {
        if Instant::now() >= end {
            break;
        }
        let password = if number % 2 == 0 { "secret of ann" } else { "wrong" };
        let answer = app.send_json("/auth/login", &json!({"email": "ann", "password": password})).await?;
        assert!([200, 401, 503].contains(&answer.status()), "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn a_flood_of_logins_leaves_memory_bounded() {
    const CLIENTS: usize = 8;
    const FLOOD: Duration = Duration::from_secs(5);
    // Each core may hash with its 19 MiB; an allocator that keeps what it got grew to a gigabyte here.
    let cores = std::thread::available_parallelism().unwrap().get();
    let bound_kib = (96 + 24 * cores) * 1024;
    let (stack, ann) = furnish(Stack::start().await.unwrap()).await;
    let before = resident_kib(stack.gateways[0].service.pid().unwrap()).unwrap();
    let end = Instant::now() + FLOOD;
    let flood = async {
        try_join_all((0..CLIENTS).map(|_| log_in_until(ann.clone(), end))).await?;
        Ok(())
    };
    let peak = peak_kib(&stack.gateways[0], flood).await;
    let after = resident_kib(stack.gateways[0].service.pid().unwrap()).unwrap();
    println!("KiB resident: {before} before, {peak} at most, {after} after");
    assert!(peak < bound_kib, "{before} KiB before, {peak} KiB at most");
}
