//! The beginning of the tables: when, for how long and on which machine the parts were measured. Where that differs
//! between parts, each day and machine has a line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::bench::machine::Machine;
use crate::bench::provenance::Provenance;
use crate::bench::report::{Outcome, Report};

/// The day and the machine of a measurement; the day is empty if it is not known.
type DayAndMachine<'a> = (&'a str, Option<&'a Machine>);

/// The parts that were measured on the same day and machine.
#[derive(Default)]
struct Parts<'a> {
    loads: Vec<&'a Outcome>,
    benches: BTreeSet<&'a str>,
}

/// One sentence if all parts were measured on the same day and machine, else a list.
pub(super) fn provenance_lines(report: &Report) -> String {
    let groups = groups(report);
    let Some(((day, machine), parts)) = groups.first_key_value().filter(|_| groups.len() == 1) else {
        let mut text = "Parts were measured on different days or machines:\n\n".to_owned();
        for ((day, machine), parts) in groups.iter().rev() {
            let _ = writeln!(text, "- {}: measured {}", parts.names(report), parts.describe(day, *machine));
        }
        return if groups.is_empty() { String::new() } else { text };
    };
    format!("Measured {}.\n", parts.describe(day, *machine))
}

fn groups(report: &Report) -> BTreeMap<DayAndMachine<'_>, Parts<'_>> {
    fn key(provenance: &Provenance) -> DayAndMachine<'_> {
        (provenance.day(), provenance.machine.as_ref())
    }
    let mut groups: BTreeMap<DayAndMachine<'_>, Parts<'_>> = BTreeMap::new();
    for outcome in &report.loads {
        groups.entry(key(&outcome.provenance)).or_default().loads.push(outcome);
    }
    for timing in &report.timings {
        groups.entry(key(&timing.provenance)).or_default().benches.insert(&timing.bench);
    }
    groups
}

impl Parts<'_> {
    /// The names of the parts; `all` has the parts of the report.
    fn names(&self, all: &Report) -> String {
        let all_benches: BTreeSet<&str> = all.timings.iter().map(|timing| timing.bench.as_str()).collect();
        let loads = self.loads.iter().map(|outcome| outcome.name.as_str()).collect();
        let benches = self.benches.iter().copied().collect();
        let names: Vec<&str> = [
            named(loads, all.loads.len(), "all loads"),
            named(benches, all_benches.len(), "all benches"),
        ]
        .concat();
        names.join(", ")
    }

    /// When, for how long and on which machine.
    fn describe(&self, day: &str, machine: Option<&Machine>) -> String {
        let day = if day.is_empty() {
            "on a day that was not recorded".to_owned()
        } else {
            format!("on {day}")
        };
        let machine = match machine {
            Some(machine) => format!("with {machine}"),
            None => "on a machine that was not recorded".to_owned(),
        };
        match self.window_seconds() {
            Some(seconds) => format!("{day}, each load for {seconds} s, {machine}"),
            None => format!("{day}, {machine}"),
        }
    }

    /// Seconds of the windows of all loads; `None` without loads.
    fn window_seconds(&self) -> Option<String> {
        let windows = self.loads.iter().flat_map(|outcome| &outcome.rounds).flat_map(|round| &round.figures.windows);
        let seconds = windows.map(|window| format!("{:.0}", window.seconds).parse().unwrap_or(0_u64));
        let seconds: BTreeSet<u64> = seconds.collect();
        match (seconds.first()?, seconds.last()?) {
            (least, most) if least < most => Some(format!("{least} to {most}")),
            (_, most) => Some(most.to_string()),
        }
    }
}

/// `names`, or `all_of_them` if they are several and all that there are.
fn named<'a>(names: Vec<&'a str>, total: usize, all_of_them: &'a str) -> Vec<&'a str> {
    if names.len() > 1 && names.len() == total {
        vec![all_of_them]
    } else {
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::criterion::Timing;
    use crate::bench::report::tests::{outcome, provenance};

    fn timing(bench: &str, provenance: Provenance) -> Timing {
        Timing {
            bench: bench.to_owned(),
            group: "encode".to_owned(),
            case: String::new(),
            nanos: 1.0,
            nanos_between: (1.0, 1.0),
            elements: None,
            provenance,
        }
    }

    #[test]
    fn parts_of_one_day_and_machine_share_a_sentence() {
        let mut report = Report {
            timings: vec![timing("stream", provenance())],
            ..Report::default()
        };
        report.replace_load(outcome("hot-10", 10, &[(1.0, None)]));
        let expected = "Measured on 2026-11-26, each load for 2 s, with 2 cores (AMD EPYC, Linux 6.8.0) that servers and tools shared, files on ext4.\n";
        assert_eq!(provenance_lines(&report), expected);
        assert_eq!(provenance_lines(&Report::default()), "");
    }

    #[test]
    fn each_day_and_machine_has_a_line_where_they_differ() {
        let elsewhere = Provenance {
            measured_on: "2026-11-30T10:00:00Z".to_owned(),
            machine: Some(Machine {
                cores: 4,
                ..Machine::default()
            }),
        };
        let mut report = Report {
            timings: vec![timing("stream", elsewhere), timing("entries", Provenance::default())],
            ..Report::default()
        };
        report.replace_load(outcome("hot-10", 10, &[(1.0, None)]));
        report.replace_load(outcome("idle", 10, &[(1.0, None)]));
        let lines: Vec<String> = provenance_lines(&report).lines().skip(2).map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "- stream: measured on 2026-11-30, with 4 cores (unknown processor, unknown kernel) that servers and tools shared, files on an unknown file system",
                "- all loads: measured on 2026-11-26, each load for 2 s, with 2 cores (AMD EPYC, Linux 6.8.0) that servers and tools shared, files on ext4",
                "- entries: measured on a day that was not recorded, on a machine that was not recorded",
            ]
        );
    }
}
