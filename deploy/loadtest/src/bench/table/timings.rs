//! The tables of what criterion measured: messages stored by the size of the transaction, and the parts.

use std::collections::BTreeMap;

use crate::bench::criterion::Timing;
use crate::bench::markdown::{duration, header_row, number, row, shown};
use crate::bench::report::Report;
use crate::results::table::grouped;

/// A row for each number of messages in a transaction.
pub(super) fn by_batch(report: &Report) -> String {
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
    let mut rows = header_row(&["messages of a transaction", "SQLite messages/s", "Postgres messages/s"]);
    for (size, [sqlite, postgres]) in by_size {
        row(&mut rows, &[grouped(size), shown(sqlite, number), shown(postgres, number)]);
    }
    rows
}

/// A row for each part that is not a commit.
pub(super) fn parts(report: &Report) -> String {
    let is_part = |timing: &&Timing| !timing.group.starts_with("commit to ");
    let timings: Vec<&Timing> = report.timings.iter().filter(is_part).collect();
    if timings.is_empty() {
        return String::new();
    }
    let mut rows = header_row(&["bench", "what", "time", "95 % between", "elements/s"]);
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
