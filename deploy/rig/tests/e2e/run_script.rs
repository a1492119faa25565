//! `make run`: settings are relaxed for trying out if only this machine can reach it, and those of a public server otherwise.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rig::ApiClient;
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

/// Starts the script with an address to listen on and returns what it printed until it was ready.
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
    let mut printed = String::new();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            printed += &line;
            printed.push('\n');
            if line.starts_with("Ready") {
                return true;
            }
        }
        false
    };
    assert!(timeout(READY_WITHIN, ready).await.unwrap_or(false), "it did not become ready:\n{printed}");
    (child, printed)
}

async fn stop(mut child: Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    timeout(STOP_WITHIN, child.wait()).await.unwrap().unwrap();
}

#[tokio::test]
async fn relaxed_settings_apply_to_loopback_only() {
    for (host, is_relaxed) in [("127.0.0.1", true), ("0.0.0.0", false)] {
        let directory = tempfile::tempdir().unwrap();
        let (port, redis_port) = (free_port().await, free_port().await);
        let (child, printed) = start(directory.path(), &format!("{host}:{port}"), redis_port).await;
        let client = ApiClient::at(&format!("http://127.0.0.1:{port}")).unwrap();
        let body = json!({"email": "test1", "username": "test1", "password": "test1", "public_id": "test1"});
        let registered = client.send_json("/user/", &body).await.unwrap();
        assert_eq!(registered.status(), if is_relaxed { 201 } else { 400 }, "{host}: {registered}");
        assert_eq!(printed.contains("those of a public server"), !is_relaxed, "{printed}");
        assert_eq!(printed.contains("FIRST_USER_IS_ADMIN"), is_relaxed, "{printed}");
        let first = if is_relaxed {
            client.with_token(registered.json().unwrap()["Authorization"].as_str().unwrap())
        } else {
            client.register("newcomer").await.unwrap()
        };
        assert_eq!(first.get("/user/").await.unwrap().status(), if is_relaxed { 200 } else { 403 }, "{host}");
        // Every user of the machine can connect to its Redis, and is refused without the password.
        let other_user = redis::Client::open(format!("redis://127.0.0.1:{redis_port}")).unwrap();
        let mut other_user = other_user.get_multiplexed_async_connection().await.unwrap();
        let refused = redis::cmd("KEYS").arg("*").query_async::<Vec<String>>(&mut other_user).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOAUTH"), "{refused}");
        let secret = std::fs::read_to_string(directory.path().join("redis/password")).unwrap();
        assert!(secret.len() == 64 && !printed.contains(&secret), "{printed}");
        stop(child).await;
    }
}
