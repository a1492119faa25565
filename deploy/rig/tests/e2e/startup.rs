//! Start-up of the programs: settings, unusable databases, and servers that are not reachable.

use std::path::Path;
use std::process::Output;

use rig::{Backend, Failure, PostgresServer, Stack, eventually, service_binary};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::fixture::{SOON, with_lobby};

/// Connections to an unreachable database after which the service counts as retrying.
const TRIES: usize = 6;

/// Every variable of the two programs: tests of both compare the settings page with their help texts.
fn variables() -> impl Iterator<Item = &'static str> {
    let rows = include_str!("../../../docs/settings.md").lines().filter(|line| line.starts_with("| `--"));
    rows.filter_map(|row| Some(row.split('|').nth(2)?.trim().trim_matches('`')))
}

/// Runs `line` in `directory` to its end, with these variables and no others.
async fn run(line: &str, directory: &Path, settings: &[(&str, &str)]) -> Output {
    let mut words = line.split(' ');
    let program = service_binary(words.next().unwrap()).unwrap();
    let mut command = Command::new(program);
    // So few that the limit of open files causes no warning.
    command.env_clear().env("GATEWAY_MAX_CONNECTIONS", "100");
    command.args(words).envs(settings.iter().copied()).current_dir(directory).kill_on_drop(true);
    timeout(SOON, command.output()).await.expect("it ends").unwrap()
}

/// Runs `line`, which must be refused with one line that contains `why`.
async fn check_refusal(line: &str, directory: &Path, settings: &[(&str, &str)], why: &str) {
    let output = run(line, directory, settings).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{line}: {error}");
    assert!(error.contains(why) && error.trim_end().lines().count() == 1, "{line}: {error}");
}

#[tokio::test]
async fn empty_variables_count_as_unset() {
    let directory = TempDir::new().unwrap();
    let empty: Vec<(&str, &str)> = variables().map(|variable| (variable, "")).collect();
    assert!(empty.len() > 30 && empty.contains(&("TRUSTED_PROXIES", "")), "{empty:?}");
    // If one of them counted as set, the error would be about it, and not about the missing default file.
    let why = "there is no database file .data/roomcast.db: ";
    for line in ["gateway grant-admin ann", "fanout-worker migrate", "fanout-worker"] {
        check_refusal(line, directory.path(), &empty, why).await;
    }
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "nothing was created");
}

#[tokio::test]
async fn database_file_is_created_only_on_request() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("chat.db");
    let url = format!("sqlite://{}", file.display());
    let settings = [("DATABASE_URL", url.as_str()), ("GATEWAY_LISTEN", "127.0.0.1:0")];
    let why = format!("there is no database file {}: ", file.display());
    for line in ["gateway", "fanout-worker"] {
        check_refusal(line, directory.path(), &settings, &why).await;
        assert!(!file.exists());
    }
    let made = run("fanout-worker --create-database migrate", directory.path(), &settings).await;
    assert!(made.status.success() && file.exists(), "{made:?}");
}

/// The binaries name the commit of the repository they were built in, or none.
#[tokio::test]
async fn both_programs_print_the_same_version() {
    let directory = TempDir::new().unwrap();
    let mut versions = Vec::new();
    for program in ["gateway", "fanout-worker"] {
        let output = run(&format!("{program} --version"), directory.path(), &[]).await;
        let version = String::from_utf8(output.stdout).unwrap();
        versions.push(version.strip_prefix(&format!("{program} ")).unwrap().trim_end().to_owned());
    }
    assert_eq!(versions[0], versions[1]);
    let (number, commit) = versions[0].split_once(' ').unzip();
    let is_commit = |raw: &str| {
        let digits = raw.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap();
        digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    assert_eq!(number.unwrap_or(&versions[0]), env!("CARGO_PKG_VERSION"));
    assert!(commit.is_none_or(is_commit), "{versions:?}");
}

#[tokio::test]
async fn databases_in_other_encodings_are_refused() {
    let directory = TempDir::new().unwrap();
    let postgres = PostgresServer::start(directory.path()).await.unwrap();
    let mut connection = postgres.connect("postgres").await.unwrap();
    let latin = "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    sqlx::query(latin).execute(&mut connection).await.unwrap();
    let latin = postgres.url("latin");

    let file = directory.path().join("utf16.db");
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql("PRAGMA encoding = 'UTF-16le'; CREATE TABLE something (n)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let utf16 = format!("sqlite://{}", file.display());

    for (url, encoding) in [(&latin, "LATIN1"), (&utf16, "UTF-16le")] {
        let settings = [("DATABASE_URL", url.as_str()), ("GATEWAY_LISTEN", "127.0.0.1:0")];
        let why = format!("the database is encoded in {encoding} and cannot hold every message");
        for line in [
            "gateway",
            "gateway grant-admin ann",
            "fanout-worker",
            "fanout-worker migrate",
        ] {
            check_refusal(line, directory.path(), &settings, &why).await;
        }
    }
    let source = format!("sqlite://{}", directory.path().join("good.db").display());
    let made = run("fanout-worker --create-database migrate", directory.path(), &[("DATABASE_URL", &source)]).await;
    assert!(made.status.success(), "{made:?}");
    let copy = format!("fanout-worker copy-database --from {source} --to {latin}");
    check_refusal(&copy, directory.path(), &[], "the database is encoded in LATIN1").await;
}

#[tokio::test]
async fn services_start_while_the_database_is_locked() {
    let (mut stack, ann) = with_lobby(Stack::start().await.unwrap()).await;
    assert_eq!(stack.gateways[0].process.stop(SOON).await.unwrap(), 0);
    assert_eq!(stack.worker.process.stop(SOON).await.unwrap(), 0);
    let mut writer = SqliteConnection::connect(stack.database_url()).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut writer).await.unwrap();

    stack.worker.start().unwrap();
    stack.gateways[0].start().unwrap();
    for process in [&stack.worker.process, &stack.gateways[0].process] {
        eventually(SOON, "the service logs its second start", async || {
            let starts = process.log().matches("starts for installation").count();
            (starts == 2).then_some(()).ok_or_else(|| Failure::new(format!("{starts} times")))
        })
        .await
        .unwrap();
    }
    eventually(SOON, "the gateway serves", async || ann.history("lobby", "").await.map(drop))
        .await
        .unwrap();

    sqlx::raw_sql("ROLLBACK").execute(&mut writer).await.unwrap();
    stack.wait_ready().await.unwrap();
    let mut stream = ann.stream("lobby").open().await.unwrap();
    ann.post("lobby", "after the lock").await.unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["message"], "after the lock");
}

#[tokio::test]
async fn services_wait_for_unreachable_database_and_log_once() {
    let builder = Stack::builder().backend(Backend::Postgres);
    let (mut stack, ann) = with_lobby(builder.start().await.unwrap()).await;
    assert_eq!(stack.gateways[0].process.stop(SOON).await.unwrap(), 0);
    assert_eq!(stack.worker.process.stop(SOON).await.unwrap(), 0);
    let postgres = stack.postgres.as_mut().unwrap();
    postgres.kill().unwrap();
    let port = postgres.port();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();

    // One process at a time, so that the connections are known to be its own.
    for is_worker in [true, false] {
        let process = if is_worker {
            &mut stack.worker.process
        } else {
            &mut stack.gateways[0].process
        };
        process.start().unwrap();
        for _ in 0..TRIES {
            timeout(SOON, listener.accept()).await.expect("it tries again").unwrap();
        }
        let log = process.log();
        assert_eq!(log.matches("waiting for the database").count(), 1, "{log}");
        let line = log.lines().find(|line| line.contains("waiting for the database")).unwrap();
        assert!(line.contains(&format!("127.0.0.1:{port}/")) && line.contains("DATABASE_URL"), "{line}");
        assert_eq!(process.stop(SOON).await.unwrap(), 0, "it can be stopped while it waits");
    }
    stack.worker.start().unwrap();
    stack.gateways[0].start().unwrap();
    for process in [&stack.worker.process, &stack.gateways[0].process] {
        eventually(SOON, "it waits again", async || {
            let times = process.log().matches("waiting for the database").count();
            (times == 2).then_some(()).ok_or_else(|| Failure::new(format!("{times} times")))
        })
        .await
        .unwrap();
    }
    drop(listener);
    stack.postgres.as_mut().unwrap().restart().await.unwrap();
    stack.wait_ready().await.unwrap();
    ann.post("lobby", "after the outage").await.unwrap();
}
