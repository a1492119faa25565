//! Reads the accept log.
//!
//! Plain XREAD from positions that the caller knows from SQL: the server keeps no state about who read what, so there is
//! nothing that could disagree with the database after a crash. What is read is not trusted.

use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamInfoStreamReply, StreamReadOptions};
use redis::{AsyncCommands, RedisResult};
use serde_json::json;
use shared::bus::{Redis, accept_stream, decode_entry};
use shared::domain::StreamId;
use shared::storage::{Claim, Content, Entry, PartitionBatch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How long a read waits for entries. A stop waits for the read, since cutting one off could desynchronise the
/// connection; so this bounds a planned hand-over.
const BLOCK: Duration = Duration::from_millis(200);

/// Entries taken from one partition by one read.
const READ_COUNT: usize = 250;

/// Pause after a failed read: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The shape of an XREAD reply: streams with their entries.
type Reply = Option<Vec<(String, Vec<RawEntry>)>>;

/// An entry as Redis sends it: its id, and a flat list of fields and values.
type RawEntry = (String, Vec<Vec<u8>>);

/// A reader of some partitions that remembers how far it has read.
pub struct Source {
    redis: Redis,
    shares: Vec<Share>,
}

/// Partitions that are read by one command, over a connection of their own.
struct Share {
    connection: Option<MultiplexedConnection>,
    claims: Vec<Claim>,
    streams: Vec<String>,
}

impl Source {
    /// A reader of `claims`, each from its cursor.
    #[must_use]
    pub fn new(redis: Redis, claims: &[Claim]) -> Self {
        // One command cannot name partitions of several servers.
        let at_once = if redis.same_node() { claims.len().max(1) } else { 1 };
        let shares = claims.chunks(at_once).map(|claims| Share {
            connection: None,
            claims: claims.to_vec(),
            streams: claims.iter().map(|claim| accept_stream(claim.partition)).collect(),
        });
        Self {
            shares: shares.collect(),
            redis,
        }
    }

    /// Waits for entries; `None` once `stop` is cancelled. Failures are retried until then.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<Vec<PartitionBatch>> {
        let mut pause = PAUSE.0;
        while !stop.is_cancelled() {
            match self.read().await {
                Ok(batches) if batches.is_empty() => pause = PAUSE.0,
                Ok(batches) => return Some(batches),
                Err(error) => {
                    if pause == PAUSE.0 {
                        warn!(error = %error, "cannot read the accept log, trying on: {error}");
                    }
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
        None
    }

    /// Reads all shares side by side. What one server refuses does not keep back what others have.
    async fn read(&mut self) -> RedisResult<Vec<PartitionBatch>> {
        let redis = &self.redis;
        let outcomes = join_all(self.shares.iter_mut().map(|share| async move {
            let outcome = share.read(redis).await;
            outcome.inspect_err(|_| share.connection = None)
        }));
        let mut batches = Vec::new();
        let mut failure = None;
        for outcome in outcomes.await {
            match outcome {
                Ok(read) => batches.extend(read),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if batches.is_empty() => Err(error),
            _ => Ok(batches),
        }
    }
}

impl Share {
    async fn read(&mut self, redis: &Redis) -> RedisResult<Vec<PartitionBatch>> {
        let Some(connection) = &mut self.connection else {
            let Some(first) = self.claims.first() else {
                return Ok(Vec::new());
            };
            let mut connection = redis.blocking_connection(first.partition, BLOCK).await?;
            let behind = self.overtake(&mut connection).await?;
            info!("reading the accept log");
            self.connection = Some(connection);
            return Ok(behind);
        };
        let block = usize::try_from(BLOCK.as_millis()).expect("a fraction of a second");
        let options = StreamReadOptions::default().block(block).count(READ_COUNT);
        let positions: Vec<String> = self.claims.iter().map(|claim| claim.cursor.to_string()).collect();
        let reply: Reply = connection.xread_options(&self.streams, &positions, &options).await?;
        Ok(self.take(reply))
    }

    /// Makes sure that what is appended from now on sorts behind our positions, and returns what lies before them and may
    /// never have been read.
    ///
    /// A Redis that lost its data or failed over can come back older than our positions. Its next entries would get ids
    /// below them and never be seen. An entry with the very id of our position raises all ids that follow.
    async fn overtake(&self, connection: &mut MultiplexedConnection) -> RedisResult<Vec<PartitionBatch>> {
        let mut behind = Vec::new();
        for (claim, stream) in self.claims.iter().zip(&self.streams) {
            if last_id(connection, stream).await? >= claim.cursor {
                continue;
            }
            error!(
                partition = %claim.partition,
                "Redis came back older than what is stored: partition {} is read again", claim.partition
            );
            let position = claim.cursor.to_string();
            let _id: String = connection.xadd(stream, &position, &[("position", "")]).await?;
            let raw: Vec<RawEntry> = connection.xrange(stream, "-", format!("({position}")).await?;
            let entries: Vec<Entry> = raw.into_iter().filter_map(read_entry).collect();
            if !entries.is_empty() {
                behind.push(PartitionBatch { claim: *claim, entries });
            }
        }
        Ok(behind)
    }

    /// Turns a reply into batches and moves the positions behind them.
    fn take(&mut self, reply: Reply) -> Vec<PartitionBatch> {
        let mut batches = Vec::new();
        for (stream, raw_entries) in reply.unwrap_or_default() {
            let Some(place) = self.streams.iter().position(|name| *name == stream) else {
                continue;
            };
            let claim = &mut self.claims[place];
            let entries: Vec<Entry> = raw_entries.into_iter().filter_map(read_entry).collect();
            let Some(last) = entries.last().map(|entry| entry.stream_id) else {
                continue;
            };
            batches.push(PartitionBatch { claim: *claim, entries });
            claim.cursor = last;
        }
        batches
    }
}

/// The id of the last entry ever appended to `stream`; zero if there is no such stream.
async fn last_id(connection: &mut MultiplexedConnection, stream: &str) -> RedisResult<StreamId> {
    if !connection.exists(stream).await? {
        return Ok(StreamId::ZERO);
    }
    let info: StreamInfoStreamReply = connection.xinfo_stream(stream).await?;
    Ok(info.last_generated_id.parse().unwrap_or_default())
}

fn read_entry((id, flat): RawEntry) -> Option<Entry> {
    let stream_id: StreamId = id.parse().ok()?;
    let fields: Vec<(Vec<u8>, Vec<u8>)> = flat.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    let content = match decode_entry(&fields) {
        Ok(message) => Content::Message(message),
        Err(error) => Content::DeadLetter {
            reason: error.to_string(),
            entry: describe(&fields),
        },
    };
    Some(Entry { stream_id, content })
}

/// The fields as JSON; what is not UTF-8 shows as replacement characters.
fn describe(fields: &[(Vec<u8>, Vec<u8>)]) -> String {
    let text = |raw: &Vec<u8>| String::from_utf8_lossy(raw).into_owned();
    let fields: Vec<_> = fields.iter().map(|(name, value)| [text(name), text(value)]).collect();
    json!(fields).to_string()
}
