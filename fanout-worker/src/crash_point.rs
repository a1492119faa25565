//! Crash points: between two steps a test can halt the worker here and kill it.
//!
//! Without the feature `crash-points` nothing of this is in the binary.

/// Writes a file and waits for ever if a test asked to halt at `step`.
#[cfg(feature = "crash-points")]
pub(crate) async fn reached(step: &str) {
    let wanted = std::env::var("CRASH_POINT").is_ok_and(|wanted| wanted == step);
    if let (true, Ok(file)) = (wanted, std::env::var("CRASH_POINT_FILE")) {
        std::fs::write(file, step).expect("the test gave a file that can be written");
        std::future::pending::<()>().await;
    }
}

#[cfg(not(feature = "crash-points"))]
#[expect(clippy::unused_async, reason = "has the signature of the other build")]
pub(crate) async fn reached(_step: &str) {}
