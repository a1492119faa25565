//! nginx with the module nchan, to compare with: two workers, all messages in memory.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rig::programs::{command_ended_by, system_program};
use rig::{Failure, Process, Result, eventually, free_port};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::plan::Plan;
use crate::target::{ServerKind, Target};

/// Path of the module in Debian's package libnginx-mod-nchan.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
/// Longest time until nginx listens.
const START_WITHIN: Duration = Duration::from_secs(10);
/// Connections of a worker besides its streams.
const OTHER_CONNECTIONS: usize = 1_024;

/// A running nginx, stopped when the value is dropped.
pub struct Nchan {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Nchan {
    /// Starts nginx with enough connections for so many streams.
    pub async fn start(streams: usize) -> Result<Self> {
        if !Path::new(MODULE).is_file() {
            return Err(Failure::new("there is no nchan: run 'deploy/install.sh nchan'"));
        }
        let program = nginx()?;
        let directory = TempDir::with_prefix("nchan-")?;
        let port = free_port()?;
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration(directory.path(), port, streams + OTHER_CONNECTIONS))?;
        let log = fs::File::create(directory.path().join("error.log"))?;
        // nginx's master ends its workers at SIGTERM; killed, it would leave them running.
        let child = command_ended_by("TERM", &program)
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut nchan = Self {
            child,
            port,
            _directory: directory,
        };
        nchan.wait_ready().await?;
        Ok(nchan)
    }

    /// nginx as the server under load, with the rooms of `plan`.
    #[must_use]
    pub fn target(&self, plan: &Plan) -> Target {
        Target {
            kind: ServerKind::Nchan,
            addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))],
            tokens: Vec::new(),
            user_rooms: None,
            rooms: (0..plan.rooms).map(|room| format!("load-{room}")).collect(),
            other_entries: Vec::new(),
            processes: vec![Process {
                name: "nginx".to_owned(),
                pid: self.child.id(),
            }],
            logs: Vec::new(),
        }
    }

    async fn wait_ready(&mut self) -> Result<()> {
        eventually(START_WITHIN, "nginx listens", async || {
            if let Some(status) = self.child.try_wait()? {
                return Err(Failure::new(format!("nginx ended with {status}")));
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
            Ok(())
        })
        .await
    }
}

impl Drop for Nchan {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // nginx may have ended by itself. SIGTERM is its fast shutdown: the master ends its workers and waits for
            // them.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// Debian installs nginx where only root's `PATH` leads.
fn nginx() -> Result<PathBuf> {
    let usual = Path::new("/usr/sbin/nginx");
    if usual.is_file() {
        return Ok(usual.to_owned());
    }
    system_program("nginx", "nginx")
}

fn configuration(directory: &Path, port: u16, connections: usize) -> String {
    let directory = directory.display();
    format!(
        "load_module {MODULE};
daemon off;
worker_processes 2;
worker_rlimit_nofile {connections};
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  nchan_shared_memory_size 512m;
  server {{
    listen 127.0.0.1:{port} reuseport backlog=4096;
    location ~ ^/sub/(.+)$ {{
      nchan_subscriber eventsource;
      nchan_channel_id $1;
      nchan_subscriber_first_message newest;
    }}
    location ~ ^/pub/(.+)$ {{
      nchan_publisher;
      nchan_channel_id $1;
      nchan_message_buffer_length 100;
      nchan_message_timeout 60s;
    }}
  }}
}}
"
    )
}
