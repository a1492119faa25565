//! Chooses which figures of a report are drawn as charts.

use super::report::{Report, Round};
use super::svg::{Chart, Line};
use crate::results::figures::Figures;

/// Deliveries a second, and the time from post to event, by the number of streams.
pub(super) fn by_streams(report: &Report) -> Vec<Chart> {
    let p99 = |figures: &Figures| Some(figures.post_to_event_ms()?.p99);
    vec![
        Chart {
            title: "one room, as much as goes through",
            across: "streams",
            up: "deliveries/s",
            lines: both(report, "hot", Figures::deliveries_per_s),
        },
        Chart {
            title: "one room, 20,000 deliveries/s",
            across: "streams",
            up: "post to event, p99 (ms)",
            lines: both(report, "steady", p99),
        },
    ]
}

/// Messages stored in a second, by the number of messages in a transaction.
pub(super) fn by_batch(report: &Report) -> Vec<Chart> {
    let line = |name: &'static str| {
        let group = format!("commit to {name}");
        let timings = report.timings.iter().filter(|timing| timing.group == group);
        Line {
            name,
            points: timings.filter_map(|timing| Some((timing.case.parse().ok()?, timing.elements_per_s()?))).collect(),
        }
    };
    vec![Chart {
        title: "one writer, every commit synced",
        across: "messages of a transaction",
        up: "messages stored/s",
        lines: ["SQLite", "Postgres"].map(line).into(),
    }]
}

/// A line for each server.
fn both(report: &Report, preset: &str, figure: impl Fn(&Figures) -> Option<f64>) -> Vec<Line> {
    vec![
        line("Roomcast", report, preset, |round| figure(&round.figures)),
        line("Nchan", report, preset, |round| figure(round.peer.as_ref()?)),
    ]
}

/// A figure of all loads of one preset, by their number of streams.
#[expect(clippy::cast_precision_loss, reason = "numbers of streams are far below 2^52")]
fn line(name: &'static str, report: &Report, preset: &str, figure: impl Fn(&Round) -> Option<f64>) -> Line {
    let loads = report.loads.iter().filter(|outcome| outcome.preset == preset);
    let mut points: Vec<(f64, f64)> = loads
        .filter_map(|outcome| Some((outcome.rounds.first()?.figures.streams as f64, outcome.median(&figure)?)))
        .collect();
    points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    Line { name, points }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::outcome;
    use crate::bench::{Outcome, Provenance, Timing};

    fn points(lines: &[Line]) -> Vec<(&str, &[(f64, f64)])> {
        lines.iter().map(|line| (line.name, line.points.as_slice())).collect()
    }

    #[test]
    fn loads_of_a_preset_are_a_line_by_streams() {
        let mut report = Report::default();
        report.replace_load(outcome("hot-1000", 1_000, &[(5.0, Some(2.0))]));
        report.replace_load(outcome("hot-10", 10, &[(3.0, None)]));
        report.replace_load(outcome("steady-10", 10, &[(9.0, None)]));
        let failed = Outcome {
            failure: Some("no Redis".to_owned()),
            ..outcome("hot-100", 100, &[])
        };
        report.replace_load(failed);
        let charts = by_streams(&report);
        let expected: [(&str, &[(f64, f64)]); 2] = [
            ("Roomcast", &[(10.0, 3.0), (1_000.0, 5.0)]),
            ("Nchan", &[(1_000.0, 2.0)]),
        ];
        assert_eq!(points(&charts[0].lines), expected);
        assert_eq!(points(&charts[1].lines)[0], ("Roomcast", &[(10.0, 3.0)][..]));
    }

    #[test]
    fn batches_are_a_line_for_each_database() {
        let timing = |group: &str, case: &str| Timing {
            bench: "commit".to_owned(),
            group: group.to_owned(),
            case: case.to_owned(),
            nanos: 1e6,
            nanos_between: (1e6, 1e6),
            elements: case.parse().ok(),
            provenance: Provenance::default(),
        };
        let report = Report {
            timings: vec![
                timing("commit to SQLite", "1"),
                timing("commit to SQLite", "10"),
                timing("commit to Postgres", "1"),
                timing("encode a frame", ""),
            ],
            ..Report::default()
        };
        let expected: [(&str, &[(f64, f64)]); 2] = [
            ("SQLite", &[(1.0, 1_000.0), (10.0, 10_000.0)]),
            ("Postgres", &[(1.0, 1_000.0)]),
        ];
        assert_eq!(points(&by_batch(&report)[0].lines), expected);
    }
}
