//! The tables of a report, in Markdown.

mod by_streams;
mod loads;
mod provenance;
mod timings;

use std::fmt::Write as _;

use self::by_streams::by_streams;
use self::loads::loads;
use self::provenance::provenance_lines;
use self::timings::{by_batch, parts};
use super::markdown::{NOTHING, header_row, number, row};
use super::report::{Report, Round};
use super::thresholds::{Bound, ThresholdResult, evaluate};

/// All tables.
#[must_use]
pub fn tables(report: &Report) -> String {
    let mut text = provenance_lines(report);
    let mut section = |title: &str, rows: String| {
        if !rows.is_empty() {
            let _ = write!(text, "\n## {title}\n\n{rows}");
        }
    };
    section("Thresholds", thresholds(&evaluate(report)));
    section("By the number of streams", by_streams(report));
    section("All loads", loads(report));
    section("Stored, by the size of the transaction", by_batch(report));
    section("Parts", parts(report));
    section("Failed, or memory not steady", failures(report));
    text
}

fn thresholds(results: &[ThresholdResult]) -> String {
    let mut rows = header_row(&["what", "load", "measured", "threshold", "reached"]);
    for result in results {
        let with_unit = |figure: &str| format!("{figure} {}", result.unit).trim_end().to_owned();
        let threshold = match result.bound {
            Bound::AtLeast(bound) => with_unit(&format!("≥ {}", number(bound))),
            Bound::AtMost(bound) => with_unit(&format!("≤ {}", number(bound))),
        };
        let measured = result.measured.map_or_else(|| NOTHING.to_owned(), |figure| with_unit(&number(figure)));
        let reached = match result.is_reached {
            Some(true) => "yes",
            Some(false) if result.is_wrong => "**no: the load went wrong**",
            Some(false) => "**no**",
            None => "not measured",
        };
        row(&mut rows, &[result.what, result.load, &measured, &threshold, reached]);
    }
    rows
}

fn failures(report: &Report) -> String {
    let failed = report.loads.iter().filter_map(|outcome| Some((&outcome.name, outcome.failure.as_deref()?)));
    let is_memory_unsteady = |round: &Round| {
        round.figures.is_memory_unsteady || round.peer.as_ref().is_some_and(|peer| peer.is_memory_unsteady)
    };
    let unsteady = report.loads.iter().filter(|outcome| outcome.rounds.iter().any(is_memory_unsteady));
    let unsteady = unsteady.map(|outcome| {
        (
            &outcome.name,
            "the servers' memory did not become steady, so that the memory of a stream is not known",
        )
    });
    failed.chain(unsteady).fold(String::new(), |mut rows, (name, failure)| {
        let _ = writeln!(rows, "- {name}: {failure}");
        rows
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::criterion::Timing;
    use crate::bench::report::Outcome;
    use crate::bench::report::tests::{outcome, provenance};

    fn timing(group: &str, case: &str, nanos: f64, elements: Option<u64>) -> Timing {
        Timing {
            bench: "commit".to_owned(),
            group: group.to_owned(),
            case: case.to_owned(),
            nanos,
            nanos_between: (nanos - 1.0, nanos + 1.0),
            elements,
            provenance: provenance(),
        }
    }

    #[test]
    fn tables_show_what_was_measured_and_the_thresholds() {
        let mut report = Report {
            timings: vec![
                timing("commit to SQLite", "10", 1e6, Some(10)),
                timing("encode a frame", "", 250.0, None),
            ],
            ..Report::default()
        };
        report.replace_load(outcome("hot-1000", 1_000, &[(2_000_000.0, Some(400_000.0))]));
        report.replace_load(Outcome {
            failure: Some("no Redis".to_owned()),
            ..outcome("idle", 10, &[])
        });
        let text = tables(&report);
        for line in [
            "Measured on 2026-11-26, each load for 2 s, with 2 cores (AMD EPYC, Linux 6.8.0) that servers and tools shared, files on ext4.",
            "| one hot room, deliveries/s against nchan | hot-1000 | 5 × | ≥ 8 × | **no** |",
            "| all streams resumed | resume | – | ≤ 3 s | not measured |",
            "| 1,000 | 2,000,000 | 1 / 3 / 0.25 | 400,000 | 1 / 3 / 0.25 | 5 | – | – |",
            "| hot-1000 | nchan | 1,000 | 1 | 400,000 | 500 | 1 / 3 / 4 | 0.50 | 2 | – / 0 % | 0 | 2 |",
            "| 10 | 10,000 | – |",
            "| commit | encode a frame | 250.0 ns | 249.0 ns – 251.0 ns | – |",
            "- idle: no Redis",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn parts_that_were_not_measured_have_no_table() {
        let text = tables(&Report::default());
        let titles: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(titles, ["## Thresholds"]);
    }
}
