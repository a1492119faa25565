//! What a run came to, as a row of the table and as one line of JSON.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::evidence::{self, Digest, Evidence};
use crate::field::Outcome;
use crate::oracle::Invariant;

/// Headings of the table.
pub const HEADINGS: &str = "| fault | store | trials | acknowledged | lost | doubled | reordered | unknown | \
                            takeover p50 / p99 | verdict |\n|---|---|---|---|---|---|---|---|---|---|";

/// One row.
pub struct Row {
    /// Which fault.
    pub fault: String,
    /// Which back end.
    pub backend: String,
    /// What everything random followed from.
    pub seed: u64,
    /// How often the fault struck.
    pub trials: usize,
    /// Messages answered with 204.
    pub acknowledged: usize,
    /// Of these, not in history.
    pub lost: usize,
    /// Messages that are there more than once, or although they were refused.
    pub doubled: usize,
    /// Messages in the wrong place.
    pub reordered: usize,
    /// Tries after which the client could not know.
    pub unknown: u64,
    /// Longest silence of any room after a strike: half of them, and all but one in a hundred, were shorter.
    pub takeover: Option<(Duration, Duration)>,
    /// All broken promises, as sentences.
    pub violations: Vec<String>,
    /// Further facts.
    pub notes: Vec<String>,
    is_control: bool,
}

impl Row {
    /// Counts what `outcome` holds.
    #[must_use]
    pub fn of(fault: &str, backend: &str, seed: u64, outcome: &Outcome) -> Self {
        let broken = |invariants: &[Invariant]| {
            outcome.violations.iter().filter(|violation| invariants.contains(&violation.invariant)).count()
        };
        let posts = &outcome.evidence.posts;
        let is_acknowledged = |post: &&evidence::Post| matches!(post.outcome, evidence::Outcome::Acknowledged(_));
        Self {
            fault: fault.to_owned(),
            backend: backend.to_owned(),
            seed,
            trials: outcome.strikes.len(),
            acknowledged: posts.iter().filter(is_acknowledged).count(),
            lost: broken(&[Invariant::Kept]),
            doubled: broken(&[Invariant::Once, Invariant::Converges]),
            reordered: broken(&[Invariant::HappensBefore, Invariant::SenderOrder]),
            unknown: posts.iter().map(|post| u64::from(post.unknown_tries)).sum(),
            takeover: percentiles(silences(&outcome.evidence, &outcome.strikes)),
            violations: outcome.violations.iter().map(ToString::to_string).collect(),
            notes: outcome.notes.clone(),
            is_control: false,
        }
    }

    /// Adds what a fault demands of the measured times.
    pub fn demand(&mut self, what: &str, measured: Option<Duration>, at_most: Duration) {
        match measured {
            Some(time) if time <= at_most => {}
            Some(time) => self.violations.push(format!("Demand: {what} is {time:?}, over {at_most:?}")),
            None => self.violations.push(format!("Demand: {what} could not be measured")),
        }
    }

    /// The verdict on a run that must lose something: finding it is what was to be shown.
    pub fn turn_round(&mut self) {
        let found = self.violations.len();
        self.violations.clear();
        if self.lost == 0 {
            self.violations.push("nothing was lost, or the oracle did not find it".to_owned());
        }
        self.notes.push(format!("{found} violations were found, as they must be"));
        self.is_control = true;
    }

    /// The row for people.
    #[must_use]
    pub fn line(&self) -> String {
        let takeover = self.takeover.map_or_else(
            || "–".to_owned(),
            |(p50, p99)| format!("{:.1} s / {:.1} s", p50.as_secs_f64(), p99.as_secs_f64()),
        );
        let verdict = match self.violations.len() {
            0 if self.is_control => "loss found".to_owned(),
            0 => "kept".to_owned(),
            count => format!("**{count} broken**"),
        };
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {takeover} | {verdict} |",
            self.fault,
            self.backend,
            self.trials,
            self.acknowledged,
            self.lost,
            self.doubled,
            self.reordered,
            self.unknown
        )
    }

    /// The row for machines.
    #[must_use]
    pub fn json(&self) -> Value {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        json!({
            "fault": self.fault,
            "store": self.backend,
            "seed": self.seed,
            "trials": self.trials,
            "acknowledged": self.acknowledged,
            "lost": self.lost,
            "doubled": self.doubled,
            "reordered": self.reordered,
            "unknown": self.unknown,
            "takeover_p50_ms": self.takeover.map(|(p50, _)| millis(p50)),
            "takeover_p99_ms": self.takeover.map(|(_, p99)| millis(p99)),
            "violations": self.violations.len(),
            "notes": self.notes,
        })
    }
}

/// How long after its acknowledgement each message was first shown to somebody.
#[must_use]
pub fn shown_after(evidence: &Evidence) -> Vec<Duration> {
    let mut first: HashMap<Digest, Duration> = HashMap::new();
    for heard in evidence.sessions.iter().flat_map(|session| &session.heard) {
        let at = first.entry(heard.shown.text).or_insert(heard.at);
        *at = heard.at.min(*at);
    }
    let delay = |post: &evidence::Post| Some(first.get(&post.text)?.saturating_sub(post.settled));
    evidence.posts.iter().filter_map(delay).collect()
}

/// For each strike the longest silence of any room that began before the next strike.
///
/// A silence over several strikes counts for each of them, from that strike on.
fn silences(evidence: &Evidence, strikes: &[Duration]) -> Vec<Duration> {
    let mut rooms: HashMap<usize, Vec<Duration>> = HashMap::new();
    for session in &evidence.sessions {
        rooms.entry(session.room).or_default().extend(session.heard.iter().map(|heard| heard.at));
    }
    for times in rooms.values_mut() {
        times.sort_unstable();
    }
    let of_strike = |(number, strike): (usize, &Duration)| {
        let next = strikes.get(number + 1).copied().unwrap_or(Duration::MAX);
        let of_room = |times: &Vec<Duration>| {
            let first = times.partition_point(|time| time < strike).saturating_sub(1);
            let pairs = times[first..].windows(2).take_while(|pair| pair[0] < next);
            pairs.map(|pair| pair[1].saturating_sub(pair[0].max(*strike))).max()
        };
        rooms.values().filter_map(of_room).max()
    };
    strikes.iter().enumerate().filter_map(of_strike).collect()
}

/// The median and the 99th percentile.
#[must_use]
pub fn percentiles(mut times: Vec<Duration>) -> Option<(Duration, Duration)> {
    times.sort_unstable();
    let at = |share: usize| times.get((times.len().saturating_sub(1) * share).div_ceil(100)).copied();
    Some((at(50)?, at(99)?))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::evidence::{Digest, Heard, Session, Shown};

    fn session(room: usize, millis: &[u64]) -> Session {
        let heard = |at: &u64| Heard {
            shown: Shown {
                seq: 1,
                id: Uuid::nil(),
                text: Digest::of(""),
            },
            cursor: 1,
            at: Duration::from_millis(*at),
        };
        Session {
            phone: 0,
            room,
            gateway: 0,
            resumed_after: None,
            ready: 0,
            reset: None,
            heard: millis.iter().map(heard).collect(),
            strange: Vec::new(),
            opened: Duration::ZERO,
        }
    }

    #[test]
    fn a_takeover_is_the_longest_silence_after_its_strike() {
        let evidence = Evidence {
            sessions: vec![
                session(0, &[0, 100, 1_100, 1_200, 2_000]),
                session(1, &[0, 50, 90, 1_900, 2_000]),
            ],
            ..Evidence::default()
        };
        let strikes = [90, 1_150].map(Duration::from_millis);
        assert_eq!(silences(&evidence, &strikes), [1_810, 800].map(Duration::from_millis));
    }

    #[test]
    fn percentiles_of_nothing_are_nothing() {
        assert_eq!(percentiles(Vec::new()), None);
        let times = (1..=100).map(Duration::from_secs).collect();
        assert_eq!(percentiles(times), Some((Duration::from_secs(51), Duration::from_secs(100))));
    }
}
