//! The report of `bench`: everything that was measured, as it is kept in `figures.json`.

use std::fs;
use std::path::Path;

use rig::{Explain as _, Result};
use serde::{Deserialize, Serialize};

use super::criterion::{BENCHES, Timing};
use super::loads::LOADS;
use super::machine::Machine;
use super::provenance::Provenance;
use crate::results::figures::Figures;

/// The results of one run, or of several runs that each measured some parts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The machine of the latest measurement.
    pub machine: Machine,
    /// The outcomes of `loadtest`.
    pub loads: Vec<Outcome>,
    /// The times of criterion.
    pub timings: Vec<Timing>,
}

/// The outcome of a load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Name of the load.
    pub name: String,
    /// Preset of the load.
    pub preset: String,
    /// When and where the load was measured.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// The arguments of `loadtest`.
    pub arguments: Vec<String>,
    /// The figures of each round.
    pub rounds: Vec<Round>,
    /// Why the load failed, if it did.
    pub failure: Option<String>,
}

/// The figures of one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Figures of Roomcast.
    pub figures: Figures,
    /// Figures of the other server.
    pub peer: Option<Figures>,
}

impl Report {
    /// Reads the report in `file`.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).explain(|| format!("cannot read {}", file.display()))?;
        let report: Self =
            serde_json::from_str(&text).explain(|| format!("{} is not a report of figures", file.display()))?;
        Ok(report.with_machines_of_loads())
    }

    /// Completes a report of an older version, which names only the machine of its latest measurement: the loads of its
    /// latest day were measured on that machine. Of the other parts, the machine stays unknown.
    fn with_machines_of_loads(mut self) -> Self {
        let latest = self.loads.iter().map(|outcome| outcome.provenance.day()).max().unwrap_or_default().to_owned();
        for outcome in self.loads.iter_mut().filter(|outcome| outcome.provenance.day() == latest) {
            outcome.provenance.machine.get_or_insert_with(|| self.machine.clone());
        }
        self
    }

    /// Replaces the outcome of a load; all stay in the order of [`LOADS`].
    pub fn replace_load(&mut self, outcome: Outcome) {
        self.loads.retain(|former| former.name != outcome.name);
        self.loads.push(outcome);
        self.loads.sort_by_key(|outcome| LOADS.iter().position(|load| load.name == outcome.name));
    }

    /// Replaces the times of a bench; all stay in the order of [`BENCHES`].
    pub fn replace_timings(&mut self, bench: &str, timings: Vec<Timing>) {
        self.timings.retain(|former| former.bench != bench);
        self.timings.extend(timings);
        self.timings.sort_by_key(|timing| BENCHES.iter().position(|bench| *bench == timing.bench));
    }

    /// The load called `name`, if it was run.
    #[must_use]
    pub fn load(&self, name: &str) -> Option<&Outcome> {
        self.loads.iter().find(|outcome| outcome.name == name)
    }
}

impl Outcome {
    /// The median of `figure` over all rounds, or the mean of the two in the middle; `None` if a round lacks the
    /// figure, or there is no round.
    pub(super) fn median(&self, figure: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        let mut found: Vec<f64> = self.rounds.iter().map(figure).collect::<Option<_>>()?;
        found.sort_by(f64::total_cmp);
        let (low, high) = (found.len().checked_sub(1)? / 2, found.len() / 2);
        Some(f64::midpoint(found[low], found[high]))
    }

    /// True if the load did not fail, and was the planned one in all rounds and on both servers.
    pub(super) fn is_valid(&self) -> bool {
        let is_valid = |round: &Round| round.figures.is_valid() && round.peer.as_ref().is_none_or(Figures::is_valid);
        self.failure.is_none() && self.rounds.iter().all(is_valid)
    }

    /// True if the load did not fail and no order was violated.
    #[must_use]
    pub fn is_correct(&self) -> bool {
        self.failure.is_none() && self.rounds.iter().all(|round| round.figures.is_correct())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::output::save;
    use crate::results::figures::tests::example;

    /// A day and a machine.
    pub(crate) fn provenance() -> Provenance {
        Provenance {
            measured_on: "2026-11-26T10:00:00Z".to_owned(),
            machine: Some(Machine {
                cores: 2,
                processor: "AMD EPYC".to_owned(),
                file_system: "ext4".to_owned(),
                kernel: "6.8.0".to_owned(),
            }),
        }
    }

    /// The outcome of a load whose rounds had so many deliveries a second, on Roomcast and on the other server.
    pub(crate) fn outcome(name: &str, streams: usize, rounds: &[(f64, Option<f64>)]) -> Outcome {
        let figures = |server: &str, per_s: f64| {
            let mut figures = example();
            (figures.server, figures.streams) = (server.to_owned(), streams);
            figures.windows[0].deliveries_per_s = per_s;
            figures
        };
        let round = |(ours, theirs): &(f64, Option<f64>)| Round {
            figures: figures("roomcast", *ours),
            peer: theirs.map(|theirs| figures("nchan", theirs)),
        };
        Outcome {
            name: name.to_owned(),
            preset: name.split('-').next().unwrap().to_owned(),
            provenance: provenance(),
            arguments: vec!["hot".to_owned()],
            rounds: rounds.iter().map(round).collect(),
            failure: None,
        }
    }

    #[test]
    fn a_saved_report_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("figures.json");
        let mut report = Report::default();
        report.replace_load(outcome("hot-10", 10, &[(5.0, Some(1.0))]));
        save(&report, &file).unwrap();
        assert_eq!(Report::read(&file).unwrap(), report);
    }

    #[test]
    fn a_report_without_machines_of_parts_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("figures.json");
        let mut report = Report {
            machine: provenance().machine.unwrap(),
            ..Report::default()
        };
        report.replace_load(outcome("hot-10", 10, &[(5.0, None)]));
        let mut older = outcome("idle", 10, &[(5.0, None)]);
        older.provenance.measured_on = "2026-11-25T10:00:00Z".to_owned();
        report.replace_load(older);
        let mut saved = serde_json::to_value(&report).unwrap();
        for load in saved["loads"].as_array_mut().unwrap() {
            load.as_object_mut().unwrap().remove("machine");
        }
        saved["timings"] = json!([{
            "bench": "stream", "group": "encode a frame", "case": "", "nanos": 1.5, "nanos_between": [1.0, 2.0], "elements": 3
        }]);
        fs::write(&file, saved.to_string()).unwrap();
        let read = Report::read(&file).unwrap();
        assert_eq!(read.load("hot-10").unwrap().provenance, provenance());
        let idle = &read.load("idle").unwrap().provenance;
        assert_eq!((idle.day(), &idle.machine), ("2026-11-25", &None));
        assert_eq!((read.timings[0].nanos, &read.timings[0].provenance), (1.5, &Provenance::default()));
    }

    #[test]
    fn a_load_that_is_run_again_is_replaced() {
        let mut report = Report::default();
        for per_s in [1.0, 2.0] {
            report.replace_load(outcome("idle", 10, &[(per_s, None)]));
            report.replace_load(outcome("hot-10", 10, &[(per_s, None)]));
        }
        let names: Vec<&str> = report.loads.iter().map(|outcome| outcome.name.as_str()).collect();
        assert_eq!(names, ["hot-10", "idle"]);
        assert_eq!(report.load("hot-10"), Some(&outcome("hot-10", 10, &[(2.0, None)])));
    }

    #[test]
    fn the_median_of_all_rounds_counts() {
        let per_s = |round: &Round| Some(round.figures.windows[0].deliveries_per_s);
        let of = |rounds: &[(f64, Option<f64>)]| outcome("hot", 10, rounds).median(per_s);
        assert_eq!(of(&[(9.0, None), (1.0, None), (5.0, None)]), Some(5.0));
        assert_eq!(of(&[(9.0, None), (1.0, None), (5.0, None), (6.0, None)]), Some(5.5));
        assert_eq!(of(&[]), None);
        let theirs = |round: &Round| Some(round.peer.as_ref()?.windows[0].deliveries_per_s);
        assert_eq!(outcome("hot", 10, &[(1.0, Some(1.0)), (1.0, None)]).median(theirs), None);
    }
}
