//! Runs third-party clients, generators and linters against the real server, and prints which checks passed.
//!
//! Ends by itself; exit code 1 if a check failed, 2 if a group of checks could not be run. `deploy/conformance/run.sh` installs
//! what it needs and starts it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use rig::conformance::{Check, Group, Paths};

/// Runs third-party clients, generators and linters against the real server.
#[derive(Parser)]
struct Options {
    /// Directory of what was installed and compiled.
    #[arg(long)]
    clients: PathBuf,

    /// Directory of the linters' rules.
    #[arg(long)]
    rules: PathBuf,

    /// The OpenAPI document.
    #[arg(long, default_value = "gateway/openapi.json")]
    document: PathBuf,

    /// Which groups of checks: `linters`, `generated`, `callers`, `streams`; all if none is named.
    #[arg(long, env = "ONLY", value_delimiter = ',')]
    only: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let groups = options.only.iter().filter(|name| !name.is_empty()).map(|name| name.parse());
    let groups: Vec<Group> = match groups.collect::<rig::Result<_>>() {
        Ok(groups) => groups,
        Err(failure) => {
            eprintln!("conformance: {failure}");
            return ExitCode::from(64);
        }
    };
    let groups = if groups.is_empty() { Group::ALL.to_vec() } else { groups };
    let paths = Paths {
        clients: options.clients,
        rules: options.rules,
        document: options.document,
    };
    let (mut passed, mut failed, mut is_incomplete) = (0, 0, false);
    for group in groups {
        let begin = Instant::now();
        match group.run(&paths).await {
            Ok(checks) => checks.iter().for_each(|check| {
                *(if check.outcome.is_ok() {
                    &mut passed
                } else {
                    &mut failed
                }) += 1;
                print_check(check);
            }),
            Err(failure) => {
                println!("FAILED {}: could not be run: {failure}", group.name());
                failed += 1;
                is_incomplete = true;
            }
        }
        println!("       ({} took {} s)", group.name(), begin.elapsed().as_secs());
    }
    println!("{passed} passed, {failed} failed");
    match (failed, is_incomplete) {
        (0, _) => ExitCode::SUCCESS,
        (_, false) => ExitCode::FAILURE,
        (_, true) => ExitCode::from(2),
    }
}

fn print_check(check: &Check) {
    match &check.outcome {
        Ok(summary) => println!("ok     {}: {summary}", check.name),
        Err(failure) => println!("FAILED {}: {failure}", check.name),
    }
}
