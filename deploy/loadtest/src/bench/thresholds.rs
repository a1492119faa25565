//! The thresholds of Roomcast: which figure of which load must keep which bound.

use serde::Serialize;

use super::report::{Report, Round};
use crate::results::figures::Figures;
use crate::results::window::Window;

/// A figure and the bound it must keep.
pub struct Threshold {
    /// What is measured.
    pub what: &'static str,
    /// Name of the load that the figure is taken from.
    pub load: &'static str,
    /// The bound.
    pub bound: Bound,
    /// Unit of the figure.
    pub unit: &'static str,
    figure: fn(&Round) -> Option<f64>,
}

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

/// All thresholds: targets for two cores that the tool and the servers share. "×" is a ratio to nchan under the same load,
/// one after the other on the same machine, or of a load to itself under other conditions.
pub const THRESHOLDS: [Threshold; 31] = [
    threshold("one hot room, deliveries/s against nchan", "hot-1000", AtLeast(8.0), "×", deliveries_ratio),
    threshold("the same with 10,000 streams", "hot-10000", AtLeast(15.0), "×", deliveries_ratio),
    threshold("CPU of a delivery, against nchan", "steady-1000", AtMost(0.7), "×", cpu_ratio),
    threshold("the same in 1,000 rooms of 10", "rooms", AtMost(0.8), "×", cpu_ratio),
    threshold("gateway memory of an idle stream", "idle", AtMost(2.0), "KiB", memory_of_a_stream),
    threshold("posts acknowledged by one gateway", "accept", AtLeast(20_000.0), "/s", requests),
    threshold(
        "… with a time-ordered key each, against posts without",
        "accept",
        AtLeast(0.85),
        "×",
        requests_ratio,
    ),
    threshold("messages accepted, stored and delivered", "sustained", AtLeast(15_000.0), "/s", deliveries),
    threshold("… share of them delivered within the window", "sustained", AtLeast(0.99), "", delivered),
    threshold("… and until the last is delivered", "sustained", AtMost(1.0), "s", |round| Some(caught_up(round))),
    threshold("from post to event, p50", "latency", AtMost(5.0), "ms", p50),
    threshold("from post to event, p99", "latency", AtMost(30.0), "ms", p99),
    threshold("all streams resumed", "resume", AtMost(3.0), "s", |round| Some(caught_up(round))),
    threshold("… with gaps, doubles or wrong order", "resume", AtMost(0.0), "", |round| Some(violations(round))),
    threshold("… reads of history a room and second", "resume", AtMost(1.0), "", reads),
    threshold("others' p99 while 10 % stall", "stalled", AtMost(1.1), "×", p99_with_stalled),
    threshold("gateway memory for a stalled stream", "stalled", AtMost(64.0), "KiB", memory_of_a_stalled),
    threshold(
        "CPU of a delivery on streams of users, against streams of rooms",
        "users",
        AtMost(1.5),
        "×",
        cpu_ratio,
    ),
    threshold("from post to event on streams of users, p50", "users-latency", AtMost(5.0), "ms", p50),
    threshold("from post to event on streams of users, p99", "users-latency", AtMost(30.0), "ms", p99),
    threshold(
        "gateway memory of a user's idle stream of 50 rooms",
        "users-idle",
        AtMost(6.0),
        "KiB",
        memory_of_a_stream,
    ),
    threshold("CPU of a gateway with 10,000 of these", "users-idle", AtMost(0.02), "cores", gateway_cores),
    threshold(
        "SQL statements of a gateway with 10,000 of these",
        "users-statements",
        AtMost(20.0),
        "/s",
        statements,
    ),
    threshold("all streams of users resumed after a restart", "users-resume", AtMost(5.0), "s", |round| {
        Some(caught_up(round))
    }),
    threshold("streams of users with gaps, doubles or wrong order", "users-resume", AtMost(0.0), "", |round| {
        Some(violations(round))
    }),
    threshold("`ready` of a user in 500 rooms, p99", "sync", AtMost(20.0), "ms", ready_p99),
    threshold("SQL statements until `ready`", "sync-statements", AtMost(5.0), "", ready_statements),
    threshold("catching up in 500 rooms of which 3 changed, p99", "sync", AtMost(30.0), "ms", changed_p99),
    threshold("p99 while 1,000 users of a room type", "typing", AtMost(1.1), "×", p99_with_typing),
    threshold("history of 100 from 1,000,000, cold room", "history-cold", AtLeast(5_000.0), "/s", long_history),
    threshold("history of 100 from 1,000,000, hot room", "history-hot", AtLeast(20_000.0), "/s", long_history),
];

const fn threshold(
    what: &'static str,
    load: &'static str,
    bound: Bound,
    unit: &'static str,
    figure: fn(&Round) -> Option<f64>,
) -> Threshold {
    Threshold {
        what,
        load,
        bound,
        unit,
        figure,
    }
}

/// A threshold and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThresholdResult {
    /// What is measured.
    pub what: &'static str,
    /// Name of the load that the figure is taken from.
    pub load: &'static str,
    /// The bound.
    #[serde(rename = "demanded")]
    pub bound: Bound,
    /// Unit of the figure.
    pub unit: &'static str,
    /// The figure; `None` if it was not measured. Infinite (`null` in JSON) if streams never caught up.
    pub measured: Option<f64>,
    /// Whether the figure keeps the bound; `None` if it was not measured.
    pub is_reached: Option<bool>,
    /// The load was not the one that was planned, so that its figure keeps no bound.
    pub is_wrong: bool,
}

/// Compares the figures of `report` with all thresholds.
#[must_use]
pub fn evaluate(report: &Report) -> Vec<ThresholdResult> {
    let result = |threshold: &Threshold| {
        let outcome = report.load(threshold.load);
        let measured = outcome.and_then(|outcome| outcome.median(threshold.figure));
        let is_wrong = measured.is_some() && outcome.is_some_and(|outcome| !outcome.is_valid());
        ThresholdResult {
            what: threshold.what,
            load: threshold.load,
            bound: threshold.bound,
            unit: threshold.unit,
            measured,
            is_reached: measured.map(|figure| threshold.bound.is_kept_by(figure) && !is_wrong),
            is_wrong,
        }
    };
    THRESHOLDS.iter().map(result).collect()
}

impl Bound {
    fn is_kept_by(self, figure: f64) -> bool {
        match self {
            AtLeast(bound) => figure >= bound,
            AtMost(bound) => figure <= bound,
        }
    }
}

fn ratio(round: &Round, figure: fn(&Figures) -> Option<f64>) -> Option<f64> {
    let theirs = figure(round.peer.as_ref()?)?;
    (theirs > 0.0).then_some(figure(&round.figures)? / theirs)
}

/// Deliveries of a request, in rooms of one stream: at least nearly 1, unless the server falls behind ever further.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
fn delivered(round: &Round) -> Option<f64> {
    let window = round.figures.windows.first()?;
    (window.requests > 0).then(|| window.deliveries as f64 / window.requests as f64)
}

fn deliveries(round: &Round) -> Option<f64> {
    round.figures.deliveries_per_s()
}

pub(super) fn deliveries_ratio(round: &Round) -> Option<f64> {
    ratio(round, Figures::deliveries_per_s)
}

fn requests_ratio(round: &Round) -> Option<f64> {
    ratio(round, Figures::requests_per_s)
}

fn requests(round: &Round) -> Option<f64> {
    round.figures.requests_per_s()
}

/// Requests a second, if the room is as long as the threshold says.
fn long_history(round: &Round) -> Option<f64> {
    requests(round).filter(|_| round.figures.messages >= 1_000_000)
}

fn cpu_ratio(round: &Round) -> Option<f64> {
    ratio(round, Figures::cpu_s_per_million)
}

fn memory_of_a_stream(round: &Round) -> Option<f64> {
    round.figures.kib_per_stream()
}

fn p50(round: &Round) -> Option<f64> {
    Some(round.figures.post_to_event_ms()?.p50)
}

fn p99(round: &Round) -> Option<f64> {
    Some(round.figures.post_to_event_ms()?.p99)
}

fn caught_up(round: &Round) -> f64 {
    round.figures.caught_up_s.unwrap_or(f64::INFINITY)
}

fn reads(round: &Round) -> Option<f64> {
    Some(round.figures.reads.as_ref()?.most_per_room_and_s)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
fn violations(round: &Round) -> f64 {
    round.figures.violations() as f64
}

/// Processor time of the first server, in seconds for each second of the first window.
fn gateway_cores(round: &Round) -> Option<f64> {
    let window = round.figures.windows.first()?;
    Some(window.processes.first()?.cpu_s / window.seconds)
}

fn statements(round: &Round) -> Option<f64> {
    round.figures.windows.first()?.statements_per_s
}

fn ready_p99(round: &Round) -> Option<f64> {
    Some(round.figures.sync.as_ref()?.ready.ms.p99)
}

fn ready_statements(round: &Round) -> Option<f64> {
    round.figures.sync.as_ref()?.ready.statements
}

fn changed_p99(round: &Round) -> Option<f64> {
    Some(round.figures.sync.as_ref()?.changed.ms.p99)
}

fn p99_with_stalled(round: &Round) -> Option<f64> {
    let [before, with, ..] = round.figures.windows.as_slice() else {
        return None;
    };
    Some(with.p99_ms()? / before.p99_ms()?)
}

fn p99_with_typing(round: &Round) -> Option<f64> {
    round.figures.typing.as_ref()?.p99_ratio()
}

/// Growth of the gateway's memory for each stalled stream, from the end of the window before to the end of the window
/// with the stalled streams, under the same load; negative if the gateway gave memory back. The messages that rooms
/// retain in between are included.
#[expect(
    clippy::cast_precision_loss,
    reason = "memory and streams of a run are far below 2^52"
)]
fn memory_of_a_stalled(round: &Round) -> Option<f64> {
    let [before, with] = round.figures.windows.as_slice() else {
        return None;
    };
    let resident = |window: &Window| Some(window.processes.first()?.resident_kib as f64);
    let stalled = round.figures.stalled.as_ref()?.streams;
    (stalled > 0).then_some((resident(with)? - resident(before)?) / stalled as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StalledStreams;
    use crate::bench::report::tests::outcome;
    use crate::bench::{LOADS, Outcome};

    fn result(outcome: Outcome, what: &str) -> ThresholdResult {
        let mut report = Report::default();
        report.replace_load(outcome);
        evaluate(&report).into_iter().find(|result| result.what.contains(what)).unwrap()
    }

    #[test]
    fn every_threshold_names_a_load_with_a_peer_if_needed() {
        for threshold in &THRESHOLDS {
            let load = LOADS.iter().find(|load| load.name == threshold.load).unwrap();
            let has_peer = load.has_peer || load.arguments.contains(&"--peer");
            let compares_windows = matches!(threshold.load, "stalled" | "typing");
            assert!(threshold.unit != "×" || has_peer || compares_windows, "{}", threshold.what);
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_all_rounds() {
        let ratio = |rounds: &[(f64, Option<f64>)]| {
            let result = result(outcome("hot-1000", 1_000, rounds), "one hot room");
            (result.measured, result.is_reached)
        };
        assert_eq!(ratio(&[(20.0, Some(2.0)), (90.0, Some(10.0)), (10.0, Some(10.0))]), (Some(9.0), Some(true)));
        assert_eq!(ratio(&[(15.0, Some(2.0))]), (Some(7.5), Some(false)));
        assert_eq!(ratio(&[(15.0, Some(0.0))]), (None, None));
        assert_eq!(ratio(&[(15.0, None)]), (None, None));
    }

    #[test]
    fn loads_that_were_not_run_neither_reach_nor_miss() {
        let results = evaluate(&Report::default());
        assert!(results.iter().all(|result| result.measured.is_none() && result.is_reached.is_none()));
    }

    #[test]
    fn streams_that_never_catch_up_miss_every_bound() {
        let mut resume = outcome("resume", 10, &[(1.0, None)]);
        resume.rounds[0].figures.caught_up_s = None;
        resume.rounds[0].figures.behind = 2;
        assert_eq!(result(resume.clone(), "all streams resumed").is_reached, Some(false));
        assert!(result(resume.clone(), "all streams resumed").is_wrong);
        assert_eq!(result(resume, "gaps").measured, Some(2.0));
    }

    #[test]
    fn stalled_streams_are_compared_with_the_window_before() {
        let mut stalled = outcome("stalled", 1_000, &[(1.0, None)]);
        let figures = &mut stalled.rounds[0].figures;
        figures.windows.push(figures.windows[0].clone());
        figures.windows[1].stalled_percent = 10;
        figures.windows[1].post_to_event_ms.as_mut().unwrap().p99 = 3.6;
        (figures.windows[0].processes[0].resident_kib, figures.windows[1].processes[0].resident_kib) = (3_000, 1_000);
        figures.stalled = Some(StalledStreams {
            streams: 100,
            full: 100,
            held_kib: 6_400,
        });
        let p99 = result(stalled.clone(), "others' p99");
        assert_eq!((p99.measured.map(|ratio| (ratio * 10.0).round()), p99.is_reached), (Some(12.0), Some(false)));
        assert_eq!(result(stalled, "stalled stream").measured, Some(-20.0));
    }
}
