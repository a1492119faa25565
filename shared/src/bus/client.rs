//! A connection that many tasks share, whatever the topology.
//!
//! It keeps one self-healing connection per server, a [`PipelineBatcher`], and sends each command to the one that serves its key now. A
//! command is sent again only when the server itself said that it did not run it. When a reply is lost, nobody knows, and the
//! caller is told so: were a message appended a second time behind our back, it could come after one that its sender
//! posted later.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value};
use tokio::time::{Instant, sleep};

use super::COMMAND_TIMEOUT;
use super::address::Node;
use super::errors::{is_retryable, redirect_target};
use super::key_space::KeySpace;
use super::pipeline::PipelineBatcher;
use super::slots::{key_of, name_of, slot_of};
use super::topology::Topology;

/// Pause before a command is sent again that was refused while another server takes over.
const PAUSE: Duration = Duration::from_millis(50);

/// The slot of commands without a key.
const ANY_SLOT: u16 = 0;

/// A shared connection. Clones share it.
#[derive(Clone)]
pub struct RedisClient {
    map: Arc<Topology>,
    keys: Arc<KeySpace>,
    /// Set once the servers were found to keep what they accept.
    approved: Arc<AtomicBool>,
    lanes: Arc<Mutex<HashMap<Node, PipelineBatcher>>>,
}

impl RedisClient {
    pub(super) fn new(map: Arc<Topology>, keys: Arc<KeySpace>, approved: Arc<AtomicBool>) -> Self {
        Self {
            map,
            keys,
            approved,
            lanes: Arc::default(),
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

    /// Runs a command where its key is; again, for up to [`COMMAND_TIMEOUT`], while a takeover refuses it.
    async fn run(&self, command: &Cmd) -> RedisResult<Value> {
        self.check_approved()?;
        self.check_name(command)?;
        let (slot, until) = (slot_for(command)?, Instant::now() + COMMAND_TIMEOUT);
        let mut redirected = None;
        loop {
            let node = redirected.take().map_or_else(|| self.map.node_of(slot), Ok);
            let outcome = match node {
                Ok(node) => self.run_at(&node, command).await,
                Err(error) => Err(error),
            };
            let error = match outcome {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            self.map.note_error(&error);
            if !self.map.has_failover() || !is_retryable(&error) || Instant::now() >= until {
                return Err(error);
            }
            redirected = redirect_target(&error, ServerErrorKind::Moved);
            if redirected.is_none() {
                sleep(PAUSE).await;
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
        let lane = self.lane(node)?;
        let outcome = lane.run(command.clone()).await;
        self.forget_unusable(node, &lane, outcome.as_ref().err());
        outcome?.extract_error()
    }

    /// Runs a command whose key has gone ahead of its slot to the server that the slot is being moved to.
    async fn run_while_importing(&self, node: &Node, command: &Cmd) -> RedisResult<Value> {
        let mut both = redis::pipe();
        both.cmd("ASKING").add_command(command.clone());
        let values = self.lane(node)?.connection.req_packed_commands(&both, 0, 2).await?;
        values.into_iter().next_back().unwrap_or(Value::Nil).extract_error()
    }

    /// Runs a command on every server that takes writes, and returns what each of them answered.
    pub async fn run_on_each(&self, command: &Cmd) -> Vec<RedisResult<Value>> {
        let nodes = self.map.nodes();
        join_all(nodes.iter().map(|node| async {
            self.check_approved()?;
            self.send(node, command).await.inspect_err(|error| self.map.note_error(error))
        }))
        .await
    }

    /// Runs a command on every server; succeeds if one of them did, since the others may be away.
    async fn run_everywhere(&self, command: &Cmd) -> RedisResult<Value> {
        let outcomes = self.run_on_each(command).await.into_iter();
        let unknown = (ErrorKind::ClusterConnectionNotFound, "no server is known that takes writes");
        outcomes.reduce(Result::or).unwrap_or_else(|| Err(unknown.into()))
    }

    /// Runs a pipeline that may name keys of several servers; its parts go out side by side. None is sent again.
    async fn run_parts(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        self.check_approved()?;
        pipeline.cmd_iter().try_for_each(|command| self.check_name(command))?;
        let commands: Vec<&Cmd> = pipeline.cmd_iter().collect();
        let (parts, commands) = (split(pipeline)?, commands.as_slice());
        let sent = parts.iter().map(|(slot, places)| async move {
            let mut part = redis::pipe();
            for place in places {
                part.add_command(commands[*place].clone());
            }
            let node = self.map.node_of(*slot)?;
            let mut lane = self.lane(&node)?;
            let outcome = lane.connection.req_packed_commands(&part, 0, places.len()).await;
            self.forget_unusable(&node, &lane, outcome.as_ref().err());
            outcome
        });
        let mut values = vec![Value::Nil; commands.len()];
        let mut failure = None;
        for (outcome, places) in join_all(sent).await.into_iter().zip(parts.values()) {
            match outcome {
                Ok(part) => part.into_iter().zip(places).for_each(|(value, place)| {
                    if let Value::ServerError(error) = &value {
                        self.map.note_error(&error.clone().into());
                    }
                    values[*place] = value;
                }),
                Err(error) => {
                    self.map.note_error(&error);
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(values), Err)
    }

    /// The connection to `node`, made if there is none. Those to servers that have left are closed.
    fn lane(&self, node: &Node) -> RedisResult<PipelineBatcher> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(node) {
            return Ok(lane.clone());
        }
        let nodes = self.map.nodes();
        lanes.retain(|node, _| nodes.contains(node));
        let lane = PipelineBatcher::new(self.map.access.shared(node)?);
        lanes.insert(node.clone(), lane.clone());
        Ok(lane)
    }

    /// Gives a connection up that could not be set up, as with a wrong password: the driver repairs those only that break.
    fn forget_unusable(&self, node: &Node, lane: &PipelineBatcher, error: Option<&RedisError>) {
        if error.is_none_or(RedisError::is_io_error) {
            return;
        }
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one of those who failed with it may have given it up already.
        if lanes.get(node).is_some_and(|known| known.is(lane)) {
            lanes.remove(node);
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
        if self.map.is_cluster() {
            return self.run_parts(pipeline).boxed();
        }
        async move {
            self.check_approved()?;
            pipeline.cmd_iter().try_for_each(|command| self.check_name(command))?;
            let node = self.map.node_of(ANY_SLOT)?;
            let mut lane = self.lane(&node)?;
            let outcome = lane.connection.req_packed_commands(pipeline, offset, count).await;
            self.forget_unusable(&node, &lane, outcome.as_ref().err());
            outcome.inspect_err(|error| self.map.note_error(error))
        }
        .boxed()
    }

    /// Not known here and not asked for by the driver's commands.
    fn get_db(&self) -> i64 {
        0
    }
}

/// The slot by which a command finds its server.
fn slot_for(command: &Cmd) -> RedisResult<u16> {
    Ok(key_of(command)?.map_or(ANY_SLOT, slot_of))
}

/// The places of a pipeline's commands by slot. Scripts are loaded wherever a part goes.
fn split(pipeline: &Pipeline) -> RedisResult<BTreeMap<u16, Vec<usize>>> {
    let mut parts: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    let mut everywhere = Vec::new();
    for (place, command) in pipeline.cmd_iter().enumerate() {
        if command.args_iter().next() == Some(redis::Arg::Simple(b"SCRIPT")) {
            everywhere.push(place);
        } else {
            parts.entry(slot_for(command)?).or_default().push(place);
        }
    }
    for places in parts.values_mut() {
        places.splice(0..0, everywhere.iter().copied());
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use redis::{cmd, pipe};

    use super::*;

    #[test]
    fn a_pipeline_is_split_by_slot_and_takes_its_scripts_along() {
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
