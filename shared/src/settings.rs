//! Groups of settings that both binaries have, each from a flag or its environment variable.

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{Args, Parser, ValueEnum};

/// Exit code of a process that was started with settings it cannot use (`EX_USAGE` of BSD's sysexits).
pub const EXIT_USAGE: u8 = 64;

/// Parses a binary's settings from its command line and environment.
///
/// `Err` holds the exit code after help, version or an error was printed.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    let parsed = without_empty_settings(C::command()).try_get_matches();
    parsed.and_then(|mut matches| C::from_arg_matches_mut(&mut matches)).map_err(|error| {
        if error.use_stderr() {
            // clap explains over several lines; the error itself ends at the first empty one.
            let text = error.to_string();
            let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
            let line = lines.collect::<Vec<_>>().join(" ");
            print_error(C::command().get_name(), &line.trim_start_matches("error: "));
            ExitCode::from(EXIT_USAGE)
        } else {
            // Help or version: nothing is wrong if standard output is closed.
            let _ = error.print();
            ExitCode::SUCCESS
        }
    })
}

/// Treats an empty environment variable as unset: tools that pass variables on, such as compose, set all that they know.
fn without_empty_settings(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| {
        let is_empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if is_empty { arg.env(Resettable::Reset) } else { arg }
    })
}

/// Prints in one line why the process does not start.
pub fn print_error(process: &str, error: &dyn fmt::Display) {
    // If standard error is closed, there is no other place for it.
    let _ = writeln!(std::io::stderr(), "{process}: {error}");
}

/// Where messages, users and rooms are kept.
#[derive(Debug, Clone, Args)]
pub struct StorageArgs {
    /// Database: `sqlite://<path>` or `postgres://[user:password@]host[:port]/database`.
    ///
    /// A file that is not there is made only with `--create-database`. Postgres takes `?sslmode=verify-full&sslrootcert=<file>`.
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://.data/roomcast.db"
    )]
    pub database_url: Secret,

    /// Create the SQLite file and its directory if they do not exist, instead of refusing to start.
    #[arg(long, env = "CREATE_DATABASE")]
    pub create_database: bool,

    /// Partitions of the accept log; fixed when the installation is created.
    ///
    /// A room's messages travel through one of them. A running installation refuses another number.
    #[arg(long, env = "PARTITIONS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub partitions: u16,
}

/// Where accepted messages wait and travel.
#[derive(Debug, Clone, Args)]
pub struct RedisArgs {
    /// Redis: `redis://[user:password@]host:port[/db]`, with TLS `rediss://`; see deploy/docs/redis.md for Sentinel and Cluster.
    ///
    /// `redis+sentinel://[user:password@]host:port,host:port/<master name>[/db]` and
    /// `redis+cluster://[user:password@]host:port,host:port`, with TLS `rediss+sentinel` and `rediss+cluster`.
    #[arg(
        long,
        env = "REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379"
    )]
    pub redis_url: Secret,

    /// File with the certificates, in PEM, of the authorities that may sign Redis's; without it the public authorities.
    #[arg(long, env = "REDIS_CA_FILE")]
    pub redis_ca_file: Option<PathBuf>,

    /// Start although Redis may lose accepted messages, with a warning.
    #[arg(long, env = "ALLOW_UNSAFE_REDIS")]
    pub allow_unsafe_redis: bool,
}

#[cfg(any(test, feature = "testing"))]
impl RedisArgs {
    /// The Redis at `url`, everything else as it is by default.
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self {
            redis_url: url.into(),
            redis_ca_file: None,
            allow_unsafe_redis: false,
        }
    }
}

/// What is logged and how.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// What to log, as a `tracing` filter such as `info` or `gateway=debug,info`.
    #[arg(long = "log", env = "ROOMCAST_LOG", default_value = "info")]
    pub filter: String,

    /// How to write log lines to standard error.
    #[arg(long = "log-format", env = "ROOMCAST_LOG_FORMAT", value_enum, default_value = "json")]
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// Plain text, for people.
    Text,
}

/// How a process stops.
#[derive(Debug, Clone, Args)]
pub struct ShutdownArgs {
    /// Seconds from the first signal until the process ends, whatever still runs.
    #[arg(long, env = "SHUTDOWN_DEADLINE_S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub shutdown_deadline_s: u64,
}

impl ShutdownArgs {
    /// The deadline as a duration.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.shutdown_deadline_s)
    }
}

/// The settings that both binaries have.
#[derive(Debug, Clone, Args)]
pub struct BinaryArgs {
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
}

/// A setting that may hold a password. `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The URL without user, password and parameters, so that it may be shown.
    #[must_use]
    pub fn without_login(&self) -> String {
        let url = self.0.split('?').next().unwrap_or_default();
        match url.split_once("://") {
            Some((scheme, rest)) => {
                let location = rest.rsplit_once('@').map_or(rest, |(_, location)| location);
                format!("{scheme}://{location}")
            }
            None => "***".to_owned(),
        }
    }

    /// The value itself, for the one caller that uses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Ok(value.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The settings of `command` as a section of Markdown: each argument that has an environment variable, with its default and the
/// first line of its help. `deploy/docs/settings.md` is made of these sections.
#[must_use]
pub fn markdown_table(command: &clap::Command) -> String {
    let row = |arg: &clap::Arg| {
        let env = arg.get_env()?.to_string_lossy();
        let flag = arg.get_long().unwrap_or_default();
        let default = arg.get_default_values().first().map(|value| format!("`{}`", value.to_string_lossy()));
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        Some(format!("| `--{flag}` | `{env}` | {} | {help} |\n", default.unwrap_or_default()))
    };
    let rows: String = command.get_arguments().filter_map(row).collect();
    let name = command.get_name();
    format!("## {name}\n\n| flag | environment | default | meaning |\n|---|---|---|---|\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("postgres://me:p@ss@db.example.org:5432/chat?password=x", "postgres://db.example.org:5432/chat"),
            ("sqlite://.data/roomcast.db", "sqlite://.data/roomcast.db"),
            ("redis+sentinel://u:p@a:1,b:2/chat", "redis+sentinel://a:1,b:2/chat"),
            ("my password", "***"),
        ] {
            assert_eq!(Secret::from(url).without_login(), shown);
        }
    }
}
