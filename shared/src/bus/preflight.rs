//! Looks whether Redis keeps what our promises rest on, before it is trusted with anything.

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
use super::diagnostics::{Diagnostics, REQUIRED, judge};

/// Pause before Redis is tried again at start.
const PAUSE: Duration = Duration::from_millis(500);

/// How often every server is looked at again: its settings can be changed while it runs, and by a restart.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// The same while one of them could not be asked.
const RETRY: Duration = Duration::from_secs(2);

/// The servers that were looked at, and what was found there.
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
    /// It is not who it should be.
    #[error("REDIS_URL, REDIS_CA_FILE: the certificate of Redis is not accepted: {0}")]
    Certificate(RedisError),
    /// It is of another kind than the URL says.
    #[error("REDIS_URL: {0}")]
    Kind(&'static str),
}

impl RedisConnector {
    /// Waits for Redis, and looks whether every server that takes writes keeps what it accepts. From then on connections
    /// work. With `allow_unsafe` what is wrong is logged and nothing more.
    ///
    /// Returns the servers that were looked at; those that were away are left to [`RedisConnector::watch_settings`]. Returns at once
    /// when `stop` is cancelled.
    pub async fn wait_until_safe(
        &self,
        allow_unsafe: bool,
        stop: &CancellationToken,
    ) -> Result<PreflightReport, PreflightError> {
        let mut complained = false;
        loop {
            let found = tokio::select! {
                () = stop.cancelled() => return Ok(PreflightReport::default()),
                found = self.findings() => found,
            };
            match found {
                Ok(looked) => {
                    self.approve(&looked, allow_unsafe)?;
                    return Ok(looked);
                }
                Err(error) => {
                    if let Some(refusal) = hopeless(&error) {
                        return Err(refusal);
                    }
                    if !complained {
                        warn!(error = %error, "waiting for Redis: {error}");
                        complained = true;
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn approve(&self, looked: &PreflightReport, allow_unsafe: bool) -> Result<(), PreflightError> {
        let mut findings = Diagnostics::default();
        for found in looked.0.values() {
            findings.add(found.clone());
        }
        if let Some(kind) = findings.wrong_kind {
            return Err(PreflightError::Kind(kind));
        }
        report(&findings.doubtful);
        if allow_unsafe {
            report(&findings.broken);
        } else if !findings.broken.is_empty() {
            return Err(PreflightError::Settings(findings.broken.join("; ")));
        }
        self.approved.store(true, Ordering::Release);
        Ok(())
    }

    /// Looks at each server that takes writes when it becomes one, and again every minute, and logs what is newly wrong
    /// with it, until `stop` is cancelled. It does not stop a service that runs.
    pub async fn watch_settings(&self, mut looked: PreflightReport, stop: &CancellationToken) {
        let mut topology = self.watch_topology();
        while !stop.is_cancelled() {
            for finding in self.recheck(&mut looked).await {
                error!("{finding}");
            }
            let all_answered = self.nodes().iter().all(|node| looked.0.contains_key(node));
            let pause = if all_answered { LOOK_AGAIN } else { RETRY };
            tokio::select! {
                () = stop.cancelled() => {}
                () = topology.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks at every server that takes writes; returns what breaks a promise there and did not when it was `looked` at.
    ///
    /// One that cannot be asked now is forgotten: it may come back as another.
    pub async fn recheck(&self, looked: &mut PreflightReport) -> Vec<String> {
        let mut news = Vec::new();
        for node in self.nodes() {
            let before = looked.0.remove(&node);
            let Ok(findings) = self.findings_at(&node).await else {
                continue;
            };
            if before.as_ref() != Some(&findings) {
                report(&findings.doubtful);
                news.extend(findings.broken.iter().cloned());
            }
            looked.0.insert(node, findings);
        }
        news
    }

    /// The findings at all masters that can be reached; an error if none can.
    async fn findings(&self) -> RedisResult<PreflightReport> {
        let (mut looked, mut failure) = (PreflightReport::default(), None);
        for node in self.map.find_nodes().await? {
            match self.findings_at(&node).await {
                Ok(findings) => {
                    looked.0.insert(node, findings);
                }
                Err(error) if hopeless(&error).is_some() => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if looked.0.is_empty() => Err(error),
            _ => Ok(looked),
        }
    }

    async fn findings_at(&self, node: &Node) -> RedisResult<Diagnostics> {
        let mut connection = self.map.access.own(node, COMMAND_TIMEOUT).await?;
        let info: InfoDict = cmd("INFO").query_async(&mut connection).await?;
        let findings = judge(&format!("Redis at {node}"), &info, &settings(&mut connection).await);
        let is_cluster = info.get::<String>("redis_mode").is_some_and(|mode| mode == "cluster");
        let is_replica = info.get::<String>("role").is_some_and(|role| role == "slave");
        let wrong_kind = if is_cluster && !self.map.is_cluster() {
            Some("the server is part of a cluster: name it with redis+cluster://")
        } else if is_replica && !self.map.has_failover() {
            Some("the server is a replica: name its master, or sentinels with redis+sentinel://")
        } else {
            None
        };
        Ok(Diagnostics { wrong_kind, ..findings })
    }
}

/// The refusal behind an error that waiting does not end.
fn hopeless(error: &RedisError) -> Option<PreflightError> {
    let says = |text: &str| error.detail().is_some_and(|detail| detail.contains(text));
    match error.kind() {
        ErrorKind::AuthenticationFailed => Some(PreflightError::Login(error.clone())),
        // NOAUTH and WRONGPASS are not among those the driver knows.
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

/// The settings that are needed, by name; empty if they may not be read.
async fn settings(connection: &mut MultiplexedConnection) -> HashMap<String, String> {
    let mut config = cmd("CONFIG");
    config.arg("GET").arg("maxmemory-clients");
    for need in REQUIRED {
        config.arg(need.setting);
    }
    config.query_async(connection).await.unwrap_or_default()
}

fn report(findings: &[String]) {
    for finding in findings {
        warn!("{finding}");
    }
}
