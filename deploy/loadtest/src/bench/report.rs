//! Everything that was measured, as it is kept.

use std::fs;
use std::path::Path;

use rig::{Explain as _, Result};
use serde::{Deserialize, Serialize};

use super::charts;
use super::criterion::{BENCHES, Timing};
use super::demands::{Judged, judge};
use super::loads::LOADS;
use super::machine::Machine;
use super::svg::draw;
use super::table::tables;
use crate::Figures;

/// The results of one run, or of several that each measured a part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Where the last of it was measured.
    pub machine: Machine,
    /// What `loadtest` told.
    pub loads: Vec<Outcome>,
    /// What criterion told.
    pub timings: Vec<Timing>,
}

/// What came of a load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which load.
    pub name: String,
    /// Its kind.
    pub preset: String,
    /// When it began, as RFC 3339 without fractions.
    pub measured_on: String,
    /// What `loadtest` was told.
    pub arguments: Vec<String>,
    /// What it measured, each time it was run.
    pub rounds: Vec<Round>,
    /// Why it did not come to its end, if it did not.
    pub failure: Option<String>,
}

/// One time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Of Roomcast.
    pub figures: Figures,
    /// Of the other server.
    pub peer: Option<Figures>,
}

/// The file: what was measured, and what follows from it for whoever reads no Rust.
#[derive(Serialize)]
struct Saved<'a> {
    demands: Vec<Judged>,
    #[serde(flatten)]
    report: &'a Report,
}

impl Report {
    /// Reads `file`.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).explain(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text).explain(|| format!("{} holds no figures", file.display()))
    }

    /// Writes it to `file`.
    pub fn save(&self, file: &Path) -> Result<()> {
        let saved = Saved {
            demands: judge(self),
            report: self,
        };
        let text = serde_json::to_string_pretty(&saved)?;
        fs::write(file, text + "\n").explain(|| format!("cannot write {}", file.display()))
    }

    /// All of it as tables, in Markdown.
    #[must_use]
    pub fn tables(&self) -> String {
        tables(self)
    }

    /// The pictures that there are points for, by the names of their files.
    pub fn pictures(&self) -> Result<Vec<(&'static str, String)>> {
        let pictures = [
            ("streams.svg", charts::by_streams(self)),
            ("batches.svg", charts::by_batch(self)),
        ];
        let drawn = pictures.map(|(name, charts)| Ok(draw(&charts)?.map(|picture| (name, picture))));
        drawn.into_iter().filter_map(Result::transpose).collect()
    }

    /// Takes in what came of a load, in the place of what came of it before; all stay in the order of [`LOADS`].
    pub fn take(&mut self, outcome: Outcome) {
        self.loads.retain(|former| former.name != outcome.name);
        self.loads.push(outcome);
        self.loads.sort_by_key(|outcome| LOADS.iter().position(|load| load.name == outcome.name));
    }

    /// Takes in what a bench came to, in the place of what it came to before; the order is that of [`BENCHES`].
    pub fn take_timings(&mut self, bench: &str, timings: Vec<Timing>) {
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
    /// What `figure` finds, the middle one of all rounds, or the mean of the two in the middle; `None` if a round lacks it, or there is none.
    pub(super) fn median(&self, figure: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        let mut found: Vec<f64> = self.rounds.iter().map(figure).collect::<Option<_>>()?;
        found.sort_by(f64::total_cmp);
        let (low, high) = (found.len().checked_sub(1)? / 2, found.len() / 2);
        Some(f64::midpoint(found[low], found[high]))
    }

    /// True if it came to its end and was what it was meant to be, every time and on both servers.
    pub(super) fn is_sound(&self) -> bool {
        let is_sound = |round: &Round| round.figures.is_sound() && round.peer.as_ref().is_none_or(Figures::is_sound);
        self.failure.is_none() && self.rounds.iter().all(is_sound)
    }

    /// True if it came to its end and every client saw every message once and in order.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.failure.is_none() && self.rounds.iter().all(|round| round.figures.is_right())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::figures::tests::example;

    /// A load of which each round brought so many deliveries a second, to Roomcast and to the other.
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
            measured_on: "2026-11-26T10:00:00Z".to_owned(),
            arguments: vec!["hot".to_owned()],
            rounds: rounds.iter().map(round).collect(),
            failure: None,
        }
    }

    #[test]
    fn what_is_saved_can_be_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("figures.json");
        let mut report = Report::default();
        report.take(outcome("hot-10", 10, &[(5.0, Some(1.0))]));
        report.save(&file).unwrap();
        assert_eq!(Report::read(&file).unwrap(), report);
    }

    #[test]
    fn a_load_that_is_run_again_takes_its_place() {
        let mut report = Report::default();
        for per_s in [1.0, 2.0] {
            report.take(outcome("idle", 10, &[(per_s, None)]));
            report.take(outcome("hot-10", 10, &[(per_s, None)]));
        }
        let names: Vec<&str> = report.loads.iter().map(|outcome| outcome.name.as_str()).collect();
        assert_eq!(names, ["hot-10", "idle"]);
        assert_eq!(report.load("hot-10"), Some(&outcome("hot-10", 10, &[(2.0, None)])));
    }

    #[test]
    fn of_several_rounds_the_middle_one_counts() {
        let per_s = |round: &Round| Some(round.figures.windows[0].deliveries_per_s);
        let of = |rounds: &[(f64, Option<f64>)]| outcome("hot", 10, rounds).median(per_s);
        assert_eq!(of(&[(9.0, None), (1.0, None), (5.0, None)]), Some(5.0));
        assert_eq!(of(&[(9.0, None), (1.0, None), (5.0, None), (6.0, None)]), Some(5.5));
        assert_eq!(of(&[]), None);
        let theirs = |round: &Round| Some(round.peer.as_ref()?.windows[0].deliveries_per_s);
        assert_eq!(outcome("hot", 10, &[(1.0, Some(1.0)), (1.0, None)]).median(theirs), None);
    }
}
