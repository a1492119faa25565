//! Clock check: compares the clock of this machine with that of Redis, since tokens begin and end by it.

use std::time::{Duration, Instant};

use redis::RedisResult;
use shared::bus::RedisClient;
use shared::domain::Timestamp;
use shared::telemetry::LogEvent;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the clocks are compared.
const COMPARE_EVERY: Duration = Duration::from_mins(1);

/// Smallest difference that is reported, in milliseconds. Tokens of other gateways are accepted up to minutes of it.
const MIN_REPORTED_MS: i64 = 5_000;

static OFF: LogEvent = LogEvent::outage(
    "clock_is_off",
    "this machine's clock and Redis's differ: tokens end early or late, and are refused where the difference is minutes",
)
.warning();

/// Compares the clocks until `stop` is cancelled.
pub(crate) async fn watch(mut redis: RedisClient, stop: CancellationToken) {
    let mut ticks = interval(COMPARE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let asked = Instant::now();
        let answer: RedisResult<(i64, i64)> = redis::cmd("TIME").query_async(&mut redis).await;
        // An outage of Redis is reported elsewhere.
        let Ok((seconds, micros)) = answer else {
            continue;
        };
        let round_trip = i64::try_from(asked.elapsed().as_millis()).unwrap_or(i64::MAX);
        let difference = Timestamp::now().0 - (seconds * 1_000 + micros / 1_000);
        if is_off(difference, round_trip) {
            OFF.report("", format_args!("by {difference} ms"));
        }
    }
}

/// Whether a difference is more than the round trip of the answer explains; both in milliseconds.
fn is_off(difference: i64, round_trip: i64) -> bool {
    difference.abs().saturating_sub(round_trip) > MIN_REPORTED_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_not_a_wrong_clock() {
        assert!(!is_off(4_000, 0) && !is_off(-4_000, 0) && !is_off(9_000, 6_000));
        assert!(is_off(6_000, 10) && is_off(-6_000, 10));
    }
}
