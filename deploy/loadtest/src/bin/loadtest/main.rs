//! Puts load on a server, and reports what it carried, what that cost, and whether every client saw every message once
//! and in order.
//!
//! The program ends by itself. Its exit code is 1 if a client saw a gap, a duplicate or a wrong order, and 2 if a run
//! failed.

mod options;

use std::fs;
use std::process::ExitCode;

use clap::{Parser as _, ValueEnum as _};
use loadtest::{
    Figures, Nchan, Plan, Preset, Progress, SyntheticServer, comparison, prepare, prepare_population, raise_file_limit,
    run, run_on_stack,
};
use rig::{Backend, Explain as _, Failure, Result, Stack};
use serde_json::{Value, json};

use self::options::{Options, Peer};

#[tokio::main]
async fn main() -> ExitCode {
    match measure(&Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("loadtest: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Runs all rounds; returns true if no order was violated in Roomcast.
async fn measure(options: &Options) -> Result<bool> {
    let plan = options.plan()?;
    // In a self-test this process holds both ends of each stream.
    let streams = plan.streams * (1 + usize::from(options.preset == Preset::SelfTest));
    raise_file_limit(streams + plan.request_connections() + plan.typing_connections())?;
    let progress = if options.quiet {
        Progress::silent()
    } else {
        Progress::new()
    };
    let mut is_correct = true;
    for round in 1..=options.rounds {
        let (ours, theirs) = match options.peer {
            None => (roomcast(options, &plan, &progress).await?, None),
            // The two servers take turns in being first, since the first run may change the state of the machine, such
            // as its caches.
            Some(other) if round.is_multiple_of(2) => {
                let theirs = peer(other, options, &plan, &progress).await?;
                (roomcast(options, &plan, &progress).await?, Some(theirs))
            }
            Some(other) => {
                let ours = roomcast(options, &plan, &progress).await?;
                (ours, Some(peer(other, options, &plan, &progress).await?))
            }
        };
        is_correct &= ours.is_correct();
        report(options, round, &ours, theirs.as_ref())?;
    }
    Ok(is_correct)
}

/// Runs the load on Roomcast; the figures name the kind of keys.
async fn roomcast(options: &Options, plan: &Plan, progress: &Progress) -> Result<Figures> {
    let figures = run_roomcast(options, plan, progress).await?;
    Ok(Figures {
        server: format!("{}{}", figures.server, plan.keys.label()),
        ..figures
    })
}

/// Starts or prepares the server, and runs the load on it.
async fn run_roomcast(options: &Options, plan: &Plan, progress: &Progress) -> Result<Figures> {
    if options.preset == Preset::SelfTest {
        let server = SyntheticServer::start(plan.streams, plan.text, None)?;
        let figures = run(plan, &server.target(), progress).await?;
        return Ok(Figures {
            server: "none".to_owned(),
            ..figures
        });
    }
    let tokens = match &options.tokens {
        Some(file) => fs::read_to_string(file).explain(|| format!("cannot read {}", file.display()))?,
        None => String::new(),
    };
    let tokens: Vec<String> = tokens.split_whitespace().map(str::to_owned).collect();
    if options.own || options.postgres {
        let backend = if options.postgres {
            Backend::Postgres
        } else {
            Backend::Sqlite
        };
        let mut builder =
            Stack::builder().without_limits().backend(backend).gateway("GATEWAY_MAX_CONNECTIONS", "1000000");
        // Rooms are filled faster than messages are stored. The load itself meets the bound that gateways have by
        // default.
        if plan.stored_messages() > 0 {
            builder = builder.gateway("BACKLOG_PER_PARTITION", "10000000");
        }
        // Only where statements are counted, since logging them costs the gateway time.
        if plan.counts_statements {
            builder = builder.logging_statements();
        }
        let mut stack = builder.start().await?;
        let mut prepared = match plan.user_rooms {
            Some(_) => prepare_population(plan, &stack).await?,
            None => prepare(plan, &stack.gateway_urls(), options.users, &tokens).await?,
        };
        stack.renew_gateways().await?;
        prepared.watch_processes(stack.processes()?);
        if plan.counts_statements {
            prepared.watch_statement_logs(
                stack.gateways.iter().map(|gateway| gateway.process.log_file().to_owned()).collect(),
            );
        }
        return run_on_stack(plan, &prepared.target, &mut stack, progress).await;
    }
    if options.url.is_empty() {
        return Err(Failure::new("no server: name a gateway with --url, or start an installation with --own"));
    }
    let mut prepared = prepare(plan, &options.url, options.users, &tokens).await?;
    prepared.watch_processes(options.process.clone());
    let figures = run(plan, &prepared.target, progress).await;
    prepared.delete_rooms().await?;
    figures
}

/// Runs the load on what Roomcast is compared with.
async fn peer(peer: Peer, options: &Options, plan: &Plan, progress: &Progress) -> Result<Figures> {
    let Some((other, label)) = peer.plan(plan) else {
        let nchan = Nchan::start(plan.streams).await?;
        return run(plan, &nchan.target(plan), progress).await;
    };
    let figures = roomcast(options, &other, progress).await?;
    Ok(Figures {
        server: format!("{}{label}", figures.server),
        ..figures
    })
}

/// Prints the figures of a round.
fn report(options: &Options, round: usize, ours: &Figures, theirs: Option<&Figures>) -> Result<()> {
    let preset = options.preset.to_possible_value().map(|value| value.get_name().to_owned());
    if options.json {
        let line: Value = json!({"preset": preset, "round": round, "figures": ours, "peer": theirs});
        println!("{}", serde_json::to_string(&line)?);
        return Ok(());
    }
    if options.rounds > 1 {
        println!("— round {round}");
    }
    println!("{}", ours.table());
    if let Some(theirs) = theirs {
        println!("{}\n{}", theirs.table(), comparison(ours, theirs));
    }
    Ok(())
}
