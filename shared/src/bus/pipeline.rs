//! Batches the commands of many tasks into pipelines on the shared connection to one server.
//!
//! A command that runs after another one was answered comes after it at the server. Commands that are in flight at the same
//! time have no order. Nothing is sent twice: the caller of a command judges what became of it when its pipeline failed.

use std::io;

use futures_util::FutureExt as _;
use redis::aio::{ConnectionLike as _, ConnectionManager};
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};

use crate::batcher::{BatchLimits, Batcher};

/// Several pipelines are in flight at once, since Redis reads the next ones while it writes one to disk. A full pipeline holds
/// 200 KB with ordinary messages and 8 MB with the longest.
const LIMITS: BatchLimits = BatchLimits { batches: 8, calls: 512 };

/// The pipelines on the connection to one server. Clones share it.
#[derive(Clone)]
pub(super) struct PipelineBatcher {
    pub(super) connection: ConnectionManager,
    pipelines: Batcher<Cmd, RedisResult<Value>>,
}

impl PipelineBatcher {
    pub(super) fn new(connection: ConnectionManager) -> Self {
        let shared = connection.clone();
        Self {
            connection,
            pipelines: Batcher::new(LIMITS, move |commands| send(shared.clone(), commands).boxed()),
        }
    }

    /// Whether both use the same connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.pipelines.is(&other.pipelines)
    }

    /// Runs a command. A command whose caller stops waiting before its pipeline is sent is not sent.
    pub(super) async fn run(&self, command: Cmd) -> RedisResult<Value> {
        self.pipelines.call(command).await.unwrap_or_else(|| Err(outcome_unknown()))
    }
}

async fn send(mut connection: ConnectionManager, commands: Vec<Cmd>) -> Vec<RedisResult<Value>> {
    let count = commands.len();
    let mut pipeline = Pipeline::with_capacity(count);
    for command in commands {
        pipeline.add_command(command);
    }
    match connection.req_packed_commands(&pipeline, 0, count).await {
        Ok(values) => {
            let mut answers: Vec<_> = values.into_iter().map(Ok).collect();
            answers.resize_with(count, || Err(outcome_unknown()));
            answers
        }
        Err(error) => vec![Err(error); count],
    }
}

/// The error of a command of which it is unknown whether it ran.
fn outcome_unknown() -> RedisError {
    io::Error::from(io::ErrorKind::BrokenPipe).into()
}
