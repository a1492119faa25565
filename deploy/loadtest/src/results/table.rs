//! Figures as a table of text.

mod rows;
mod typing;

use std::fmt::Write as _;

pub(crate) use self::rows::grouped;
use self::rows::{Rows, grouped_f64, mib, percentiles};
use crate::results::figures::Figures;
use crate::results::sync_times::SyncTimes;
use crate::results::window::Window;

impl Figures {
    /// A table of everything that was measured.
    #[must_use]
    pub fn table(&self) -> String {
        let mut rows = Rows::default();
        rows.add(&self.server, self.load());
        rows.add("opened", format!("{:.1} s", self.opened_s));
        for window in &self.windows {
            if self.typing.is_some() && window.typing.is_none() {
                rows.add("— quiet", "nobody types");
            }
            window.rows(&mut rows);
        }
        self.memory_rows(&mut rows);
        if let Some(times) = &self.catch_up_ms {
            rows.add("caught up (ms)", percentiles(times));
        }
        if let Some(stalled) = &self.stalled {
            let held = stalled.held_kib / (stalled.full as u64).max(1);
            let text = format!("{}; {} full sockets hold {held} KiB each", stalled.streams, stalled.full);
            rows.add("stalled streams", text);
        }
        if let Some(typing) = &self.typing {
            typing.rows(&mut rows);
        }
        if let Some(reads) = &self.reads {
            let each = format!("{} in all, at most {:.2} a room and second", reads.total, reads.most_per_room_and_s);
            rows.add("reads of history", each);
        }
        if let Some(sync) = &self.sync {
            sync.rows(&mut rows);
            return rows.text;
        }
        self.delivery_rows(&mut rows);
        rows.text
    }

    fn memory_rows(&self, rows: &mut Rows) {
        for memory in &self.memory {
            let per_stream = memory.kib_per_stream.map_or_else(String::new, |kib| format!(", {kib:.2} KiB a stream"));
            let [before, open, after] =
                [memory.before_kib, memory.open_kib, memory.after_kib].map(|kib| format!("{:.1}", mib(kib)));
            rows.add(
                format!("memory {}", memory.name),
                format!("{before} → {open}{per_stream}; at the end {after} MiB"),
            );
        }
        if self.is_memory_unsteady {
            rows.add("memory", "the servers' memory did not become steady: no memory of a stream");
        }
    }

    /// Whether every client got every message once and in order, and what did not succeed.
    fn delivery_rows(&self, rows: &mut Rows) {
        let caught_up = match self.caught_up_s {
            Some(seconds) => format!("after {seconds:.2} s"),
            None => format!("never: {} streams lack messages", self.behind),
        };
        rows.add("all caught up", caught_up);
        let order = [
            (self.missing, "missing"),
            (self.doubled, "doubled"),
            (self.misplaced, "out of order"),
            (self.resets, "resets"),
        ];
        rows.add("order", order.map(|(count, what)| format!("{} {what}", grouped(count))).join(", "));
        for (count, what) in [
            (self.returns, "streams ended by the server"),
            (self.broken, "requests without a complete response"),
        ] {
            if count > 0 {
                rows.add("also", format!("{} {what}", grouped(count)));
            }
        }
        for (status, count) in &self.refused {
            rows.add("refused", format!("{} times {status}", grouped(*count)));
        }
    }

    /// What was open, in words.
    fn load(&self) -> String {
        let (streams, rooms) = (grouped(self.streams as u64), grouped(self.rooms as u64));
        match (self.rooms_each, &self.sync) {
            (each, Some(_)) => format!("{streams} users in {each} of {rooms} rooms each"),
            (1, None) => format!("{streams} streams in {rooms} rooms"),
            (each, None) => format!("{streams} streams of {each} rooms each, of {rooms}"),
        }
    }
}

impl SyncTimes {
    fn rows(&self, rows: &mut Rows) {
        for (what, calls) in [
            ("cold start (ms)", &self.cold),
            ("rooms changed (ms)", &self.changed),
            ("ready (ms)", &self.ready),
        ] {
            let statements = calls.statements.map_or_else(String::new, |each| format!(", {each:.1} statements each"));
            rows.add(what, format!("{}{statements}", percentiles(&calls.ms)));
        }
    }
}

impl Window {
    fn rows(&self, rows: &mut Rows) {
        if let Some(calls) = &self.typing {
            calls.rows(rows);
        }
        if self.typing_events > 0 {
            rows.add("typing events", grouped(self.typing_events));
        }
        if self.stalled_percent > 0 {
            rows.add("— stalled", format!("{} % of the streams do not read", self.stalled_percent));
        }
        if self.deliveries > 0 {
            rows.add("deliveries/s", grouped_f64(self.deliveries_per_s));
        }
        if self.requests > 0 {
            rows.add("requests/s", grouped_f64(self.requests_per_s));
        }
        if let Some(times) = &self.post_to_event_ms {
            rows.add("post → event (ms)", percentiles(times));
        }
        if let Some(times) = &self.answer_ms {
            rows.add("response (ms)", percentiles(times));
        }
        if let Some(statements) = self.statements_per_s {
            rows.add("SQL statements/s", format!("{statements:.1}"));
        }
        for cpu in &self.processes {
            let mut text = format!("{:.2} s of {:.1} s", cpu.cpu_s, self.seconds);
            if let Some(each) = cpu.cpu_s_per_million_deliveries {
                let _ = write!(text, ", {each:.2} s a million deliveries");
            }
            if let Some(each) = cpu.cpu_us_per_request {
                let _ = write!(text, ", {each:.1} µs a request");
            }
            let _ = write!(text, "; {:.1} MiB", mib(cpu.resident_kib));
            rows.add(format!("CPU {}", cpu.name), text);
        }
        let busy = [self.reader_busy, self.caller_busy].map(|share| share * 100.0);
        rows.add("threads of this tool", format!("reading {:.0} % busy, requests {:.0} %", busy[0], busy[1]));
    }
}

/// The ratios of `ours` to `theirs`, where both have a figure; of the processes, the first one of each is compared.
#[must_use]
pub fn comparison(ours: &Figures, theirs: &Figures) -> String {
    let mut rows = Rows::default();
    let of = format!("{} / {}", ours.server, theirs.server);
    let mut add = |what: &str, ours: Option<f64>, theirs: Option<f64>| {
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && theirs > 0.0
        {
            rows.add(&of, format!("{what}: {:.2}", ours / theirs));
        }
    };
    if let (Some(ours), Some(theirs)) = (ours.windows.first(), theirs.windows.first()) {
        add("requests/s", Some(ours.requests_per_s), Some(theirs.requests_per_s));
        add("deliveries/s", Some(ours.deliveries_per_s), Some(theirs.deliveries_per_s));
        add("p99 from post to event", ours.p99_ms(), theirs.p99_ms());
    }
    add("CPU s a million deliveries", ours.cpu_s_per_million(), theirs.cpu_s_per_million());
    add("memory a stream", ours.kib_per_stream(), theirs.kib_per_stream());
    rows.text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::figures::tests::example;
    use crate::results::sync_times::CallTimes;

    #[test]
    fn a_table_shows_what_was_measured() {
        let table = example().table();
        for line in [
            "roomcast             1,000 streams in 1 rooms",
            "deliveries/s         2,000,000",
            "post → event (ms)    p50 1.00  p90 2.00  p99 3.00  p99.9 4.00  max 5.00  (3 measured)",
            "CPU gateway-1        2.00 s of 2.0 s, 0.50 s a million deliveries, 2000.0 µs a request; 2.9 MiB",
            "order                0 missing, 0 doubled, 0 out of order, 0 resets",
            "refused              2 times 503",
        ] {
            assert!(table.lines().any(|shown| shown == line), "{line:?} is not in\n{table}");
        }
    }

    #[test]
    fn a_table_of_users_shows_their_rooms_and_calls() {
        let mut figures = example();
        (figures.rooms, figures.rooms_each) = (500, 50);
        figures.windows[0].statements_per_s = Some(12.34);
        let table = figures.table();
        for line in [
            "roomcast             1,000 streams of 50 rooms each, of 500",
            "SQL statements/s     12.3",
        ] {
            assert!(table.lines().any(|shown| shown == line), "{line:?} is not in\n{table}");
        }
        let ms = figures.windows[0].post_to_event_ms.unwrap_or_default();
        let calls = |statements| CallTimes { ms, statements };
        figures.sync = Some(SyncTimes {
            cold: calls(None),
            changed: calls(Some(4.0)),
            ready: calls(None),
        });
        let table = figures.table();
        for line in [
            "roomcast             1,000 users in 50 of 500 rooms each",
            "rooms changed (ms)   p50 1.00  p90 2.00  p99 3.00  p99.9 4.00  max 5.00  (3 measured), 4.0 statements each",
        ] {
            assert!(table.lines().any(|shown| shown == line), "{line:?} is not in\n{table}");
        }
    }

    #[test]
    fn a_comparison_divides_the_figures_of_both() {
        let (ours, mut theirs) = (example(), example());
        theirs.server = "nchan".to_owned();
        theirs.windows[0].deliveries_per_s = 500_000.0;
        let text = comparison(&ours, &theirs);
        assert!(text.lines().any(|line| line == "roomcast / nchan     deliveries/s: 4.00"), "{text}");
        assert_eq!(text.lines().count(), 5, "{text}");
    }
}
