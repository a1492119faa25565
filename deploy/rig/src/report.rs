//! What a run came to: a line of JSON to keep, and a row of the table that is printed from such lines.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::evidence::{self, Digest, Evidence, Post};
use crate::faults::Fault;
use crate::field::Outcome;
use crate::oracle::Invariant;
use crate::{Backend, Explain as _, Result};

/// Headings of the table.
const HEADINGS: &str = "| fault | store | trials | acknowledged | lost | doubled | reordered | unknown | \
                        takeover p50 / p99 | verdict |\n|---|---|---|---|---|---|---|---|---|---|";

/// How long after a clean change of the workers messages are looked at.
const LOOKED_AT: Duration = Duration::from_secs(1);

/// One run of one fault.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// The day, by UTC: `2026-11-26`.
    pub date: String,
    /// Which fault.
    pub code: String,
    /// What it does, in a few words.
    pub title: String,
    /// Which back end.
    pub store: String,
    /// What everything random followed from.
    pub seed: u64,
    /// How often the fault struck.
    pub trials: usize,
    /// How often it must strike for the full matrix.
    pub demanded: usize,
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
    /// Whether it had to lose something, and did.
    pub is_control: bool,
}

impl Row {
    /// Counts what `outcome` holds.
    #[must_use]
    pub fn of(fault: &Fault, backend: Backend, seed: u64, outcome: &Outcome) -> Self {
        let broken = |invariants: &[Invariant]| {
            outcome.violations.iter().filter(|violation| invariants.contains(&violation.invariant)).count()
        };
        let posts = &outcome.evidence.posts;
        let is_acknowledged = |post: &&Post| matches!(post.outcome, evidence::Outcome::Acknowledged(_));
        let store = match backend {
            Backend::Sqlite => "SQLite",
            Backend::Postgres => "Postgres",
        };
        Self {
            date: OffsetDateTime::now_utc().date().to_string(),
            code: fault.code.to_owned(),
            title: fault.title.to_owned(),
            store: store.to_owned(),
            seed,
            trials: outcome.strikes.len(),
            demanded: fault.demanded,
            acknowledged: posts.iter().filter(is_acknowledged).count(),
            lost: broken(&[Invariant::Kept]),
            doubled: broken(&[Invariant::Once, Invariant::Converges]),
            reordered: broken(&[Invariant::HappensBefore, Invariant::SenderOrder]),
            unknown: posts.iter().map(|post| u64::from(post.unknown_tries)).sum(),
            takeover: percentiles(silences(&outcome.evidence, &outcome.strikes)),
            violations: outcome.violations.iter().map(ToString::to_string).collect(),
            notes: [outcome.notes.clone(), slowest_answers(&outcome.evidence)].concat(),
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
    fn line(&self) -> String {
        let takeover = self.takeover.map_or_else(
            || "–".to_owned(),
            |(p50, p99)| format!("{:.1} s / {:.1} s", p50.as_secs_f64(), p99.as_secs_f64()),
        );
        let verdict = match self.violations.len() {
            0 if self.is_control => "loss found".to_owned(),
            0 => "kept".to_owned(),
            count => format!("**{count} broken**"),
        };
        let trials = if self.trials < self.demanded {
            format!("{} of {}", self.trials, self.demanded)
        } else {
            self.trials.to_string()
        };
        format!(
            "| {} {} | {} | {trials} | {} | {} | {} | {} | {} | {takeover} | {verdict} |",
            self.code, self.title, self.store, self.acknowledged, self.lost, self.doubled, self.reordered, self.unknown
        )
    }
}

/// Reads the lines that runs left behind, in the order of the matrix; of several runs of a fault on a back end the last.
pub fn read(lines: &str) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let row: Row = serde_json::from_str(line).explain(|| format!("no row of the matrix: {line}"))?;
        rows.retain(|earlier| (&earlier.code, &earlier.store) != (&row.code, &row.store));
        rows.push(row);
    }
    let place = |row: &Row| crate::faults::MATRIX.iter().position(|fault| fault.code == row.code);
    // SQLite stands before Postgres.
    rows.sort_by_key(|row| (std::cmp::Reverse(row.store.clone()), place(row)));
    Ok(rows)
}

/// The table, with the days on which its rows came about, and what was broken as a list below it.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let days = (rows.iter().map(|row| &row.date).min(), rows.iter().map(|row| &row.date).max());
    let mut table = match days {
        (Some(first), Some(last)) if first == last => format!("`make soak`, {first}:\n\n"),
        (Some(first), Some(last)) => format!("`make soak`, {first} to {last}:\n\n"),
        _ => String::new(),
    };
    table.push_str(HEADINGS);
    for row in rows {
        // Writing to a string does not fail.
        let _ = write!(table, "\n{}", row.line());
    }
    table.push('\n');
    for row in rows {
        for violation in row.violations.iter().take(SHOWN) {
            let _ = write!(table, "\n- {} on {}: {violation}", row.code, row.store);
        }
    }
    table
}

/// Sentences shown of a run that broke promises; all of them are in its line and in the evidence it leaves.
const SHOWN: usize = 3;

/// How long the slowest answers took that have a bound of their own, those aside that the rig itself held back.
fn slowest_answers(evidence: &Evidence) -> Vec<String> {
    let time =
        |gateway, from, until: Duration| (!evidence.was_dark(gateway, from, until)).then(|| until.saturating_sub(from));
    let removal = |departure: &evidence::Departure| time(departure.gateway, departure.left, departure.ended?);
    let removals = evidence.departures.iter().filter_map(removal).max();
    let hangs = evidence.hangs.iter().filter_map(|hang| time(hang.gateway, hang.from, hang.until)).max();
    let said = [
        (removals, "streams ended at most", "after leaving"),
        (hangs, "the slowest answer to a post took", ""),
    ];
    let sentence = |(time, before, after): &(Option<Duration>, &str, &str)| {
        Some(format!("{before} {} ms {after}", (*time)?.as_millis()).trim_end().to_owned())
    };
    said.iter().filter_map(sentence).collect()
}

/// How long after its acknowledgement each message was first shown to somebody.
#[must_use]
pub fn shown_after(evidence: &Evidence) -> Vec<Duration> {
    ways(evidence).into_iter().map(|(settled, shown)| shown.saturating_sub(settled)).collect()
}

/// For each of `changes` the longest time in which a message that was acknowledged was not shown to anybody, from the change
/// on and for a second. Unlike the silence of a room that does not count that nobody had anything to say.
#[must_use]
pub fn shown_around(evidence: &Evidence, changes: &[Duration]) -> Vec<Duration> {
    let ways = ways(evidence);
    let longest = |change: &Duration| {
        let concerned = ways.iter().filter(|(settled, shown)| shown >= change && *settled < *change + LOOKED_AT);
        concerned.map(|(settled, shown)| shown.saturating_sub((*settled).max(*change))).max()
    };
    changes.iter().filter_map(longest).collect()
}

/// When each message was acknowledged, and first shown to somebody.
fn ways(evidence: &Evidence) -> Vec<(Duration, Duration)> {
    let mut first: HashMap<Digest, Duration> = HashMap::new();
    for heard in evidence.sessions.iter().flat_map(|session| &session.heard) {
        let at = first.entry(heard.shown.text).or_insert(heard.at);
        *at = heard.at.min(*at);
    }
    evidence.posts.iter().filter_map(|post| Some((post.settled, *first.get(&post.text)?))).collect()
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
            resumed_epoch: None,
            ready: 0,
            epoch: 1,
            reset: None,
            heard: millis.iter().map(heard).collect(),
            strange: Vec::new(),
            opened: Duration::ZERO,
            bye: None,
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
    fn a_hand_over_is_the_longest_wait_of_a_message_around_it() {
        let (mut evidence, texts) = (Evidence::default(), ["early", "held", "late"].map(Digest::of));
        for (text, settled) in texts.iter().zip([0, 900, 2_500]) {
            evidence.posts.push(Post {
                room: 0,
                sender: 0,
                number: 0,
                text: *text,
                sent: Duration::ZERO,
                settled: Duration::from_millis(settled),
                outcome: evidence::Outcome::Unknown,
                unknown_tries: 0,
            });
        }
        let mut heard = session(0, &[500, 1_250, 3_000]);
        for (heard, text) in heard.heard.iter_mut().zip(texts) {
            heard.shown.text = text;
        }
        evidence.sessions.push(heard);
        let changes = [Duration::from_secs(1)];
        assert_eq!(shown_around(&evidence, &changes), [Duration::from_millis(250)]);
    }

    #[test]
    fn the_last_run_of_a_fault_counts_and_the_table_says_what_is_short_of_the_demand() {
        let row = |code: &str, store: &str, trials, date: &str| Row {
            date: date.to_owned(),
            code: code.to_owned(),
            title: "worker kill -9".to_owned(),
            store: store.to_owned(),
            seed: 1,
            trials,
            demanded: 200,
            acknowledged: 5,
            lost: 0,
            doubled: 0,
            reordered: 0,
            unknown: 0,
            takeover: Some((Duration::from_millis(120), Duration::from_millis(2_180))),
            violations: Vec::new(),
            notes: Vec::new(),
            is_control: false,
        };
        let mut broken = row("F2", "SQLite", 200, "2026-11-27");
        broken.violations.push("Kept: gone".to_owned());
        let runs = [
            row("F1", "Postgres", 200, "2026-11-26"),
            row("F1", "SQLite", 3, "2026-11-26"),
            broken,
            row("F1", "SQLite", 100, "2026-11-26"),
        ];
        let lines: Vec<String> = runs.iter().map(|row| serde_json::to_string(row).unwrap_or_default()).collect();
        let rows = read(&lines.join("\n")).unwrap_or_default();
        let table = table(&rows);
        let table: Vec<&str> = table.lines().collect();
        assert_eq!(table[0], "`make soak`, 2026-11-26 to 2026-11-27:");
        assert_eq!(
            table[4..],
            [
                "| F1 worker kill -9 | SQLite | 100 of 200 | 5 | 0 | 0 | 0 | 0 | 0.1 s / 2.2 s | kept |",
                "| F2 worker kill -9 | SQLite | 200 | 5 | 0 | 0 | 0 | 0 | 0.1 s / 2.2 s | **1 broken** |",
                "| F1 worker kill -9 | Postgres | 200 | 5 | 0 | 0 | 0 | 0 | 0.1 s / 2.2 s | kept |",
                "",
                "- F2 on SQLite: Kept: gone",
            ]
        );
    }

    #[test]
    fn percentiles_of_nothing_are_nothing() {
        assert_eq!(percentiles(Vec::new()), None);
        let times = (1..=100).map(Duration::from_secs).collect();
        assert_eq!(percentiles(times), Some((Duration::from_secs(51), Duration::from_secs(100))));
    }
}
