//! The two ways to read a room.

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::Value;

use super::super::recorder::Recorder;
use crate::evidence::{LogEntry, PlainEntry, StreamRecord};

/// How often a follower that comes back uses an id from earlier.
const STARTS_ANEW: f64 = 0.3;
/// How often this may be any id, and how far back it lies otherwise: whole replays of a long log are a load of their own.
const ANY_ID: f64 = 0.2;
const RECENT: i64 = 200;
/// How far back one that looks back begins.
const LOOKED_BACK: i64 = 100;

/// What a client makes of the streams of a room.
pub(in crate::traffic) trait Reading: Send + 'static {
    /// What it keeps of an entry.
    type Entry: Send + Sync;
    /// Whether it begins with the first entry of the room, and again so after a `reset`; otherwise it begins with what comes.
    const WANTS_ALL: bool;

    /// Parses the data of the event `name`; `None` if it is no entry.
    fn parse(name: &str, data: &Value) -> Option<Self::Entry>;

    /// The seq after which it goes on, when it has everything up to `last`.
    fn resumes_after(&self, last: i64, rng: &mut StdRng) -> i64;

    /// Records a stream.
    fn add_stream(recorder: &Recorder, stream: StreamRecord<Self::Entry>);
}

/// Follows a room in which nobody changes messages, and goes on with the last id it saw.
pub(in crate::traffic) struct SubscriberClient;

impl Reading for SubscriberClient {
    type Entry = PlainEntry;
    const WANTS_ALL: bool = false;

    fn parse(name: &str, data: &Value) -> Option<PlainEntry> {
        PlainEntry::parse(name, data)
    }

    fn resumes_after(&self, last: i64, _rng: &mut StdRng) -> i64 {
        last
    }

    fn add_stream(recorder: &Recorder, stream: StreamRecord<PlainEntry>) {
        recorder.add_stream(stream);
    }
}

/// Applies the whole log of an edited room, and now and then starts anew from an id that it kept from earlier.
pub(in crate::traffic) struct Follower {
    /// Whether it always starts anew, shortly before the last entry it has: it looks for texts that were deleted a moment ago.
    pub(in crate::traffic) looks_back: bool,
}

impl Reading for Follower {
    type Entry = LogEntry;
    const WANTS_ALL: bool = true;

    fn parse(name: &str, data: &Value) -> Option<LogEntry> {
        LogEntry::parse(name, data)
    }

    fn resumes_after(&self, last: i64, rng: &mut StdRng) -> i64 {
        if self.looks_back {
            return rng.random_range((last - LOOKED_BACK).max(0)..=last);
        }
        if !rng.random_bool(STARTS_ANEW) {
            return last;
        }
        let first = if rng.random_bool(ANY_ID) {
            0
        } else {
            (last - RECENT).max(0)
        };
        rng.random_range(first..=last)
    }

    fn add_stream(recorder: &Recorder, stream: StreamRecord<LogEntry>) {
        recorder.add_followed_stream(stream);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn followers_go_on_at_the_end_or_at_an_earlier_position() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut seqs = |looks_back| -> Vec<i64> {
            let follower = Follower { looks_back };
            (0..200).map(|_| follower.resumes_after(1_000, &mut rng)).collect()
        };
        let usual = seqs(false);
        assert!(usual.iter().all(|seq| (0..=1_000).contains(seq)));
        assert!(usual.contains(&1_000) && usual.iter().any(|seq| *seq < 1_000 - RECENT));
        let back = seqs(true);
        assert!(back.iter().all(|seq| (1_000 - LOOKED_BACK..=1_000).contains(seq)));
        assert!(back.iter().filter(|seq| **seq < 1_000).count() > 100);
        let new = Follower { looks_back: true }.resumes_after(0, &mut rng);
        assert_eq!((new, SubscriberClient.resumes_after(5, &mut rng)), (0, 5));
    }
}
