//! Places between two steps where a test can stop the worker and kill it.
//!
//! Without the feature `crash-points` nothing of this is in the binary.

/// Waits for ever if a test asked to be stopped at `step`, after telling it by a file.
#[cfg(feature = "crash-points")]
pub(crate) async fn reached(step: &str) {
    let wanted = std::env::var("CRASH_POINT").is_ok_and(|wanted| wanted == step);
    if let (true, Ok(file)) = (wanted, std::env::var("CRASH_POINT_FILE")) {
        std::fs::write(file, step).expect("the test can be told");
        std::future::pending::<()>().await;
    }
}

#[cfg(not(feature = "crash-points"))]
#[expect(clippy::unused_async, reason = "has the signature of the other build")]
pub(crate) async fn reached(_step: &str) {}
