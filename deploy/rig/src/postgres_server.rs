//! A private Postgres with its durable defaults, which can be killed and started again.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tempfile::TempDir;
use tokio::process::Command;

use crate::eventually::eventually;
use crate::failure::{Explain as _, Failure, Result};
use crate::ports::free_port;
use crate::programs::find_in_path;
use crate::restartable_process::RestartableProcess;

/// How long a start may take: it replays the write-ahead log, after the last processes of a killed server have ended.
const START_WITHIN: Duration = Duration::from_secs(30);

/// How long one of the programs beside the server may run.
const PROGRAM_WITHIN: Duration = Duration::from_mins(1);

/// Where distributions keep the server's programs, outside of `PATH`: a directory a version.
const HOMES: [&str; 3] = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];

/// Postgres does not run as root; then it runs as one of these.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// A cluster of its own on a port of its own.
pub struct PostgresServer {
    /// The process itself.
    pub process: RestartableProcess,
    port: u16,
    /// It is outside of the directory of the test, which an unprivileged user cannot enter.
    _data: TempDir,
}

impl PostgresServer {
    /// Creates a cluster, starts it with its log under `directory` and waits until it answers.
    pub async fn start(directory: &Path) -> Result<Self> {
        let programs = programs()?;
        let home = TempDir::with_prefix("roomcast-postgres-")?;
        let user = if geteuid().is_root() {
            Some(unprivileged_user()?)
        } else {
            None
        };
        if let Some((_, uid, gid)) = &user {
            chown(home.path(), Some(*uid), Some(*gid))?;
        }
        let user = user.map(|(name, ..)| name);
        let data = home.path().join("data");
        make_cluster(&programs, &data, user.as_deref()).await?;
        let port = free_port()?;
        let (program, arguments) = server(&programs, &data, port, user.as_deref())?;
        let mut process = RestartableProcess::new("postgres", program, directory);
        for argument in arguments {
            process = process.argument(argument);
        }
        let mut server = Self {
            process,
            port,
            _data: home,
        };
        server.restart().await?;
        Ok(server)
    }

    /// Creates an empty database called `name` and returns its URL.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        let mut connection = self.connect("postgres").await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE \"{name}\""))).execute(&mut connection).await?;
        connection.close().await?;
        Ok(self.url(name))
    }

    /// Dumps the database called `name` into `file`, as it is at one moment.
    pub(crate) async fn dump(&self, name: &str, file: &Path) -> Result<()> {
        let arguments = ["--format=custom", "--dbname", &self.url(name), "--file"];
        run("pg_dump", &arguments, file).await
    }

    /// Creates the database called `name` anew from the dump in `file`.
    pub(crate) async fn replace(&self, name: &str, file: &Path) -> Result<()> {
        let mut connection = self.connect("postgres").await?;
        let drop = format!("DROP DATABASE \"{name}\" WITH (FORCE)");
        sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await?;
        connection.close().await?;
        let url = self.create_database(name).await?;
        run("pg_restore", &["--exit-on-error", "--dbname", &url], file).await
    }

    /// Creates a user called `name` with all rights, like the one that creates databases.
    pub(crate) async fn create_user(&self, name: &str) -> Result<()> {
        let mut connection = self.connect("postgres").await?;
        sqlx::query(AssertSqlSafe(format!("CREATE ROLE \"{name}\" SUPERUSER LOGIN")))
            .execute(&mut connection)
            .await?;
        Ok(connection.close().await?)
    }

    /// The URL of the database called `name`; `postgres` is always there.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("postgres://roomcast@127.0.0.1:{}/{name}", self.port)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// True until it is killed.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process.pid().is_ok()
    }

    /// A connection for inspecting its data.
    pub async fn connect(&self, name: &str) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.url(name)).await?)
    }

    /// SIGKILL, as when the machine loses power (its files survive).
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it (again) on the same port and data, and waits until it answers.
    pub async fn restart(&mut self) -> Result<()> {
        let url = self.url("postgres");
        let process = &mut self.process;
        eventually(START_WITHIN, "Postgres answers", async || {
            // The sessions of a killed server end by themselves a moment later, and no other server starts before.
            if process.pid().is_err() || process.check_runs().is_err() {
                process.start()?;
            }
            Ok(PgConnection::connect(&url).await?.close().await?)
        })
        .await
        .explain(|| process.log_end())
    }
}

/// The directory with `initdb` and `postgres`, of the newest version there is.
fn programs() -> Result<PathBuf> {
    if let Some(initdb) = find_in_path("initdb") {
        // It can be a symbolic link into the directory of the programs.
        let initdb = initdb.canonicalize()?;
        return Ok(initdb.parent().unwrap_or(Path::new("/")).to_owned());
    }
    let homes = HOMES.iter().filter_map(|home| fs::read_dir(home).ok()).flatten().flatten();
    let mut found: Vec<PathBuf> = homes.map(|home| home.path().join("bin")).collect();
    found.retain(|programs| programs.join("initdb").is_file() && programs.join("postgres").is_file());
    found.sort();
    found.pop().ok_or_else(|| Failure::new("there is no initdb: install the package postgresql"))
}

/// Runs one of the programs beside the server on `file`.
async fn run(program: &str, arguments: &[&str], file: &Path) -> Result<()> {
    run_to_end(program, Command::new(programs()?.join(program)).args(arguments).arg(file)).await
}

/// Runs `command`, called `program` in messages, to its end, which must be a success.
async fn run_to_end(program: &str, command: &mut Command) -> Result<()> {
    let output = tokio::time::timeout(PROGRAM_WITHIN, command.kill_on_drop(true).output()).await;
    let output = output.explain(|| format!("{program} did not end within {PROGRAM_WITHIN:?}"))??;
    if output.status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr))))
    }
}

/// Name, user id and group id of a user as whom Postgres may run.
fn unprivileged_user() -> Result<(String, u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    for name in UNPRIVILEGED {
        let of_user = users.lines().find(|line| line.split(':').next() == Some(name));
        if let Some([uid, gid]) = of_user.map(|line| [2, 3].map(|column| line.split(':').nth(column).unwrap_or(""))) {
            return Ok((name.to_owned(), uid.parse()?, gid.parse()?));
        }
    }
    Err(Failure::new("there is neither a user postgres nor nobody to run Postgres as"))
}

async fn make_cluster(programs: &Path, data: &Path, user: Option<&str>) -> Result<()> {
    let (program, before) = as_user(programs.join("initdb"), user)?;
    let mut command = Command::new(program);
    command
        .args(before)
        .args([
            "--username=roomcast",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ])
        .arg("--pgdata")
        .arg(data)
        .current_dir("/");
    run_to_end("initdb", &mut command).await
}

/// The program that becomes the server, under the same process id, with its arguments.
fn server(programs: &Path, data: &Path, port: u16, user: Option<&str>) -> Result<(PathBuf, Vec<String>)> {
    let (program, mut arguments) = as_user(programs.join("postgres"), user)?;
    arguments.extend([
        "-D".to_owned(),
        data.display().to_string(),
        "-p".to_owned(),
        port.to_string(),
    ]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=200",
    ] {
        arguments.extend(["-c".to_owned(), setting.to_owned()]);
    }
    Ok((program, arguments))
}

/// `program` with the arguments that make it run as `user`, if one is given.
fn as_user(program: PathBuf, user: Option<&str>) -> Result<(PathBuf, Vec<String>)> {
    let Some(user) = user else {
        return Ok((program, Vec::new()));
    };
    let setpriv = find_in_path("setpriv").ok_or_else(|| Failure::new("there is no setpriv: install util-linux"))?;
    let mut arguments = vec![format!("--reuid={user}"), format!("--regid={user}")];
    // Set again, because the kernel clears it when the user changes.
    arguments.extend(["--clear-groups", "--pdeathsig=KILL", "--"].map(str::to_owned));
    arguments.push(program.display().to_string());
    Ok((setpriv, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn committed_tables_survive_a_kill() -> Result<()> {
        let directory = TempDir::new()?;
        let mut server = PostgresServer::start(directory.path()).await?;
        server.create_database("chat").await?;
        sqlx::query("CREATE TABLE kept (n int)").execute(&mut server.connect("chat").await?).await?;
        server.kill()?;
        server.restart().await?;
        let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE tablename = 'kept'")
            .fetch_one(&mut server.connect("chat").await?)
            .await?;
        assert_eq!(tables, 1);
        Ok(())
    }
}
