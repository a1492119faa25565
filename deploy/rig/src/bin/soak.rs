//! Runs the matrix of faults and prints what was kept.
//!
//! Ends by itself; exit code 1 if a promise was broken, 2 if a run could not be brought to its end.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use rig::faults::{self, Fault};
use rig::report::{HEADINGS, Row};
use rig::{Backend, Failure, Plan, Result};

/// Longest time of one fault on one back end; what takes longer is broken off and counts as not brought to its end.
const LONGEST: Duration = Duration::from_mins(40);
/// Sentences shown of a run that broke promises; all of them are in the evidence it leaves.
const SHOWN: usize = 10;

/// Kills everything, many times, and looks whether anything was lost.
#[derive(Parser)]
struct Options {
    /// Which faults, such as `F1,F3`; all if none is named.
    #[arg(long, env = "FAULTS", value_delimiter = ',')]
    faults: Vec<String>,

    /// On which back ends: `sqlite`, `postgres` or both.
    #[arg(long, env = "BACKEND", value_delimiter = ',', default_value = "sqlite,postgres")]
    backend: Vec<String>,

    /// How much of the demanded counts.
    #[arg(long, env = "COUNT_SCALE", default_value_t = 1.0)]
    count_scale: f64,

    /// Messages a second.
    #[arg(long, env = "RATE", default_value_t = 550.0)]
    rate: f64,

    /// What everything random follows from; chosen by the clock if it is not given.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match soak(&options).await {
        Ok(rows) if rows.iter().all(|row| row.violations.is_empty()) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("soak: {failure}");
            ExitCode::from(2)
        }
    }
}

async fn soak(options: &Options) -> Result<Vec<Row>> {
    let chosen: Vec<Fault> = match options.faults.as_slice() {
        [] => faults::ALL.to_vec(),
        codes => codes.iter().map(|code| code.parse()).collect::<Result<_>>()?,
    };
    let backends = options.backend.iter().map(|name| backend(name)).collect::<Result<Vec<_>>>()?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seed = options.seed.unwrap_or(clock);
    eprintln!("seed {seed}");
    let plan = Plan {
        per_second: options.rate,
        ..Plan::full(seed)
    };
    let mut rows = Vec::new();
    let mut broken_off = None;
    for backend in backends {
        for fault in &chosen {
            let run = tokio::time::timeout(LONGEST, faults::run(*fault, backend, plan, options.count_scale)).await;
            match run.unwrap_or_else(|_| Err(Failure::new(format!("not done within {LONGEST:?}")))) {
                Ok(row) => {
                    println!("{}", row.json());
                    for sentence in row.violations.iter().take(SHOWN) {
                        eprintln!("{fault}: {sentence}");
                    }
                    rows.push(row);
                }
                Err(failure) => {
                    eprintln!("{fault} on {backend:?}: {failure}");
                    broken_off = Some(failure);
                }
            }
        }
    }
    println!("\n{HEADINGS}");
    for row in &rows {
        println!("{}", row.line());
    }
    broken_off.map_or(Ok(rows), Err)
}

fn backend(name: &str) -> Result<Backend> {
    match name.trim() {
        "sqlite" => Ok(Backend::Sqlite),
        "postgres" => Ok(Backend::Postgres),
        other => Err(Failure::new(format!("'{other}' is neither sqlite nor postgres"))),
    }
}
