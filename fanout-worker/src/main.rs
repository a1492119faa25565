//! The fanout-worker's binary: commands, run.

use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;
use fanout_worker::{BINARY, Command, Config, StartError, dead_letters};
use shared::{bootstrap, settings};

fn main() -> ExitCode {
    bootstrap::main(&BINARY, async |config: Config| start(&config).await)
}

async fn start(config: &Config) -> Result<(), StartError> {
    match &config.command {
        Some(Command::Settings) => {
            // If standard output is closed, there is no other place for it.
            let _ = std::io::stdout().write_all(settings::markdown_table(&Config::command()).as_bytes());
            Ok(())
        }
        Some(Command::Migrate) => fanout_worker::migrate(config).await,
        Some(Command::NewEpoch) => {
            let epoch = fanout_worker::new_epoch(config).await?;
            // If standard output is closed, there is no other place for it.
            let _ = writeln!(std::io::stdout(), "epoch {epoch} has begun: every client loads its history anew");
            Ok(())
        }
        Some(Command::CopyDatabase { from, to }) => Ok(fanout_worker::copy_database(from, to).await?),
        Some(Command::DeadLetters(action)) => Ok(dead_letters::run(config, action, &mut std::io::stdout()).await?),
        None => {
            let lifecycle = bootstrap::begin(&config.common)?;
            tokio::select! {
                ended = fanout_worker::run(config, &lifecycle) => ended,
                () = lifecycle.hard.cancelled() => Err(StartError::CutOff),
            }
        }
    }
}
