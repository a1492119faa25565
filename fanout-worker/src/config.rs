//! Settings of the worker.

use clap::{Parser, Subcommand};
use shared::settings::{BinaryArgs, Secret};

/// Takes accepted messages from Redis, commits them to SQL in batches and republishes them.
#[derive(Debug, Clone, Parser)]
#[command(name = "fanout-worker", version = env!("ROOMCAST_VERSION"))]
pub struct Config {
    #[expect(missing_docs, reason = "the help of a flattened group is that of its parts")]
    #[command(flatten)]
    pub common: BinaryArgs,

    /// What to do instead of running the worker.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of running the worker.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print all settings as a Markdown table and exit.
    Settings,
    /// Apply database migrations and exit.
    Migrate,
    /// Begin a new epoch of history and exit, after both the database and Redis were restored from backups.
    ///
    /// All clients load their history anew. A database that was restored alone is noticed without it.
    NewEpoch,
    /// Copy an SQLite database into an empty Postgres database, or the other way, and exit. Stop every gateway and worker before.
    /// A copy that was broken off goes on where it ended.
    CopyDatabase {
        /// What is copied: `sqlite://<path>` or `postgres://[user:password@]host[:port]/database`.
        #[arg(long)]
        from: Secret,
        /// Where it goes: the other one of the two.
        #[arg(long)]
        to: Secret,
    },
    /// Look at accepted entries that could not be stored, and decide about them.
    #[command(subcommand)]
    DeadLetters(DeadLetterAction),
}

/// What to do with dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum DeadLetterAction {
    /// List them, oldest first, without what was written in them.
    List {
        /// Begin behind this id.
        #[arg(long, value_name = "ID", default_value_t = 0)]
        after: i64,
        /// List so many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Print one with all it holds.
    Show {
        /// Its id.
        id: i64,
    },
    /// Append them to the accept log again, to be stored after all.
    Replay {
        /// Their ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<i64>,
    },
    /// Throw them away.
    Drop {
        /// Their ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<i64>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn the_settings_page_is_up_to_date() {
        let page = include_str!("../../deploy/docs/settings.md");
        let section = shared::settings::markdown_table(&Config::command());
        assert!(page.contains(&section), "run `make settings`: deploy/docs/settings.md lacks\n{section}");
    }
}
