//! Runs the matrix of faults and the floods, and prints whether every promise was kept.
//!
//! Ends by itself; exit code 1 if a promise was broken, 2 if a run could not be completed. Each row is
//! appended to a file as soon as it is measured, so that the matrix may be run in several parts.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use rig::faults::{self, Fault, MATRIX};
use rig::floods::{self, FLOODS, Flood, Scale};
use rig::report::{self, Row};
use rig::{Backend, Explain as _, Failure, Result, TrafficPlan};

/// Longest time of one fault on one back end, in planned times; a run that takes longer is aborted and counts as not
/// completed.
const LONGEST_RUN: u32 = 5;
/// Sentences shown of a run that broke promises; all of them are in the line it leaves.
const SHOWN: usize = 10;

/// Injects faults and floods many times, and checks that every promise is kept.
#[derive(Parser)]
struct Options {
    /// Which faults, such as `F1,F3`; all if none is named.
    #[arg(long, env = "FAULTS", value_delimiter = ',')]
    faults: Vec<String>,

    /// Which floods, such as `headers,reads`, or `none`; all if neither faults nor floods are named.
    #[arg(long, env = "FLOODS", value_delimiter = ',')]
    floods: Vec<String>,

    /// On which back ends: `sqlite`, `postgres` or both.
    #[arg(long, env = "BACKEND", value_delimiter = ',', default_value = "sqlite,postgres")]
    backend: Vec<String>,

    /// Share of the required number of injections.
    #[arg(long, env = "COUNT_SCALE", default_value_t = 1.0)]
    count_scale: f64,

    /// Messages a second.
    #[arg(long, env = "RATE", default_value_t = 550.0)]
    rate: f64,

    /// Seed of everything random; taken from the clock if it is not given.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,

    /// File to which each row is appended as a line of JSON.
    #[arg(long, env = "OUT", default_value = ".data/soak.jsonl")]
    out: PathBuf,

    /// Run nothing, and print the table of the rows in this file; of several runs of a fault the last one counts.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,

    /// With `--table`: put the table into this Markdown page, between its lines `<!-- soak table: begin -->` and
    /// `<!-- soak table: end -->`, instead of printing it.
    #[arg(long, value_name = "FILE", requires = "table")]
    page: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let ended = match &options.table {
        Some(file) => write_table(file, options.page.as_deref()).map(|rows| are_kept(&rows)),
        None => run_chosen(&options).await,
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("soak: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Writes the table of the rows in `file` into `page`, or to standard output.
fn write_table(file: &Path, page: Option<&Path>) -> Result<Vec<Row>> {
    let lines = fs::read_to_string(file).explain(|| format!("cannot read {}", file.display()))?;
    let rows = report::parse(&lines, &MATRIX.each_ref().map(|fault| fault.code))?;
    let table = report::table(&rows);
    match page {
        None => println!("{table}"),
        Some(page) => {
            let text = fs::read_to_string(page).explain(|| format!("cannot read {}", page.display()))?;
            let text = report::replace_table(&text, &table)
                .ok_or_else(|| Failure::new(format!("{} has no lines for the soak table", page.display())))?;
            fs::write(page, text).explain(|| format!("cannot write {}", page.display()))?;
        }
    }
    Ok(rows)
}

fn are_kept(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.violations.is_empty())
}

/// Runs the chosen faults and floods; true if every promise was kept.
async fn run_chosen(options: &Options) -> Result<bool> {
    let (chosen, chosen_floods) = choose(options)?;
    let backends = options.backend.iter().map(|name| backend(name)).collect::<Result<Vec<_>>>()?;
    let faults_kept = if chosen.is_empty() {
        Ok(true)
    } else {
        soak(options, &chosen, &backends).await.map(|rows| are_kept(&rows))
    };
    let floods_kept = flood(&chosen_floods, &backends).await;
    Ok(faults_kept? & floods_kept?)
}

/// The faults and the floods that are named; all of them if none is named.
fn choose(options: &Options) -> Result<(Vec<&'static Fault>, Vec<&'static Flood>)> {
    let (codes, names) = (options.faults.as_slice(), options.floods.as_slice());
    let chosen = match codes {
        [] if names.is_empty() || names == ["none"] => MATRIX.iter().collect(),
        _ => codes.iter().map(|code| faults::find(code)).collect::<Result<_>>()?,
    };
    let chosen_floods = match names {
        [] if codes.is_empty() => FLOODS.iter().collect(),
        [all] if all == "all" => FLOODS.iter().collect(),
        [none] if none == "none" => Vec::new(),
        _ => names.iter().map(|name| floods::find(name)).collect::<Result<_>>()?,
    };
    Ok((chosen, chosen_floods))
}

/// Runs the floods on every back end, and prints each verdict; true if every promise was kept.
async fn flood(chosen: &[&'static Flood], backends: &[Backend]) -> Result<bool> {
    let mut kept = true;
    for backend in backends {
        for flood in chosen {
            eprintln!("flood {}: {} on {backend:?}", flood.name, flood.title);
            let verdict = floods::run(flood, *backend, Scale::LONG).await?;
            println!("{backend:?} {verdict}");
            for sentence in &verdict.violations {
                kept = false;
                println!("  {sentence}");
            }
        }
    }
    Ok(kept)
}

async fn soak(options: &Options, chosen: &[&'static Fault], backends: &[Backend]) -> Result<Vec<Row>> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seed = options.seed.unwrap_or(clock);
    let one: Duration = chosen.iter().map(|fault| fault.planned(options.count_scale)).sum();
    eprintln!("seed {seed}; this takes about {}", minutes(one * u32::try_from(backends.len())?));
    let plan = TrafficPlan {
        per_second: options.rate,
        ..TrafficPlan::full(seed)
    };
    let mut rows = Vec::new();
    let mut aborted = None;
    for backend in backends {
        for fault in chosen {
            let planned = fault.planned(options.count_scale);
            eprintln!("{} {} on {backend:?}, about {}", fault.code, fault.title, minutes(planned));
            let longest = planned * LONGEST_RUN;
            let run = tokio::time::timeout(longest, fault.run(*backend, plan, options.count_scale)).await;
            match run.unwrap_or_else(|_| Err(Failure::new(format!("not completed within {longest:?}")))) {
                Ok(row) => {
                    append(&options.out, &row)?;
                    print_row(&row);
                    rows.push(row);
                }
                Err(failure) => {
                    eprintln!("  {failure}");
                    aborted = Some(failure);
                }
            }
        }
    }
    println!("{}", report::table(&rows));
    aborted.map_or(Ok(rows), Err)
}

/// Appends `row` to `file`.
fn append(file: &Path, row: &Row) -> Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut out = OpenOptions::new().create(true).append(true).open(file)?;
    Ok(writeln!(out, "{}", serde_json::to_string(row)?)?)
}

fn print_row(row: &Row) {
    eprintln!("  {}", row.notes.join("; "));
    for sentence in row.violations.iter().take(SHOWN) {
        eprintln!("  {sentence}");
    }
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02} min", time.as_secs() / 60, time.as_secs() % 60)
}

fn backend(name: &str) -> Result<Backend> {
    match name.trim() {
        "sqlite" => Ok(Backend::Sqlite),
        "postgres" => Ok(Backend::Postgres),
        other => Err(Failure::new(format!("'{other}' is neither sqlite nor postgres"))),
    }
}
