//! A Redis client that many tasks share and that routes each command to the server of its key, whatever the topology.
//!
//! It keeps one self-healing connection per server, a [`PipelineBatcher`], and sends each command to the server that owns the
//! command's key at that moment. It sends a command a second time only when the server itself said that it did not run it. When
//! a reply is lost, it is unknown whether the command ran, and the caller gets that error: a message that the client appended a
//! second time on its own could come after one that its sender posted later.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value};
use tokio::time::{Instant, sleep};

use super::COMMAND_TIMEOUT;
use super::address::Node;
use super::command_keys::{key_of, name_of};
use super::errors::{is_retryable, redirect_target};
use super::key_space::KeySpace;
use super::pipeline::PipelineBatcher;
use super::slots::slot_of;
use super::topology::Topology;

/// Pause before the client sends a command again that a server refused while another one takes over.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The slot of commands without a key.
const ANY_SLOT: u16 = 0;

/// A shared, self-routing client of the installation's Redis. Clones share its connections.
#[derive(Clone)]
pub struct RedisClient {
    topology: Arc<Topology>,
    keys: Arc<KeySpace>,
    /// Set once the preflight check has found that the servers keep what they accept.
    approved: Arc<AtomicBool>,
    batchers: Arc<Mutex<HashMap<Node, PipelineBatcher>>>,
}

impl RedisClient {
    pub(super) fn new(topology: Arc<Topology>, keys: Arc<KeySpace>, approved: Arc<AtomicBool>) -> Self {
        Self {
            topology,
            keys,
            approved,
            batchers: Arc::default(),
        }
    }

    /// The names of the installation.
    #[must_use]
    pub fn key_space(&self) -> &Arc<KeySpace> {
        &self.keys
    }

    /// Fails if `command` names a key or a channel that is not one of the installation's.
    fn check_name(&self, command: &Cmd) -> RedisResult<()> {
        match name_of(command)? {
            Some(name) if !self.keys.owns(name) => {
                let name = String::from_utf8_lossy(name).into_owned();
                Err((ErrorKind::Client, "this name is not one of the installation's", name).into())
            }
            _ => Ok(()),
        }
    }

    /// Runs a command at the server of its key, and again, for up to [`COMMAND_TIMEOUT`], while a failover refuses it.
    async fn run(&self, command: &Cmd) -> RedisResult<Value> {
        self.check_approved()?;
        self.check_name(command)?;
        let (slot, until) = (slot_for(command)?, Instant::now() + COMMAND_TIMEOUT);
        let mut redirected = None;
        loop {
            let node = redirected.take().map_or_else(|| self.topology.node_of(slot), Ok);
            let outcome = match node {
                Ok(node) => self.run_at(&node, command).await,
                Err(error) => Err(error),
            };
            let error = match outcome {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            self.topology.note_error(&error);
            if !self.topology.has_failover() || !is_retryable(&error) || Instant::now() >= until {
                return Err(error);
            }
            redirected = redirect_target(&error, ServerErrorKind::Moved);
            if redirected.is_none() {
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn run_at(&self, node: &Node, command: &Cmd) -> RedisResult<Value> {
        let outcome = self.send(node, command).await;
        match outcome.as_ref().err().and_then(|error| redirect_target(error, ServerErrorKind::Ask)) {
            Some(importing) => self.run_while_importing(&importing, command).await,
            None => outcome,
        }
    }

    async fn send(&self, node: &Node, command: &Cmd) -> RedisResult<Value> {
        let batcher = self.batcher_of(node)?;
        let outcome = batcher.run(command.clone()).await;
        self.drop_unusable(node, &batcher, outcome.as_ref().err());
        outcome?.extract_error()
    }

    /// Runs a command whose key has already moved to the server that imports its slot.
    async fn run_while_importing(&self, node: &Node, command: &Cmd) -> RedisResult<Value> {
        let mut both = redis::pipe();
        both.cmd("ASKING").add_command(command.clone());
        let values = self.batcher_of(node)?.connection.req_packed_commands(&both, 0, 2).await?;
        values.into_iter().next_back().unwrap_or(Value::Nil).extract_error()
    }

    /// Runs a command on every server that takes writes, and returns what each of them answered.
    pub async fn run_on_each(&self, command: &Cmd) -> Vec<RedisResult<Value>> {
        let nodes = self.topology.nodes();
        join_all(nodes.iter().map(|node| async {
            self.check_approved()?;
            self.send(node, command).await.inspect_err(|error| self.topology.note_error(error))
        }))
        .await
    }

    /// Runs a command on every server. It succeeds if one of them ran it, since the others may be away.
    async fn run_everywhere(&self, command: &Cmd) -> RedisResult<Value> {
        let outcomes = self.run_on_each(command).await.into_iter();
        let unknown = (ErrorKind::ClusterConnectionNotFound, "no server is known that takes writes");
        outcomes.reduce(Result::or).unwrap_or_else(|| Err(unknown.into()))
    }

    /// Runs a pipeline that may name keys of several servers. Its parts are sent concurrently, and none is sent again.
    async fn run_parts(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        self.check_approved()?;
        pipeline.cmd_iter().try_for_each(|command| self.check_name(command))?;
        let commands: Vec<&Cmd> = pipeline.cmd_iter().collect();
        let (parts, commands) = (split(pipeline)?, commands.as_slice());
        let sent = parts.iter().map(|(slot, indices)| async move {
            let mut part = redis::pipe();
            for index in indices {
                part.add_command(commands[*index].clone());
            }
            let node = self.topology.node_of(*slot)?;
            let mut batcher = self.batcher_of(&node)?;
            let outcome = batcher.connection.req_packed_commands(&part, 0, indices.len()).await;
            self.drop_unusable(&node, &batcher, outcome.as_ref().err());
            outcome
        });
        let mut values = vec![Value::Nil; commands.len()];
        let mut failure = None;
        for (outcome, indices) in join_all(sent).await.into_iter().zip(parts.values()) {
            match outcome {
                Ok(part) => part.into_iter().zip(indices).for_each(|(value, index)| {
                    if let Value::ServerError(error) = &value {
                        self.topology.note_error(&error.clone().into());
                    }
                    values[*index] = value;
                }),
                Err(error) => {
                    self.topology.note_error(&error);
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(values), Err)
    }

    /// The batcher of `node`, created if there is none. Connections to servers that have left the installation are closed.
    fn batcher_of(&self, node: &Node) -> RedisResult<PipelineBatcher> {
        let mut batchers = self.batchers.lock();
        if let Some(batcher) = batchers.get(node) {
            return Ok(batcher.clone());
        }
        let nodes = self.topology.nodes();
        batchers.retain(|node, _| nodes.contains(node));
        let batcher = PipelineBatcher::new(self.topology.connections.managed(node)?);
        batchers.insert(node.clone(), batcher.clone());
        Ok(batcher)
    }

    /// Drops a connection that could not be set up, as with a wrong password: the driver repairs only connections that break.
    fn drop_unusable(&self, node: &Node, batcher: &PipelineBatcher, error: Option<&RedisError>) {
        if error.is_none_or(RedisError::is_io_error) {
            return;
        }
        let mut batchers = self.batchers.lock();
        // Another task whose command failed on it may have dropped it already.
        if batchers.get(node).is_some_and(|known| known.is(batcher)) {
            batchers.remove(node);
        }
    }

    fn check_approved(&self) -> RedisResult<()> {
        if self.approved.load(Ordering::Acquire) {
            return Ok(());
        }
        Err((ErrorKind::Client, "Redis was not reached yet, or does not keep what it accepts").into())
    }
}

impl ConnectionLike for RedisClient {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let script = command.args_iter().next() == Some(redis::Arg::Simple(b"SCRIPT"));
        if script {
            self.run_everywhere(command).boxed()
        } else {
            self.run(command).boxed()
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        if self.topology.is_cluster() {
            return self.run_parts(pipeline).boxed();
        }
        async move {
            self.check_approved()?;
            pipeline.cmd_iter().try_for_each(|command| self.check_name(command))?;
            let node = self.topology.node_of(ANY_SLOT)?;
            let mut batcher = self.batcher_of(&node)?;
            let outcome = batcher.connection.req_packed_commands(pipeline, offset, count).await;
            self.drop_unusable(&node, &batcher, outcome.as_ref().err());
            outcome.inspect_err(|error| self.topology.note_error(error))
        }
        .boxed()
    }

    /// This client does not know its database, and the driver's commands do not ask for it.
    fn get_db(&self) -> i64 {
        0
    }
}

/// The slot by which a command finds its server.
fn slot_for(command: &Cmd) -> RedisResult<u16> {
    Ok(key_of(command)?.map_or(ANY_SLOT, slot_of))
}

/// The indices of a pipeline's commands by slot. Every part loads the scripts, since each goes to another server.
fn split(pipeline: &Pipeline) -> RedisResult<BTreeMap<u16, Vec<usize>>> {
    let mut parts: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    let mut everywhere = Vec::new();
    for (index, command) in pipeline.cmd_iter().enumerate() {
        if command.args_iter().next() == Some(redis::Arg::Simple(b"SCRIPT")) {
            everywhere.push(index);
        } else {
            parts.entry(slot_for(command)?).or_default().push(index);
        }
    }
    for indices in parts.values_mut() {
        indices.splice(0..0, everywhere.iter().copied());
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use redis::{cmd, pipe};

    use super::*;

    #[test]
    fn pipeline_is_split_by_slot_and_keeps_its_scripts() {
        let mut pipeline = pipe();
        pipeline.cmd("SCRIPT").arg("LOAD").arg("return 1");
        for key in ["{a}1", "{b}1", "{a}2"] {
            pipeline.add_command(cmd("XLEN").arg(key).clone());
        }
        let parts = split(&pipeline).unwrap();
        assert_eq!(parts[&slot_of(b"a")], [0, 1, 3]);
        assert_eq!(parts[&slot_of(b"b")], [0, 2]);
    }
}
