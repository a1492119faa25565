//! Checks that Redis keeps what our promises rest on, before anything is entrusted to it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, InfoDict, RedisError, RedisResult, cmd};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::COMMAND_TIMEOUT;
use super::address::Node;
use super::connector::RedisConnector;
use super::diagnostics::{Diagnostics, REQUIRED, diagnose};
use crate::telemetry::FailureSeries;

/// Pause before the check is tried again at start.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How often every server is checked again: its settings can change while it runs, and with a restart.
const RECHECK_INTERVAL: Duration = Duration::from_mins(1);

/// How soon the check is repeated if a server did not answer.
const RECHECK_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// The servers that were checked, and the diagnostics of each.
#[derive(Debug, Default)]
pub struct PreflightReport(HashMap<Node, Diagnostics>);

/// Why Redis is not used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PreflightError {
    /// It may lose what it accepted.
    #[error("{0}. Change it, or start all the same with --allow-unsafe-redis (ALLOW_UNSAFE_REDIS=true)")]
    Settings(String),
    /// It wants another user or password.
    #[error("REDIS_URL: Redis refuses the user or the password, or the user may not do what is needed: {0}")]
    Login(RedisError),
    /// Its certificate is not one of a trusted authority.
    #[error("REDIS_URL, REDIS_CA_FILE: the certificate of Redis is not accepted: {0}")]
    Certificate(RedisError),
    /// It is of another kind than the URL says.
    #[error("REDIS_URL: {0}")]
    Kind(&'static str),
}

impl RedisConnector {
    /// Waits for Redis, and checks that every server that takes writes keeps what it accepts. From then on clients work. With
    /// `allow_unsafe` a violation is logged and nothing more.
    ///
    /// Returns the servers that were checked; [`RedisConnector::watch_settings`] checks those that were away. Returns at once
    /// when `stop` is cancelled.
    pub async fn wait_until_safe(
        &self,
        allow_unsafe: bool,
        stop: &CancellationToken,
    ) -> Result<PreflightReport, PreflightError> {
        let mut failures = FailureSeries::default();
        loop {
            let checked = tokio::select! {
                () = stop.cancelled() => return Ok(PreflightReport::default()),
                checked = self.check_all() => checked,
            };
            match checked {
                Ok(report) => {
                    self.approve(&report, allow_unsafe)?;
                    return Ok(report);
                }
                Err(error) => {
                    if let Some(permanent) = permanent_error(&error) {
                        return Err(permanent);
                    }
                    if failures.failed() {
                        warn!(error = %error, "waiting for Redis: {error}");
                    }
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    fn approve(&self, report: &PreflightReport, allow_unsafe: bool) -> Result<(), PreflightError> {
        let mut diagnostics = Diagnostics::default();
        for server in report.0.values() {
            diagnostics.merge(server.clone());
        }
        if let Some(kind) = diagnostics.wrong_kind {
            return Err(PreflightError::Kind(kind));
        }
        warn_of(&diagnostics.warnings);
        if allow_unsafe {
            warn_of(&diagnostics.violations);
        } else if !diagnostics.violations.is_empty() {
            return Err(PreflightError::Settings(diagnostics.violations.join("; ")));
        }
        self.approved.store(true, Ordering::Release);
        Ok(())
    }

    /// Checks each server that takes writes when it becomes one, and again every minute, and logs new violations, until `stop`
    /// is cancelled. It does not stop a process that runs.
    pub async fn watch_settings(&self, mut report: PreflightReport, stop: &CancellationToken) {
        let mut topology = self.watch_topology();
        while !stop.is_cancelled() {
            for violation in self.recheck(&mut report).await {
                error!("{violation}");
            }
            let all_answered = self.nodes().iter().all(|node| report.0.contains_key(node));
            let pause = if all_answered {
                RECHECK_INTERVAL
            } else {
                RECHECK_AFTER_FAILURE
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = topology.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Checks every server that takes writes, and returns the violations that are not in `report` yet.
    ///
    /// A server that cannot be asked is removed from `report`: it may come back as another one.
    pub async fn recheck(&self, report: &mut PreflightReport) -> Vec<String> {
        let mut violations = Vec::new();
        for node in self.nodes() {
            let before = report.0.remove(&node);
            let Ok(diagnostics) = self.check(&node).await else {
                continue;
            };
            if before.as_ref() != Some(&diagnostics) {
                warn_of(&diagnostics.warnings);
                violations.extend(diagnostics.violations.iter().cloned());
            }
            report.0.insert(node, diagnostics);
        }
        violations
    }

    /// The diagnostics of all masters that can be reached; an error if none can.
    async fn check_all(&self) -> RedisResult<PreflightReport> {
        let (mut report, mut failure) = (PreflightReport::default(), None);
        for node in self.topology.find_nodes().await? {
            match self.check(&node).await {
                Ok(diagnostics) => {
                    report.0.insert(node, diagnostics);
                }
                Err(error) if permanent_error(&error).is_some() => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if report.0.is_empty() => Err(error),
            _ => Ok(report),
        }
    }

    async fn check(&self, node: &Node) -> RedisResult<Diagnostics> {
        let mut connection = self.topology.connections.dedicated(node, COMMAND_TIMEOUT).await?;
        let info: InfoDict = cmd("INFO").query_async(&mut connection).await?;
        let diagnostics = diagnose(&format!("Redis at {node}"), &info, &read_settings(&mut connection).await);
        let is_cluster = info.get::<String>("redis_mode").is_some_and(|mode| mode == "cluster");
        let is_replica = info.get::<String>("role").is_some_and(|role| role == "slave");
        let wrong_kind = if is_cluster && !self.topology.is_cluster() {
            Some("the server is part of a cluster: name it with redis+cluster://")
        } else if is_replica && !self.topology.has_failover() {
            Some("the server is a replica: name its master, or sentinels with redis+sentinel://")
        } else {
            None
        };
        Ok(Diagnostics {
            wrong_kind,
            ..diagnostics
        })
    }
}

/// The reason to give up, if waiting does not end `error`.
fn permanent_error(error: &RedisError) -> Option<PreflightError> {
    let says = |text: &str| error.detail().is_some_and(|detail| detail.contains(text));
    match error.kind() {
        ErrorKind::AuthenticationFailed => Some(PreflightError::Login(error.clone())),
        // The driver does not know NOAUTH and WRONGPASS.
        _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
            Some(PreflightError::Login(error.clone()))
        }
        ErrorKind::Io if error.to_string().contains("certificate") => Some(PreflightError::Certificate(error.clone())),
        ErrorKind::Server(_) if says("cluster support disabled") => {
            Some(PreflightError::Kind("the server is not part of a cluster, which redis+cluster:// is for"))
        }
        ErrorKind::Server(_) if says("unknown command 'SENTINEL'") => {
            Some(PreflightError::Kind("the server is no sentinel, which redis+sentinel:// is for"))
        }
        _ => None,
    }
}

/// The required settings, by name; empty if the user may not read them.
async fn read_settings(connection: &mut MultiplexedConnection) -> HashMap<String, String> {
    let mut config = cmd("CONFIG");
    config.arg("GET").arg("maxmemory-clients");
    for required in REQUIRED {
        config.arg(required.setting);
    }
    config.query_async(connection).await.unwrap_or_default()
}

fn warn_of(sentences: &[String]) {
    for sentence in sentences {
        warn!("{sentence}");
    }
}
