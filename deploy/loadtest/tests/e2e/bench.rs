//! `bench` writes its results, and makes tables and charts again from the figures.

use std::fs;
use std::path::Path;
use std::process::Command;

use loadtest::bench::Report;
use rig::service_binary;

/// Runs `bench` with its results in `out`, and returns its exit code.
fn bench(arguments: &[&str], out: &Path) -> Option<i32> {
    let mut bench = Command::new(service_binary("bench").unwrap());
    for variable in ["ONLY", "OUT", "ROUNDS", "WINDOW", "QUICK", "PEER"] {
        bench.env_remove(variable);
    }
    bench.args(arguments).arg("--out").arg(out).status().unwrap().code()
}

#[test]
fn tables_and_charts_are_made_again_from_the_figures() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    assert_eq!(bench(&["--quick", "--peer", "none", "--only", "hot-10"], &first), Some(0));
    let report = Report::read(&first.join("figures.json")).unwrap();
    let round = &report.load("hot-10").unwrap().rounds[0];
    assert!(round.figures.is_correct() && round.figures.windows[0].deliveries > 0, "{}", round.figures.table());

    let figures = first.join("figures.json");
    assert_eq!(bench(&["--draw", figures.to_str().unwrap()], &second), Some(0));
    for name in ["table.md", "streams.svg"] {
        let [one, other] = [&first, &second].map(|directory| fs::read_to_string(directory.join(name)).unwrap());
        assert_eq!(one, other, "{name} is another one");
    }
    assert!(!first.join("batches.svg").exists(), "nothing was stored in batches");
}

#[test]
fn an_unknown_part_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(bench(&["--only", "hot-11"], directory.path()), Some(2));
}
