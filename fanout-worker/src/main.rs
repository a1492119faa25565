//! Starts the fanout-worker: settings, store, run, exit code.

use std::io::Write as _;
use std::process::ExitCode;

use fanout_worker::{Command, Config, StartError, dead_letters};
use shared::lifecycle::Lifecycle;
use shared::settings;
use shared::telemetry;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match settings::parse::<Config>() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match start(&config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            settings::complain("fanout-worker", &error);
            ExitCode::from(error.exit_code())
        }
    }
}

async fn start(config: &Config) -> Result<(), StartError> {
    telemetry::init(&config.log)?;
    match &config.command {
        Some(Command::Migrate) => fanout_worker::migrate(config).await,
        Some(Command::NewEpoch) => {
            let epoch = fanout_worker::new_epoch(config).await?;
            // Nobody is left to tell if standard output is closed.
            let _ = writeln!(std::io::stdout(), "epoch {epoch} has begun: every client loads its history anew");
            Ok(())
        }
        Some(Command::CopyDatabase { from, to }) => fanout_worker::copy_database(from, to).await,
        Some(Command::DeadLetters(action)) => dead_letters::run(config, action, &mut std::io::stdout()).await,
        None => {
            let lifecycle = Lifecycle::new();
            lifecycle.watch_signals(config.shutdown.deadline()).map_err(StartError::Signals)?;
            tokio::select! {
                ended = fanout_worker::run(config, &lifecycle) => ended,
                () = lifecycle.hard.cancelled() => Err(StartError::CutOff),
            }
        }
    }
}
