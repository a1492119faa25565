//! The table of deliveries and times by the number of streams, which the charts show too.

use std::collections::BTreeMap;

use crate::bench::markdown::{header_row, number, row, shown, shown_together};
use crate::bench::report::{Outcome, Report};
use crate::bench::thresholds::deliveries_ratio;
use crate::results::figures::Figures;
use crate::results::table::grouped;

/// A row for each number of streams of the presets `hot` and `steady`.
pub(super) fn by_streams(report: &Report) -> String {
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
    let mut rows = header_row(&[
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

fn ours(outcome: Option<&Outcome>, figure: fn(&Figures) -> Option<f64>) -> Option<f64> {
    outcome?.median(|round| figure(&round.figures))
}

fn theirs(outcome: Option<&Outcome>, figure: fn(&Figures) -> Option<f64>) -> Option<f64> {
    outcome?.median(|round| figure(round.peer.as_ref()?))
}
