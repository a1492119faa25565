//! Runs the criterion benches of the workspace and reads their results.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rig::programs::command;
use rig::{Explain as _, Failure, Result};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use super::provenance::Provenance;

/// Names of the benches, in whichever crate they are.
pub const BENCHES: [&str; 5] = ["requests", "stream", "entries", "batches", "commit"];

/// The groups of the bench `commit`; each needs its database.
const COMMITS: [&str; 2] = ["commit to SQLite", "commit to Postgres"];

/// Longest time of a bench that is already built; a longer one is killed.
const BENCH_WITHIN: Duration = Duration::from_mins(10);

/// The measured time of one part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Name of the bench.
    pub bench: String,
    /// What is measured; if there are several cases, what they have in common.
    pub group: String,
    /// The case; empty if there is only one.
    pub case: String,
    /// Nanoseconds of one run.
    pub nanos: f64,
    /// Bounds of `nanos` with a confidence of 95 %.
    pub nanos_between: (f64, f64),
    /// Elements that one run handles, such as messages; `None` if it handles no countable ones.
    pub elements: Option<u64>,
    /// When and where the part was measured.
    #[serde(flatten)]
    pub provenance: Provenance,
}

impl Timing {
    /// Elements handled in a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a batch is small against 2^52")]
    pub fn elements_per_s(&self) -> Option<f64> {
        Some(self.elements? as f64 * 1e9 / self.nanos)
    }
}

/// Runs `bench`, each part for `seconds` if given. cargo builds it in the workspace of the current directory. The
/// results go to a directory of their own, so that none of an earlier run is among them.
pub async fn run_bench(bench: &str, seconds: Option<u64>) -> Result<Vec<Timing>> {
    let provenance = Provenance::here_and_now();
    let directory = TempDir::with_prefix("criterion-")?;
    let mut cargo = Command::from(command(Path::new(&cargo_program())));
    cargo.args(["bench", "--quiet", "--bench", bench, "--", "--noplot"]);
    if let Some(seconds) = seconds {
        cargo.args(["--measurement-time", &seconds.to_string(), "--warm-up-time", "1"]);
    }
    cargo.env("CRITERION_HOME", directory.path()).kill_on_drop(true);
    let output = timeout(BENCH_WITHIN, cargo.output()).await;
    let output = output.map_err(|_| Failure::new(format!("not done within {} s", BENCH_WITHIN.as_secs())))??;
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("cargo bench: {}: {}", output.status, printed.trim_end())));
    }
    let timings = read_results(bench, &provenance, directory.path())?;
    match missing_group(bench, &timings) {
        Some(group) => Err(Failure::new(format!("{bench} measured nothing of {group}"))),
        None => Ok(timings),
    }
}

/// A group that `bench` should have measured and has not.
fn missing_group(bench: &str, timings: &[Timing]) -> Option<&'static str> {
    let groups: &[&'static str] = if bench == "commit" { &COMMITS } else { &[""] };
    let is_there = |group: &str| timings.iter().any(|timing| timing.group.starts_with(group));
    groups
        .iter()
        .copied()
        .find(|group| !is_there(group))
        .map(|group| if group.is_empty() { "anything" } else { group })
}

/// The cargo that started this process, which sets the variable, or else the one in `PATH`.
fn cargo_program() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// criterion's description of a part.
#[derive(Deserialize)]
struct Benchmark {
    group_id: String,
    function_id: Option<String>,
    value_str: Option<String>,
    throughput: Option<Throughput>,
}

#[derive(Deserialize)]
enum Throughput {
    Elements(u64),
    #[serde(untagged)]
    Other(serde::de::IgnoredAny),
}

/// criterion's estimates for a part, in nanoseconds.
#[derive(Deserialize)]
struct Estimates {
    mean: Estimate,
    /// Present if criterion repeated runs in growing batches; criterion itself then shows it instead of the mean.
    slope: Option<Estimate>,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// All parts of `bench` with results under `home`, the cases of a group by number.
fn read_results(bench: &str, provenance: &Provenance, home: &Path) -> Result<Vec<Timing>> {
    let mut found = Vec::new();
    for directory in directories_of_results(home)? {
        let benchmark: Benchmark = parse(&directory.join("benchmark.json"))?;
        let Estimates { mean, slope } = parse(&directory.join("estimates.json"))?;
        let estimate = slope.unwrap_or(mean);
        let case = benchmark.function_id.into_iter().chain(benchmark.value_str).collect::<Vec<_>>().join(" ");
        let Interval {
            lower_bound,
            upper_bound,
        } = estimate.confidence_interval;
        found.push(Timing {
            bench: bench.to_owned(),
            group: benchmark.group_id,
            case,
            nanos: estimate.point_estimate,
            nanos_between: (lower_bound, upper_bound),
            elements: match benchmark.throughput {
                Some(Throughput::Elements(elements)) => Some(elements),
                Some(Throughput::Other(_)) | None => None,
            },
            provenance: provenance.clone(),
        });
    }
    let order = |timing: &Timing| (timing.group.clone(), timing.case.parse().unwrap_or(0_u64), timing.case.clone());
    found.sort_by_key(order);
    Ok(found)
}

/// The directories called `new` at any depth, which hold the latest results.
fn directories_of_results(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).explain(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() && path.ends_with("new") {
            found.push(path);
        } else if path.is_dir() {
            found.extend(directories_of_results(&path)?);
        }
    }
    Ok(found)
}

fn parse<T: for<'de> Deserialize<'de>>(file: &Path) -> Result<T> {
    let text = fs::read_to_string(file).explain(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).explain(|| format!("{} is not as criterion writes it", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(home: &Path, directory: &str, benchmark: &str, estimates: &str) {
        let directory = home.join(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("benchmark.json"), benchmark).unwrap();
        fs::write(directory.join("estimates.json"), estimates).unwrap();
    }

    fn estimate(nanos: f64) -> String {
        format!(
            r#"{{"confidence_interval":{{"confidence_level":0.95,"lower_bound":{},"upper_bound":{}}},
                "point_estimate":{nanos},"standard_error":1.0}}"#,
            nanos - 1.0,
            nanos + 1.0
        )
    }

    #[test]
    fn latest_results_are_read_in_order_of_number() {
        let home = tempfile::tempdir().unwrap();
        for (size, nanos) in [(100, 1e6), (1, 1e5), (50, 5e5)] {
            let benchmark = format!(
                r#"{{"group_id":"commit to SQLite","function_id":null,"value_str":"{size}","throughput":{{"Elements":{size}}},
                    "full_id":"commit to SQLite/{size}","directory_name":"commit to SQLite/{size}","title":""}}"#
            );
            let estimates = format!(r#"{{"mean":{},"slope":null}}"#, estimate(nanos));
            write(home.path(), &format!("commit to SQLite/{size}/new"), &benchmark, &estimates);
            write(home.path(), &format!("commit to SQLite/{size}/base"), "old", "old");
        }
        let timings = read_results("commit", &Provenance::default(), home.path()).unwrap();
        let cases: Vec<(&str, Option<f64>)> =
            timings.iter().map(|timing| (timing.case.as_str(), timing.elements_per_s())).collect();
        assert_eq!(cases, [("1", Some(10_000.0)), ("50", Some(100_000.0)), ("100", Some(100_000.0))]);
        assert_eq!(missing_group("commit", &timings), Some("commit to Postgres"));
        assert_eq!((missing_group("stream", &timings), missing_group("stream", &[])), (None, Some("anything")));
        assert_eq!((timings[0].bench.as_str(), timings[0].group.as_str()), ("commit", "commit to SQLite"));
    }

    #[test]
    fn the_slope_wins_over_the_mean() {
        let home = tempfile::tempdir().unwrap();
        let estimates = format!(r#"{{"mean":{},"slope":{}}}"#, estimate(30.0), estimate(20.0));
        for (name, throughput) in [("of bytes", r#"{"Bytes":7}"#), ("of nothing", "null")] {
            let benchmark =
                format!(r#"{{"group_id":"{name}","function_id":null,"value_str":null,"throughput":{throughput}}}"#);
            write(home.path(), &format!("{name}/new"), &benchmark, &estimates);
        }
        for timing in read_results("stream", &Provenance::default(), home.path()).unwrap() {
            assert_eq!((timing.nanos, timing.nanos_between), (20.0, (19.0, 21.0)));
            assert_eq!((timing.case.as_str(), timing.elements), ("", None));
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let home = tempfile::tempdir().unwrap();
        write(home.path(), "a part/new", "{}", "{}");
        let failure = read_results("stream", &Provenance::default(), home.path()).unwrap_err().to_string();
        assert!(failure.contains("benchmark.json is not as criterion writes it"), "{failure}");
    }
}
