//! The tables of a report, in Markdown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::criterion::Timing;
use super::demands::{Bound, DemandResult, deliveries_ratio, evaluate};
use super::markdown::{NOTHING, duration, head, number, row, shown, shown_together};
use super::report::{Outcome, Report, Round};
use crate::Figures;
use crate::results::table::grouped;

/// All tables.
pub(super) fn tables(report: &Report) -> String {
    let mut text = format!("{}\n", origin(report));
    let mut section = |title: &str, rows: String| {
        if !rows.is_empty() {
            let _ = write!(text, "\n## {title}\n\n{rows}");
        }
    };
    section("Demanded", demanded(&evaluate(report)));
    section("By the number of streams", by_streams(report));
    section("All loads", loads(report));
    section("Stored, by the size of the transaction", by_batch(report));
    section("Parts", parts(report));
    section("Failed, or memory not steady", failures(report));
    text
}

/// When, for how long and on which machine the figures were measured.
fn origin(report: &Report) -> String {
    let machine = &report.machine;
    let day = |outcome: &Outcome| outcome.measured_on.get(..10).unwrap_or_default().to_owned();
    let mut days: Vec<String> = report.loads.iter().map(day).collect();
    days.sort();
    days.dedup();
    let on = days.join(", ");
    let or_unknown = |text: &str| if text.is_empty() { "unknown" } else { text }.to_owned();
    let windows = report.loads.iter().flat_map(|outcome| &outcome.rounds).flat_map(|round| &round.figures.windows);
    let seconds = windows.map(|window| format!("{:.0}", window.seconds).parse().unwrap_or(0_u64));
    let seconds: BTreeSet<u64> = seconds.collect();
    let each = match (seconds.first(), seconds.last()) {
        (Some(least), Some(most)) if least < most => format!("{least} to {most}"),
        (_, most) => most.copied().unwrap_or(0).to_string(),
    };
    format!(
        "Measured on {on}, each load for {each} s, with {} cores ({}) that servers and tools shared; files on {}.",
        machine.cores,
        or_unknown(&machine.processor),
        or_unknown(&machine.file_system)
    )
}

fn demanded(results: &[DemandResult]) -> String {
    let mut rows = head(&["what", "load", "measured", "demanded", "reached"]);
    for result in results {
        let with_unit = |figure: &str| format!("{figure} {}", result.unit).trim_end().to_owned();
        let demanded = match result.demanded {
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
        row(&mut rows, &[result.what, result.load, &measured, &demanded, reached]);
    }
    rows
}

/// What the charts by the number of streams show, and the ratio.
fn by_streams(report: &Report) -> String {
    let mut by_streams: BTreeMap<usize, [Option<&Outcome>; 2]> = BTreeMap::new();
    for (index, preset) in ["hot", "steady"].into_iter().enumerate() {
        for outcome in report.loads.iter().filter(|outcome| outcome.preset == preset) {
            let Some(round) = outcome.rounds.first() else { continue };
            by_streams.entry(round.figures.streams).or_default()[index] = Some(outcome);
        }
    }
    if by_streams.is_empty() {
        return String::new();
    }
    let mut rows = head(&[
        "streams",
        "Roomcast deliveries/s",
        "its p50 / p99 ms / caught up s",
        "Nchan deliveries/s",
        "its p50 / p99 ms / caught up s",
        "ratio",
        "Roomcast p99 ms at 20,000/s",
        "Nchan p99 ms at 20,000/s",
    ]);
    let deliveries = Figures::deliveries_per_s;
    let p99 = |figures: &Figures| Some(figures.post_to_event_ms()?.p99);
    // How far behind the posts the streams were, and for how long after the load.
    let lags: [fn(&Figures) -> Option<f64>; 3] = [
        |figures| Some(figures.post_to_event_ms()?.p50),
        p99,
        |figures| figures.caught_up_s,
    ];
    for (streams, [hot, steady]) in by_streams {
        let cells = [
            grouped(streams as u64),
            shown(ours(hot, deliveries), number),
            shown_together(lags.map(|lag| ours(hot, lag))),
            shown(theirs(hot, deliveries), number),
            shown_together(lags.map(|lag| theirs(hot, lag))),
            shown(hot.and_then(|hot| hot.median(deliveries_ratio)), number),
            shown(ours(steady, p99), number),
            shown(theirs(steady, p99), number),
        ];
        row(&mut rows, &cells);
    }
    rows
}

fn loads(report: &Report) -> String {
    if report.loads.is_empty() {
        return String::new();
    }
    let mut rows = head(&[
        "load",
        "server",
        "streams",
        "rooms",
        "deliveries/s",
        "requests/s",
        "post → event p50 / p99 / p99.9 ms",
        "server's CPU s a million deliveries",
        "server's KiB a stream",
        "tool's share of all cores / its busiest thread's of one",
        "missing, doubled, out of order, streams behind",
        "requests refused or not answered",
    ]);
    for outcome in &report.loads {
        let servers: [Server; 2] = [|round| Some(&round.figures), |round| round.peer.as_ref()];
        for cells in servers.into_iter().filter_map(|server| load(outcome, server, report.machine.cores)) {
            row(&mut rows, &cells);
        }
    }
    rows
}

/// The figures of one of the two servers.
type Server = fn(&Round) -> Option<&Figures>;

/// The row of a server; `None` if the load was not put on it.
#[expect(clippy::cast_precision_loss, reason = "a machine has few cores")]
fn load(outcome: &Outcome, server: Server, cores: usize) -> Option<[String; 12]> {
    let first = server(outcome.rounds.first()?)?;
    // Each figure is the median of all rounds by itself.
    let median = |figure: fn(&Figures) -> Option<f64>| outcome.median(|round| figure(server(round)?));
    let per_s = |figure| shown(median(figure).filter(|per_s| *per_s > 0.0), number);
    let times = [
        median(|figures| Some(figures.post_to_event_ms()?.p50)),
        median(|figures| Some(figures.post_to_event_ms()?.p99)),
        median(|figures| Some(figures.post_to_event_ms()?.p999)),
    ];
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let of_all = |used: f64| percent(used / cores.max(1) as f64);
    let sum = |count: fn(&Figures) -> u64| grouped(outcome.rounds.iter().filter_map(server).map(count).sum());
    Some([
        outcome.name.clone(),
        first.server.clone(),
        grouped(first.streams as u64),
        grouped(first.rooms as u64),
        per_s(Figures::deliveries_per_s),
        per_s(Figures::requests_per_s),
        shown_together(times),
        shown(median(Figures::cpu_s_per_million), number),
        shown(median(Figures::kib_per_stream), number),
        [
            median(Figures::tool_cores).map(of_all),
            median(Figures::tool_busy).map(percent),
        ]
        .map(|share| share.unwrap_or_else(|| NOTHING.to_owned()))
        .join(" / "),
        sum(Figures::violations),
        sum(|figures| figures.broken + figures.refused.values().sum::<u64>()),
    ])
}

fn by_batch(report: &Report) -> String {
    let stores = ["SQLite", "Postgres"];
    let mut by_size: BTreeMap<u64, [Option<f64>; 2]> = BTreeMap::new();
    for (index, store) in stores.into_iter().enumerate() {
        let group = format!("commit to {store}");
        for timing in report.timings.iter().filter(|timing| timing.group == group) {
            let Ok(size) = timing.case.parse() else { continue };
            by_size.entry(size).or_default()[index] = timing.elements_per_s();
        }
    }
    if by_size.is_empty() {
        return String::new();
    }
    let mut rows = head(&["messages of a transaction", "SQLite messages/s", "Postgres messages/s"]);
    for (size, [sqlite, postgres]) in by_size {
        row(&mut rows, &[grouped(size), shown(sqlite, number), shown(postgres, number)]);
    }
    rows
}

fn parts(report: &Report) -> String {
    let is_part = |timing: &&Timing| !timing.group.starts_with("commit to ");
    let timings: Vec<&Timing> = report.timings.iter().filter(is_part).collect();
    if timings.is_empty() {
        return String::new();
    }
    let mut rows = head(&["bench", "what", "time", "95 % between", "elements/s"]);
    for timing in timings {
        let what = [timing.group.as_str(), &timing.case].join(", ");
        let (low, high) = timing.nanos_between;
        let cells = [
            timing.bench.clone(),
            what.trim_end_matches(", ").to_owned(),
            duration(timing.nanos),
            format!("{} – {}", duration(low), duration(high)),
            shown(timing.elements_per_s(), number),
        ];
        row(&mut rows, &cells);
    }
    rows
}

fn failures(report: &Report) -> String {
    let failed = report.loads.iter().filter_map(|outcome| Some((&outcome.name, outcome.failure.as_deref()?)));
    let is_restless =
        |round: &Round| round.figures.is_restless || round.peer.as_ref().is_some_and(|peer| peer.is_restless);
    let restless = report.loads.iter().filter(|outcome| outcome.rounds.iter().any(is_restless));
    let restless = restless.map(|outcome| {
        (
            &outcome.name,
            "the servers' memory did not become steady, so that the memory of a stream is not known",
        )
    });
    failed.chain(restless).fold(String::new(), |mut rows, (name, failure)| {
        let _ = writeln!(rows, "- {name}: {failure}");
        rows
    })
}

fn ours(outcome: Option<&Outcome>, figure: fn(&Figures) -> Option<f64>) -> Option<f64> {
    outcome?.median(|round| figure(&round.figures))
}

fn theirs(outcome: Option<&Outcome>, figure: fn(&Figures) -> Option<f64>) -> Option<f64> {
    outcome?.median(|round| figure(round.peer.as_ref()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Machine;
    use crate::bench::report::tests::outcome;

    fn timing(group: &str, case: &str, nanos: f64, elements: Option<u64>) -> Timing {
        Timing {
            bench: "commit".to_owned(),
            group: group.to_owned(),
            case: case.to_owned(),
            nanos,
            nanos_between: (nanos - 1.0, nanos + 1.0),
            elements,
        }
    }

    #[test]
    fn tables_show_what_was_measured_and_demanded() {
        let mut report = Report {
            machine: Machine {
                cores: 2,
                processor: "AMD EPYC".to_owned(),
                file_system: String::new(),
            },
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
            "Measured on 2026-11-26, each load for 2 s, with 2 cores (AMD EPYC) that servers and tools shared; files on unknown.",
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
        assert_eq!(titles, ["## Demanded"]);
    }
}
