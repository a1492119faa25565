//! Measures all there is to measure, and leaves figures, tables and pictures in a directory.
//!
//! Ends by itself. Exit code 1 if a client lacked something or a part could not be measured, 2 if the results could not be
//! written. What is demanded and not reached is told in the tables and changes no exit code: times are those of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::FalseyValueParser;
use clap::{Parser, ValueEnum};
use loadtest::bench::{BENCHES, LOADS, Machine, Pace, Report, measure, run};
use rig::{Explain as _, Failure, Result};

/// What everything else follows from.
const FIGURES: &str = "figures.json";
/// Messages of a room whose history is read, in a quick run.
const QUICK_MESSAGES: u64 = 10_000;

/// Measures Roomcast: its parts by criterion, all of it by loadtest.
#[derive(Parser)]
struct Options {
    /// Parts to measure, such as `hot,commit`: loads or kinds of loads, benches, `loads` or `benches` for all of them. The
    /// figures of the others stay. Everything, and from nothing, if none is named
    #[arg(long, env = "ONLY", value_delimiter = ',')]
    only: Vec<String>,

    /// Directory for what comes of it: figures.json, table.md, streams.svg, batches.svg
    #[arg(long, env = "OUT", default_value = ".data/performance")]
    out: PathBuf,

    /// How often each load is run; of several figures the one in the middle counts
    #[arg(long, env = "ROUNDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=9))]
    rounds: u32,

    /// Seconds that each load is measured, and each part of a bench
    #[arg(long, env = "WINDOW")]
    window: Option<u64>,

    /// Measure everything for a second only, to see whether it works
    #[arg(long, env = "QUICK", conflicts_with = "window", value_parser = FalseyValueParser::new())]
    quick: bool,

    /// Servers to compare with
    #[arg(long, env = "PEER", value_enum, default_value_t = Peer::Nchan)]
    peer: Peer,

    /// Measure nothing: make tables and pictures anew from these figures
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "quick", "window"])]
    draw: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// nginx with the module nchan (`deploy/install.sh nchan`), which Debian has
    Nchan,
    /// Roomcast alone
    None,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let ended = match &options.draw {
        Some(file) => Report::read(file).and_then(|report| show(&report, &options.out).map(|()| true)),
        None => measure_all(&options).await,
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::from(2)
        }
    }
}

/// True if everything could be measured and no client lacked anything. What is measured is written at once.
async fn measure_all(options: &Options) -> Result<bool> {
    let known = |part: &String| {
        let is_bench = part == "benches" || BENCHES.contains(&part.as_str());
        is_bench || LOADS.iter().any(|load| load.is_meant_by(part))
    };
    if let Some(part) = options.only.iter().find(|part| !known(part)) {
        return Err(Failure::new(format!("there is no part '{part}'")));
    }
    let file = options.out.join(FIGURES);
    let mut report = match options.only.as_slice() {
        [] => Report::default(),
        _ if file.exists() => Report::read(&file)?,
        _ => Report::default(),
    };
    report.machine = Machine::here();
    let mut is_right = measure_benches(options, &mut report).await?;
    is_right &= measure_loads(options, &mut report).await?;
    println!("{}", report.tables());
    Ok(is_right)
}

async fn measure_benches(options: &Options, report: &mut Report) -> Result<bool> {
    let mut is_right = true;
    let means = |part: &String, bench: &str| part == bench || part == "benches";
    for bench in BENCHES.into_iter().filter(|bench| options.wants(|part| means(part, bench))) {
        eprintln!("bench: {bench}");
        match measure(bench, options.seconds()).await {
            Ok(timings) => report.take_timings(bench, timings),
            Err(failure) => {
                eprintln!("  {failure}");
                is_right = false;
            }
        }
        show(report, &options.out)?;
    }
    Ok(is_right)
}

async fn measure_loads(options: &Options, report: &mut Report) -> Result<bool> {
    let mut is_right = true;
    for load in LOADS.iter().filter(|load| options.wants(|part| load.is_meant_by(part))) {
        eprintln!("bench: {}", load.name);
        let outcome = run(load, options.pace()).await;
        if let Some(failure) = &outcome.failure {
            eprintln!("  {failure}");
        } else if !outcome.is_right() {
            eprintln!("  a client lacked something, see table.md");
        }
        is_right &= outcome.is_right();
        report.take(outcome);
        show(report, &options.out)?;
    }
    Ok(is_right)
}

impl Options {
    fn wants(&self, is_meant: impl Fn(&String) -> bool) -> bool {
        self.only.is_empty() || self.only.iter().any(is_meant)
    }

    fn seconds(&self) -> Option<u64> {
        self.quick.then_some(1).or(self.window)
    }

    fn pace(&self) -> Pace {
        Pace {
            seconds: self.seconds(),
            warm_up: self.quick.then_some(1),
            messages: self.quick.then_some(QUICK_MESSAGES),
            rounds: self.rounds,
            has_peer: self.peer == Peer::Nchan,
        }
    }
}

/// Writes `report`, and all that follows from it, to `directory`.
fn show(report: &Report, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).explain(|| format!("cannot make {}", directory.display()))?;
    report.save(&directory.join(FIGURES))?;
    let tables = ("table.md", report.tables());
    for (name, text) in report.pictures()?.into_iter().chain([tables]) {
        let file = directory.join(name);
        fs::write(&file, text).explain(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
