//! Times measured from evidence: how long posts took, how long rooms were silent, how long messages took to be shown, and percentiles.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use crate::evidence::{Departure, Digest, Evidence};

/// How long after a clean change of the workers messages are considered.
const AFTER_CHANGE: Duration = Duration::from_secs(1);

/// The median and the 99th percentile.
#[must_use]
pub fn percentiles(mut times: Vec<Duration>) -> Option<(Duration, Duration)> {
    times.sort_unstable();
    let at = |share: usize| times.get((times.len().saturating_sub(1) * share).div_ceil(100)).copied();
    Some((at(50)?, at(99)?))
}

/// How long those posts took, all tries together, that were acknowledged and first sent at `from` or later.
#[must_use]
pub fn acknowledged_post_times(evidence: &Evidence, from: Duration) -> Vec<Duration> {
    let posts = evidence.posts.iter().filter(|post| post.sent >= from && post.outcome.is_acknowledged());
    posts.map(|post| post.settled.saturating_sub(post.sent)).collect()
}

/// How long after its acknowledgement each message was first shown to somebody, of those acknowledged in `interval`.
#[must_use]
pub fn shown_after(evidence: &Evidence, interval: &Range<Duration>) -> Vec<Duration> {
    let times = acknowledged_and_shown(evidence).into_iter();
    let within = times.filter(|(settled, _)| interval.contains(settled));
    within.map(|(settled, shown)| shown.saturating_sub(settled)).collect()
}

/// For each of `changes` the longest time in which an acknowledged message was not shown to anybody, from the change on
/// and for a second. Unlike the silence of a room this does not grow when nobody posts.
#[must_use]
pub fn shown_around(evidence: &Evidence, changes: &[Duration]) -> Vec<Duration> {
    let times = acknowledged_and_shown(evidence);
    let longest = |change: &Duration| {
        let concerned = times.iter().filter(|(settled, shown)| shown >= change && *settled < *change + AFTER_CHANGE);
        concerned.map(|(settled, shown)| shown.saturating_sub((*settled).max(*change))).max()
    };
    changes.iter().filter_map(longest).collect()
}

/// When each message was acknowledged, and first shown to somebody.
fn acknowledged_and_shown(evidence: &Evidence) -> Vec<(Duration, Duration)> {
    let mut first: HashMap<Digest, Duration> = HashMap::new();
    for received in evidence.streams.iter().flat_map(|stream| &stream.received) {
        let Some(message) = received.entry.message() else {
            continue;
        };
        let at = first.entry(message.text).or_insert(received.at);
        *at = received.at.min(*at);
    }
    evidence.posts.iter().filter_map(|post| Some((post.settled, *first.get(&post.text)?))).collect()
}

/// For each injection the longest silence of any room that began before the next injection, by the messages that streams
/// received before `until`.
///
/// A silence over several injections counts for each of them, from that injection on.
#[must_use]
pub fn silences(evidence: &Evidence, injections: &[Duration], until: Duration) -> Vec<Duration> {
    let mut rooms: HashMap<usize, Vec<Duration>> = HashMap::new();
    for stream in &evidence.streams {
        let messages = stream.received.iter().filter(|received| received.entry.message().is_some());
        let times = messages.map(|received| received.at).filter(|at| *at < until);
        rooms.entry(stream.room).or_default().extend(times);
    }
    for times in rooms.values_mut() {
        times.sort_unstable();
    }
    let after_injection = |(number, injection): (usize, &Duration)| {
        let next = injections.get(number + 1).copied().unwrap_or(Duration::MAX);
        let of_room = |times: &Vec<Duration>| {
            let first = times.partition_point(|time| time < injection).saturating_sub(1);
            let pairs = times[first..].windows(2).take_while(|pair| pair[0] < next);
            pairs.map(|pair| pair[1].saturating_sub(pair[0].max(*injection))).max()
        };
        rooms.values().filter_map(of_room).max()
    };
    injections.iter().enumerate().filter_map(after_injection).collect()
}

/// Sentences about the slowest end of a stream after leaving and the slowest response to a post, those aside that the rig
/// itself held back.
#[must_use]
pub fn slowest_responses(evidence: &Evidence) -> Vec<String> {
    let time = |gateway, from, until: Duration| {
        (!evidence.was_unreachable(gateway, from, until)).then(|| until.saturating_sub(from))
    };
    let removal = |departure: &Departure| time(departure.gateway, departure.left, departure.ended?);
    let removals = evidence.departures.iter().filter_map(removal).max();
    let posts = evidence.slow_posts.iter().filter_map(|post| time(post.gateway, post.from, post.until)).max();
    let mut sentences = Vec::new();
    if let Some(time) = removals {
        sentences.push(format!("streams ended at most {} ms after leaving", time.as_millis()));
    }
    if let Some(time) = posts {
        sentences.push(format!("the slowest response to a post took {} ms", time.as_millis()));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::evidence::{Message, PlainEntry, Post, PostOutcome, Received, StreamRecord};

    fn message(text: Digest) -> PlainEntry {
        let id = Uuid::nil();
        PlainEntry::Message(Message { seq: 1, id, text })
    }

    fn stream(room: usize, millis: &[u64]) -> StreamRecord<PlainEntry> {
        let received = |at: &u64| Received {
            entry: message(Digest::of("")),
            cursor: 1,
            at: Duration::from_millis(*at),
        };
        StreamRecord {
            subscriber: 0,
            room,
            gateway: 0,
            resumed_after: None,
            resumed_epoch: None,
            ready: 0,
            epoch: 1,
            reset: None,
            received: millis.iter().map(received).collect(),
            unexpected_events: Vec::new(),
            requested: Duration::ZERO,
            opened: Duration::ZERO,
            bye: None,
        }
    }

    #[test]
    fn longest_silence_after_an_injection_is_found() {
        let evidence = Evidence {
            streams: vec![
                stream(0, &[0, 100, 1_100, 1_200, 2_000]),
                stream(1, &[0, 50, 90, 1_900, 2_000]),
            ],
            ..Evidence::default()
        };
        let injections = [90, 1_150].map(Duration::from_millis);
        assert_eq!(silences(&evidence, &injections, Duration::MAX), [1_810, 800].map(Duration::from_millis));
        let until = Duration::from_secs(2);
        assert_eq!(silences(&evidence, &injections, until), [1_810, 750].map(Duration::from_millis));
    }

    /// Messages acknowledged at 0, 900 and 2,500 ms and shown at 500, 1,250 and 3,000 ms.
    fn three_messages() -> Evidence {
        let (mut evidence, texts) = (Evidence::default(), ["early", "held", "late"].map(Digest::of));
        for (text, settled) in texts.iter().zip([0, 900, 2_500]) {
            evidence.posts.push(Post {
                room: 0,
                sender: 0,
                number: 0,
                text: *text,
                reply_to: None,
                mentions: Vec::new(),
                sent: Duration::ZERO,
                settled: Duration::from_millis(settled),
                outcome: PostOutcome::Unknown,
                unknown_tries: 0,
            });
        }
        let mut shown = stream(0, &[500, 1_250, 3_000]);
        for (received, text) in shown.received.iter_mut().zip(texts) {
            received.entry = message(text);
        }
        evidence.streams.push(shown);
        evidence
    }

    #[test]
    fn handover_is_the_longest_wait_of_a_message_around_it() {
        let changes = [Duration::from_secs(1)];
        assert_eq!(shown_around(&three_messages(), &changes), [Duration::from_millis(250)]);
    }

    #[test]
    fn shown_after_counts_messages_acknowledged_in_the_interval() {
        let interval = Duration::from_millis(900)..Duration::from_millis(2_500);
        assert_eq!(shown_after(&three_messages(), &interval), [Duration::from_millis(350)]);
    }

    #[test]
    fn only_acknowledged_posts_since_a_moment_are_timed() {
        let mut evidence = three_messages();
        for (post, sent) in evidence.posts.iter_mut().zip([0, 700, 2_400]) {
            post.sent = Duration::from_millis(sent);
        }
        let acknowledged = PostOutcome::Acknowledged(Uuid::nil());
        (evidence.posts[0].outcome, evidence.posts[1].outcome) = (acknowledged, acknowledged);
        let times = |from| acknowledged_post_times(&evidence, Duration::from_millis(from));
        assert_eq!(times(0), [0, 200].map(Duration::from_millis));
        assert_eq!(times(700), [Duration::from_millis(200)]);
        assert!(times(701).is_empty());
    }

    #[test]
    fn percentiles_of_nothing_are_nothing() {
        assert_eq!(percentiles(Vec::new()), None);
        let times = (1..=100).map(Duration::from_secs).collect();
        assert_eq!(percentiles(times), Some((Duration::from_secs(51), Duration::from_secs(100))));
    }
}
