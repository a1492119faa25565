//! Settings of the worker.

use clap::{Parser, Subcommand};
use shared::settings::{LogArgs, RedisArgs, Secret, ShutdownArgs, StorageArgs};

/// Takes accepted messages from Redis, commits them to SQL in batches and republishes them.
#[derive(Debug, Clone, Parser)]
#[command(name = "fanout-worker", version)]
pub struct Config {
    #[expect(missing_docs, reason = "the help of a flattened group is that of its parts")]
    #[command(flatten)]
    pub storage: StorageArgs,

    #[expect(missing_docs, reason = "the help of a flattened group is that of its parts")]
    #[command(flatten)]
    pub redis: RedisArgs,

    #[expect(missing_docs, reason = "the help of a flattened group is that of its parts")]
    #[command(flatten)]
    pub shutdown: ShutdownArgs,

    #[expect(missing_docs, reason = "the help of a flattened group is that of its parts")]
    #[command(flatten)]
    pub log: LogArgs,

    /// What to do instead of running the worker.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of running the worker.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Apply database migrations and exit.
    Migrate,
    /// Copy an SQLite database into an empty Postgres database and exit. Stop every gateway and worker before.
    CopyDatabase {
        /// What is copied: `sqlite://<path>`.
        #[arg(long)]
        from: Secret,
        /// Where it goes: `postgres://[user:password@]host[:port]/database`.
        #[arg(long)]
        to: Secret,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn the_readme_lists_every_setting_as_it_is() {
        let readme = include_str!("../../README.md");
        let mut rows = shared::settings::readme_rows(&Config::command());
        rows.retain(|row| !readme.lines().any(|line| line == row));
        assert!(rows.is_empty(), "README.md lacks these rows:\n{}", rows.join("\n"));
    }
}
