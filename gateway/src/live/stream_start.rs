//! Where a stream starts in the history of its room, and when it ends by itself.

use std::time::{Duration, Instant};

use shared::domain::{Epoch, Seq, StreamCursor, Timestamp};

use super::bye_reason::ByeReason;
use super::stream_events::ResetReason;

/// Where a stream starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamStart {
    /// At the head of the room: the client sent no cursor.
    Head,
    /// After the last message that the client has.
    After(Seq),
    /// At the head of the room, since the cursor of the client cannot be used.
    Reset(ResetReason),
}

impl StreamStart {
    /// Decides by the cursor that the client sent, the epochs and the head of the room, and how many messages the client wants
    /// to have replayed at most. Beside the epoch of the cursors that this release gives out, that of earlier releases counts:
    /// apps still come back with those.
    #[must_use]
    pub fn decide(cursor: Option<&str>, epochs: [Epoch; 2], head: Seq, max_replay: Option<u32>) -> Self {
        let Some(raw) = cursor else {
            return Self::Head;
        };
        match StreamCursor::parse(raw) {
            Err(_) => Self::Reset(ResetReason::Malformed),
            Ok(cursor) if !epochs.contains(&cursor.epoch) => Self::Reset(ResetReason::Foreign),
            Ok(cursor) if cursor.seq > head => Self::Reset(ResetReason::Ahead),
            Ok(cursor) if max_replay.is_some_and(|max| head.0 - cursor.seq.0 > i64::from(max)) => {
                Self::Reset(ResetReason::TooMany)
            }
            Ok(cursor) => Self::After(cursor.seq),
        }
    }
}

/// The end that the client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamBounds {
    /// End after this many messages.
    pub messages: Option<u32>,
    /// End after this time.
    pub time: Option<Duration>,
}

/// When a stream ends by itself, and for which reason.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamEnd {
    pub(super) at: Instant,
    pub(super) reason: ByeReason,
}

impl StreamEnd {
    /// The first of three ends: by age, between 80 and 100 % of `max_age` as `jitter` (0 to 1) says, by the expiry of the token,
    /// and by what the client asked for. `began` and `now` are the same moment by two clocks.
    pub(super) fn first(
        began: Instant,
        (max_age, jitter): (Duration, f64),
        (expires_on, now): (Timestamp, Timestamp),
        bounds: StreamBounds,
    ) -> Self {
        let age = (max_age.mul_f64(0.8 + 0.2 * jitter), ByeReason::MaxAge);
        let token = (expires_on.until(now), ByeReason::TokenExpired);
        let asked = bounds.time.map(|time| (time, ByeReason::Bounded));
        let (after, reason) =
            [Some(age), Some(token), asked].into_iter().flatten().min_by_key(|(after, _)| *after).unwrap_or(age);
        Self {
            at: began + after,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_used_or_its_fault_is_named() {
        let decide = |cursor, max_replay| StreamStart::decide(cursor, [Epoch(9), Epoch(7)], Seq(100), max_replay);
        assert_eq!(decide(None, None), StreamStart::Head);
        assert_eq!(decide(Some("9-100"), None), StreamStart::After(Seq(100)));
        assert_eq!(decide(Some("9-0"), None), StreamStart::After(Seq(0)));
        assert_eq!(decide(Some("9-0"), Some(100)), StreamStart::After(Seq(0)));
        assert_eq!(decide(Some("9-0"), Some(99)), StreamStart::Reset(ResetReason::TooMany));
        assert_eq!(decide(Some("9-101"), None), StreamStart::Reset(ResetReason::Ahead));
        assert_eq!(decide(Some("8-100"), None), StreamStart::Reset(ResetReason::Foreign));
        assert_eq!(decide(Some("7-99"), None), StreamStart::After(Seq(99)), "an id of an earlier release");
        for bad in ["", "100", "9-", "9-x", "9--1", "09-1", "9-01"] {
            assert_eq!(decide(Some(bad), None), StreamStart::Reset(ResetReason::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn the_first_of_three_ends_counts() {
        let began = Instant::now();
        let first = |expires_s: i64, asked: Option<u64>| {
            let bounds = StreamBounds {
                messages: None,
                time: asked.map(Duration::from_secs),
            };
            let token = (Timestamp(expires_s * 1_000), Timestamp(0));
            let end = StreamEnd::first(began, (Duration::from_secs(100), 0.5), token, bounds);
            ((end.at - began).as_secs(), end.reason)
        };
        assert_eq!(first(1_000, None), (90, ByeReason::MaxAge));
        assert_eq!(first(50, None), (50, ByeReason::TokenExpired));
        assert_eq!(first(50, Some(20)), (20, ByeReason::Bounded));
        assert_eq!(first(-1, Some(20)), (0, ByeReason::TokenExpired));
    }
}
