//! `make run`: made easy for trying out where only this machine can reach it, and a public server anywhere else.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rig::App;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long everything may take to start, also while other tests use the machine.
const READY_WITHIN: Duration = Duration::from_mins(1);
const STOP_WITHIN: Duration = Duration::from_secs(30);

async fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port()
}

/// Starts the script with an address to listen on and returns what it said until it was ready.
async fn start(directory: &Path, listen: &str, redis_port: u16) -> (Child, String) {
    let binaries = rig::service_binary("gateway").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../run.sh");
    let mut child = Command::new("bash")
        .arg(script)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory)
        .env("BIN_DIR", binaries.parent().unwrap())
        .env("DATA_DIR", directory)
        .env("REDIS_PORT", redis_port.to_string())
        .env("GATEWAY_LISTEN", listen)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = String::new();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            said += &line;
            said.push('\n');
            if line.starts_with("Ready") {
                return true;
            }
        }
        false
    };
    assert!(timeout(READY_WITHIN, ready).await.unwrap_or(false), "it did not become ready:\n{said}");
    (child, said)
}

async fn stop(mut child: Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    timeout(STOP_WITHIN, child.wait()).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_made_easy_is_so_for_this_machine_alone() {
    for (host, is_easy) in [("127.0.0.1", true), ("0.0.0.0", false)] {
        let directory = tempfile::tempdir().unwrap();
        let (port, redis_port) = (free_port().await, free_port().await);
        let (child, said) = start(directory.path(), &format!("{host}:{port}"), redis_port).await;
        let app = App::at(&format!("http://127.0.0.1:{port}")).unwrap();
        let body = json!({"email": "test1", "username": "test1", "password": "test1", "public_id": "test1"});
        let easy = app.send_json("/user/", &body).await.unwrap();
        assert_eq!(easy.status(), if is_easy { 201 } else { 400 }, "{host}: {easy}");
        assert_eq!(said.contains("those of a public server"), !is_easy, "{said}");
        assert_eq!(said.contains("FIRST_USER_IS_ADMIN"), is_easy, "{said}");
        let first = if is_easy {
            app.with_token(easy.json().unwrap()["Authorization"].as_str().unwrap())
        } else {
            app.register("stranger").await.unwrap()
        };
        assert_eq!(first.get("/user/").await.unwrap().status(), if is_easy { 200 } else { 403 }, "{host}");
        // Every user of the machine reaches its Redis.
        let stranger = redis::Client::open(format!("redis://127.0.0.1:{redis_port}")).unwrap();
        let mut stranger = stranger.get_multiplexed_async_connection().await.unwrap();
        let refused = redis::cmd("KEYS").arg("*").query_async::<Vec<String>>(&mut stranger).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOAUTH"), "{refused}");
        let secret = std::fs::read_to_string(directory.path().join("redis/password")).unwrap();
        assert!(secret.len() == 64 && !said.contains(&secret), "{said}");
        stop(child).await;
    }
}
