//! What is demanded, and of which figure.

use serde::Serialize;

use super::report::{Report, Round};
use crate::{Figures, Window};

/// One figure and its bound.
pub struct Demand {
    /// What is measured.
    pub what: &'static str,
    /// The load it is taken from.
    pub load: &'static str,
    /// What it must be.
    pub bound: Bound,
    /// What it is counted in.
    pub unit: &'static str,
    figure: fn(&Round) -> Option<f64>,
}

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// So much or more.
    AtLeast(f64),
    /// So much or less.
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

/// All of them: targets for two cores that tool and servers share. "×" is a ratio to nchan under the same load, one after
/// the other on the same machine, or of a load to itself under other circumstances.
pub const DEMANDS: [Demand; 19] = [
    demand("one hot room, deliveries/s against nchan", "hot-1000", AtLeast(8.0), "×", deliveries_ratio),
    demand("the same with 10,000 streams", "hot-10000", AtLeast(15.0), "×", deliveries_ratio),
    demand("CPU of a delivery, against nchan", "steady-1000", AtMost(0.7), "×", cpu_ratio),
    demand("the same in 1,000 rooms of 10", "rooms", AtMost(0.8), "×", cpu_ratio),
    demand("gateway memory of an idle stream", "idle", AtMost(2.0), "KiB", memory_of_a_stream),
    demand("posts acknowledged by one gateway", "accept", AtLeast(20_000.0), "/s", requests),
    demand(
        "… with a time-ordered key each, against posts without",
        "accept",
        AtLeast(0.85),
        "×",
        requests_ratio,
    ),
    demand("messages accepted, stored and delivered", "sustained", AtLeast(15_000.0), "/s", deliveries),
    demand("… share of them delivered within the window", "sustained", AtLeast(0.99), "", delivered),
    demand("… and until the last is delivered", "sustained", AtMost(1.0), "s", |round| Some(caught_up(round))),
    demand("from post to event, p50", "latency", AtMost(5.0), "ms", p50),
    demand("from post to event, p99", "latency", AtMost(30.0), "ms", p99),
    demand("all streams resumed", "resume", AtMost(3.0), "s", |round| Some(caught_up(round))),
    demand("… with gaps, doubles or wrong order", "resume", AtMost(0.0), "", |round| Some(wrongs(round))),
    demand("… reads of history a room and second", "resume", AtMost(1.0), "", reads),
    demand("others' p99 while 10 % stall", "stalled", AtMost(1.1), "×", p99_with_stalled),
    demand("gateway memory for a stalled stream", "stalled", AtMost(64.0), "KiB", memory_of_a_stalled),
    demand("history of 100 from 1,000,000, cold room", "history-cold", AtLeast(5_000.0), "/s", long_history),
    demand("history of 100 from 1,000,000, hot room", "history-hot", AtLeast(20_000.0), "/s", long_history),
];

const fn demand(
    what: &'static str,
    load: &'static str,
    bound: Bound,
    unit: &'static str,
    figure: fn(&Round) -> Option<f64>,
) -> Demand {
    Demand {
        what,
        load,
        bound,
        unit,
        figure,
    }
}

/// A demand and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// What is measured.
    pub what: &'static str,
    /// The load it is taken from.
    pub load: &'static str,
    /// What it must be.
    pub demanded: Bound,
    /// What it is counted in.
    pub unit: &'static str,
    /// What it is; `None` if it was not measured. Infinite (`null` in JSON) where it never came.
    pub measured: Option<f64>,
    /// Whether that is enough; `None` if it was not measured.
    pub is_reached: Option<bool>,
    /// The load was not what it was meant to be, so that nothing is reached by it.
    pub is_wrong: bool,
}

/// Compares what was measured with what is demanded.
#[must_use]
pub fn judge(report: &Report) -> Vec<Judged> {
    let judged = |demand: &Demand| {
        let outcome = report.load(demand.load);
        let measured = outcome.and_then(|outcome| outcome.median(demand.figure));
        let is_wrong = measured.is_some() && outcome.is_some_and(|outcome| !outcome.is_sound());
        Judged {
            what: demand.what,
            load: demand.load,
            demanded: demand.bound,
            unit: demand.unit,
            measured,
            is_reached: measured.map(|figure| demand.bound.is_kept_by(figure) && !is_wrong),
            is_wrong,
        }
    };
    DEMANDS.iter().map(judged).collect()
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

/// Of each request its one delivery: of a server that falls behind, ever fewer.
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

/// Of a room that is as long as it is demanded for.
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
fn wrongs(round: &Round) -> f64 {
    round.figures.wrongs() as f64
}

fn p99_with_stalled(round: &Round) -> Option<f64> {
    let [before, with, ..] = round.figures.windows.as_slice() else {
        return None;
    };
    Some(with.p99_ms()? / before.p99_ms()?)
}

/// What the gateway grew by from the end of the window before some streams stalled to the end of the one with them, under
/// the same load, shared out among them; less than 0 where it gave memory back. What rooms keep of the messages in between
/// is in it.
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
    use crate::Stalled;
    use crate::bench::report::tests::outcome;
    use crate::bench::{LOADS, Outcome};

    fn judged(outcome: Outcome, what: &str) -> Judged {
        let mut report = Report::default();
        report.take(outcome);
        judge(&report).into_iter().find(|judged| judged.what.contains(what)).unwrap()
    }

    #[test]
    fn every_demand_is_of_a_load_that_is_run() {
        for demand in &DEMANDS {
            let load = LOADS.iter().find(|load| load.name == demand.load).unwrap();
            let has_peer = load.has_peer || load.arguments.contains(&"--peer");
            assert!(demand.unit != "×" || has_peer || demand.load == "stalled", "{}", demand.what);
        }
    }

    #[test]
    fn a_ratio_is_the_middle_one_of_all_rounds() {
        let judge = |rounds: &[(f64, Option<f64>)]| {
            let judged = judged(outcome("hot-1000", 1_000, rounds), "one hot room");
            (judged.measured, judged.is_reached)
        };
        assert_eq!(judge(&[(20.0, Some(2.0)), (90.0, Some(10.0)), (10.0, Some(10.0))]), (Some(9.0), Some(true)));
        assert_eq!(judge(&[(15.0, Some(2.0))]), (Some(7.5), Some(false)));
        assert_eq!(judge(&[(15.0, Some(0.0))]), (None, None));
        assert_eq!(judge(&[(15.0, None)]), (None, None));
    }

    #[test]
    fn what_was_not_run_is_neither_reached_nor_missed() {
        let judged = judge(&Report::default());
        assert!(judged.iter().all(|judged| judged.measured.is_none() && judged.is_reached.is_none()));
    }

    #[test]
    fn who_never_catches_up_misses_every_bound() {
        let mut resume = outcome("resume", 10, &[(1.0, None)]);
        resume.rounds[0].figures.caught_up_s = None;
        resume.rounds[0].figures.behind = 2;
        assert_eq!(judged(resume.clone(), "all streams resumed").is_reached, Some(false));
        assert!(judged(resume.clone(), "all streams resumed").is_wrong);
        assert_eq!(judged(resume, "gaps").measured, Some(2.0));
    }

    #[test]
    fn stalled_streams_are_compared_with_the_time_before() {
        let mut stalled = outcome("stalled", 1_000, &[(1.0, None)]);
        let figures = &mut stalled.rounds[0].figures;
        figures.windows.push(figures.windows[0].clone());
        figures.windows[1].stalled_percent = 10;
        figures.windows[1].post_to_event_ms.as_mut().unwrap().p99 = 3.6;
        (figures.windows[0].processes[0].resident_kib, figures.windows[1].processes[0].resident_kib) = (3_000, 1_000);
        figures.stalled = Some(Stalled {
            streams: 100,
            full: 100,
            held_kib: 6_400,
        });
        let p99 = judged(stalled.clone(), "others' p99");
        assert_eq!((p99.measured.map(|ratio| (ratio * 10.0).round()), p99.is_reached), (Some(12.0), Some(false)));
        assert_eq!(judged(stalled, "stalled stream").measured, Some(-20.0));
    }
}
