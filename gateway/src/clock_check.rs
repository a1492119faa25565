//! Watches whether this machine's clock is off: tokens begin and end by it.

use std::time::{Duration, Instant};

use redis::RedisResult;
use shared::bus::RedisClient;
use shared::domain::Timestamp;
use shared::telemetry::Event;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often it is compared with Redis's.
const COMPARE_EVERY: Duration = Duration::from_mins(1);

/// A difference that is told, in milliseconds. Tokens of other gateways are good up to minutes of it.
const TOLD_FROM_MS: i64 = 5_000;

static OFF: Event = Event::outage(
    "clock_is_off",
    "this machine's clock and Redis's differ: tokens end early or late, and are refused where the difference is minutes",
)
.warning();

/// Compares this machine's clock with Redis's until `stop` is cancelled.
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
        // While Redis is away others say so.
        let Ok((seconds, micros)) = answer else {
            continue;
        };
        let on_the_way = i64::try_from(asked.elapsed().as_millis()).unwrap_or(i64::MAX);
        let difference = Timestamp::now().0 - (seconds * 1_000 + micros / 1_000);
        if is_off(difference, on_the_way) {
            OFF.report("", format_args!("by {difference} ms"));
        }
    }
}

/// Whether a difference in milliseconds is more than the answer's way explains.
fn is_off(difference: i64, on_the_way: i64) -> bool {
    difference.abs().saturating_sub(on_the_way) > TOLD_FROM_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_no_wrong_clock() {
        assert!(!is_off(4_000, 0) && !is_off(-4_000, 0) && !is_off(9_000, 6_000));
        assert!(is_off(6_000, 10) && is_off(-6_000, 10));
    }
}
