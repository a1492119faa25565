//! Measures all loads and all benches, and writes figures, tables and charts to a directory.
//!
//! The program ends by itself. Its exit code is 1 if order was violated in a load or a part could not be measured, and
//! 2 if the results could not be written. A threshold that is missed is shown in the tables and does not change the exit
//! code, since times depend on the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::FalseyValueParser;
use clap::{Parser, ValueEnum};
use loadtest::bench::{BENCHES, LOADS, LoadOverrides, Machine, Report, images, run_bench, run_load, save, tables};
use rig::{Explain as _, Failure, Result};

/// The file that tables and charts are made from.
const FIGURES: &str = "figures.json";
/// Messages of a room whose history is read, in a quick run.
const QUICK_MESSAGES: u64 = 10_000;

/// Measures Roomcast: its parts by criterion, the whole by loadtest
#[derive(Parser)]
struct Options {
    /// Parts to measure, such as `hot,commit`: loads, presets, benches, `loads` or `benches` for all of them. The
    /// figures of the other parts are kept. Without it, everything is measured and no figures are kept
    #[arg(long, env = "ONLY", value_delimiter = ',')]
    only: Vec<String>,

    /// Directory for the results: figures.json, table.md, streams.svg, batches.svg
    #[arg(long, env = "OUT", default_value = ".data/performance")]
    out: PathBuf,

    /// How often to run each load; of several figures the median counts
    #[arg(long, env = "ROUNDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=9))]
    rounds: u32,

    /// Seconds of each window of a load, and of each part of a bench
    #[arg(long, env = "WINDOW")]
    window: Option<u64>,

    /// Measure everything for one second only, to check that it works
    #[arg(long, env = "QUICK", conflicts_with = "window", value_parser = FalseyValueParser::new())]
    quick: bool,

    /// The server to compare with
    #[arg(long, env = "PEER", value_enum, default_value_t = Peer::Nchan)]
    peer: Peer,

    /// Measure nothing: make tables and charts from these figures
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "quick", "window"])]
    draw: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// nginx with the module nchan (`deploy/install.sh nchan`), which Debian has
    Nchan,
    /// No other server
    None,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let ended = match &options.draw {
        Some(file) => Report::read(file).and_then(|report| write(&report, &options.out).map(|()| true)),
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

/// Measures what `options` ask for, and writes each result at once. Returns true if every part could be measured and no
/// order was violated.
async fn measure_all(options: &Options) -> Result<bool> {
    let known = |part: &String| {
        let is_bench = part == "benches" || BENCHES.contains(&part.as_str());
        is_bench || LOADS.iter().any(|load| load.matches(part))
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
    let mut is_correct = measure_benches(options, &mut report).await?;
    is_correct &= measure_loads(options, &mut report).await?;
    println!("{}", tables(&report));
    Ok(is_correct)
}

async fn measure_benches(options: &Options, report: &mut Report) -> Result<bool> {
    let mut is_correct = true;
    let names = |part: &String, bench: &str| part == bench || part == "benches";
    for bench in BENCHES.into_iter().filter(|bench| options.includes(|part| names(part, bench))) {
        eprintln!("bench: {bench}");
        match run_bench(bench, options.seconds()).await {
            Ok(timings) => report.replace_timings(bench, timings),
            Err(failure) => {
                eprintln!("  {failure}");
                is_correct = false;
            }
        }
        write(report, &options.out)?;
    }
    Ok(is_correct)
}

async fn measure_loads(options: &Options, report: &mut Report) -> Result<bool> {
    let mut is_correct = true;
    for load in LOADS.iter().filter(|load| options.includes(|part| load.matches(part))) {
        eprintln!("bench: {}", load.name);
        let outcome = run_load(load, options.overrides()).await;
        if let Some(failure) = &outcome.failure {
            eprintln!("  {failure}");
        } else if !outcome.is_correct() {
            eprintln!("  order was violated, see table.md");
        }
        is_correct &= outcome.is_correct();
        report.replace_load(outcome);
        write(report, &options.out)?;
    }
    Ok(is_correct)
}

impl Options {
    fn includes(&self, is_named: impl Fn(&String) -> bool) -> bool {
        self.only.is_empty() || self.only.iter().any(is_named)
    }

    fn seconds(&self) -> Option<u64> {
        self.quick.then_some(1).or(self.window)
    }

    fn overrides(&self) -> LoadOverrides {
        LoadOverrides {
            seconds: self.seconds(),
            warm_up: self.quick.then_some(1),
            messages: self.quick.then_some(QUICK_MESSAGES),
            rounds: self.rounds,
            has_peer: self.peer == Peer::Nchan,
        }
    }
}

/// Writes `report` to `directory`, with the tables and charts.
fn write(report: &Report, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).explain(|| format!("cannot make {}", directory.display()))?;
    save(report, &directory.join(FIGURES))?;
    let table = ("table.md", tables(report));
    for (name, text) in images(report)?.into_iter().chain([table]) {
        let file = directory.join(name);
        fs::write(&file, text).explain(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
