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
pub(in crate::traffic) struct Follower;

impl Reading for Follower {
    type Entry = LogEntry;
    const WANTS_ALL: bool = true;

    fn parse(name: &str, data: &Value) -> Option<LogEntry> {
        LogEntry::parse(name, data)
    }

    fn resumes_after(&self, last: i64, rng: &mut StdRng) -> i64 {
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
