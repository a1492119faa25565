//! The gateway's binary: commands, socket, run.

use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;
use gateway::{BINARY, Command, Config, StartError};
use shared::{bootstrap, settings};
use tracing::warn;

/// Gives the large blocks of password hashing back to the system, which glibc's allocator does not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    bootstrap::main(&BINARY, start)
}

async fn start(config: Config) -> Result<(), StartError> {
    match &config.command {
        Some(Command::Openapi) => {
            // If standard output is closed, there is nowhere to report that.
            let _ = std::io::stdout().write_all(gateway::api::document().as_bytes());
            Ok(())
        }
        Some(Command::Settings) => {
            let _ = std::io::stdout().write_all(settings::markdown_table(&Config::command()).as_bytes());
            Ok(())
        }
        Some(Command::ReplaceKeys) => {
            gateway::replace_keys(&config).await?;
            let _ = writeln!(
                std::io::stdout(),
                "tokens are signed with the keys of this file: start all gateways anew with it"
            );
            Ok(())
        }
        Some(Command::GrantAdmin { username }) => {
            gateway::grant_admin(&config, username).await?;
            let _ = writeln!(std::io::stdout(), "{username} is an admin");
            Ok(())
        }
        None => {
            let lifecycle = bootstrap::begin(&config.common)?;
            // One stream is one descriptor; where the limit cannot be raised, the accept loop lives with it.
            let open_files = rlimit::increase_nofile_limit(u64::MAX);
            let wanted = config.limits.max_connections;
            if let Some(possible) = open_files.ok().and_then(|files| gateway::listen::fewer_connections(files, wanted))
            {
                warn!(
                    connections.possible = possible,
                    "this process may open files for {possible} connections, fewer than GATEWAY_MAX_CONNECTIONS ({wanted})"
                );
            }
            let address = config.listen.clone();
            let listener = address.listen().await.map_err(|error| StartError::Listen(address, error))?;
            gateway::run(config, listener, lifecycle).await
        }
    }
}
