//! Waits for a condition, with a deadline and the reason why it does not hold yet.

use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};

/// Pause between two attempts: short against what tests wait for, long against the cost of an attempt.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// Calls `attempt` until it succeeds, for at most `within`; then fails with `what` and the last reason.
///
/// An attempt that hangs is ended at the deadline too.
pub async fn eventually<T>(within: Duration, what: &str, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut reason = "the first attempt did not come to an end".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(failure)) => reason = failure.to_string(),
            Err(_) => {}
        }
        if Instant::now() + RETRY_EVERY > deadline {
            return Err(Failure::new(format!("not within {within:?}: {what} ({reason})")));
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_success_ends_the_wait() {
        let mut attempts = 0;
        let third = eventually(Duration::from_secs(5), "the third attempt", async || {
            attempts += 1;
            if attempts == 3 {
                Ok(attempts)
            } else {
                Err(Failure::new("too early"))
            }
        });
        assert_eq!(third.await.ok(), Some(3));
    }

    #[tokio::test]
    async fn failure_reports_what_was_awaited_and_why_not() {
        let failure =
            eventually(Duration::from_millis(50), "the moon", async || Err::<(), _>(Failure::new("it is day")));
        let text = failure.await.err().map(|failure| failure.to_string()).unwrap_or_default();
        assert_eq!(text, "not within 50ms: the moon (it is day)");
        let hangs =
            eventually(Duration::from_millis(50), "the end", async || std::future::pending::<Result<()>>().await);
        assert!(hangs.await.is_err());
    }
}
