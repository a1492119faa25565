//! The shared connection to one server, on which commands of many tasks travel together as pipelines.
//!
//! A command that is run after another one was answered comes after it at the server. Between those under way at the same time
//! there is no order. Nothing is sent twice: what became of a command whose pipeline failed is its caller's to judge.

use std::io;

use futures_util::FutureExt as _;
use redis::aio::{ConnectionLike as _, ConnectionManager};
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};

use crate::batcher::{BatchLimits, Batcher};

/// Several pipelines at once, since Redis reads the next ones while it brings one to disk. With ordinary messages one has 200 KB,
/// with the longest 8 MB.
const LIMITS: BatchLimits = BatchLimits { batches: 8, calls: 512 };

/// The connection to one server. Clones share it.
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

    /// Whether both are the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.pipelines.is(&other.pipelines)
    }

    /// Runs a command. One whose caller stops waiting before it was sent is not sent.
    pub(super) async fn run(&self, command: Cmd) -> RedisResult<Value> {
        self.pipelines.call(command).await.unwrap_or_else(|| Err(unknown()))
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
            answers.resize_with(count, || Err(unknown()));
            answers
        }
        Err(error) => vec![Err(error); count],
    }
}

/// The error of a command of which nobody knows what became of it.
fn unknown() -> RedisError {
    io::Error::from(io::ErrorKind::BrokenPipe).into()
}
