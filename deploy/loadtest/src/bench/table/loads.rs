//! The table of all loads, a row for each server.

use crate::bench::markdown::{NOTHING, header_row, number, row, shown, shown_together};
use crate::bench::report::{Outcome, Report, Round};
use crate::results::figures::Figures;
use crate::results::table::grouped;

/// A row for each load and server.
pub(super) fn loads(report: &Report) -> String {
    if report.loads.is_empty() {
        return String::new();
    }
    let mut rows = header_row(&[
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
        let cores = outcome.provenance.machine.as_ref().unwrap_or(&report.machine).cores;
        for cells in servers.into_iter().filter_map(|server| load(outcome, server, cores)) {
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
