//! The task that reads a group of partitions: from one server, one command at a time.

use std::sync::Arc;
use std::time::Duration;

use redis::streams::StreamReadOptions;
use redis::{AsyncCommands as _, RedisResult};
use shared::bus::{KeySpace, PartitionConnections, RedisConnector};
use shared::domain::{LogEntryId, Partition, Timestamp};
use shared::storage::{Claim, Entry, Installation, PartitionBatch, Store};
use shared::telemetry::LogEvent;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::carry_over::carry_over;
use super::entry::{EntryContext, RawEntry, parse_entries};
use super::id_repair;
use super::log_server::{LogServer, ReadBatch};
use super::restore_check::{self, CheckError};

/// How long a read waits for entries. Nothing else waits for it: a reader that is not needed is aborted.
const BLOCK: Duration = Duration::from_secs(1);

/// How often the reader checks the streams of an earlier version, in installations that had them.
const CARRY_OVER_EVERY: Duration = Duration::from_millis(500);

/// Entries of one partition that one command reads at most. With the longest texts in all of 16 partitions a read takes 64 MB;
/// a reader holds at most the one it waits to deliver.
const READ_COUNT: usize = 250;

/// How far ahead of the server's clock ids may lie, unless the position lies there already: clocks are corrected, and a server
/// that was replaced may have been ahead. Otherwise no process of this installation creates such ids.
const IDS_AHEAD: Duration = Duration::from_hours(24);

/// Pause after ids that lie too far ahead were replaced.
const REPLACE_PAUSE: Duration = Duration::from_millis(100);

/// Pause after a failed read: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The shape of an XREAD reply: streams with their entries.
type Reply = Option<Vec<(String, Vec<RawEntry>)>>;

/// Reads a group of partitions and remembers how far it has read.
pub(super) struct PartitionReader {
    redis: RedisConnector,
    store: Store,
    installation: Installation,
    /// When entries of an earlier version were last carried over.
    carried_over: Instant,
    /// The connections to the server that is read, once there are any, and that server for the removal of stored entries.
    connected: Option<(PartitionConnections, LogServer)>,
    positions: Vec<ReadPosition>,
}

/// How far a partition is read.
struct ReadPosition {
    stream: String,
    /// The claim, whose cursor is the last entry that was delivered.
    claim: Claim,
    /// Where the search for entries before that cursor goes on; `None` when there are no more.
    behind: Option<LogEntryId>,
    /// The first id that lies too far ahead.
    first_far_id: Option<String>,
}

impl PartitionReader {
    pub(super) fn new(redis: RedisConnector, store: Store, claims: &[Claim], installation: Installation) -> Self {
        let position = |claim: &Claim| ReadPosition {
            stream: redis.key_space().accept_stream(claim.partition).to_owned(),
            claim: *claim,
            behind: None,
            first_far_id: None,
        };
        Self {
            positions: claims.iter().map(position).collect(),
            redis,
            store,
            installation,
            carried_over: Instant::now(),
            connected: None,
        }
    }

    /// Delivers what it reads, in the order of each partition, until the receiver is gone. It retries failures until then.
    pub(super) async fn run(mut self, reads: mpsc::Sender<ReadBatch>) {
        let mut pause = PAUSE.0;
        // Reads only when there is room for what is read.
        while let Ok(room) = reads.reserve().await {
            let read = loop {
                match self.step().await {
                    Ok(None) => pause = PAUSE.0,
                    Ok(Some(read)) => break read,
                    Err(error) => {
                        self.connected = None;
                        if pause == PAUSE.0 {
                            warn!(error = %error, "cannot read the accept log, retrying: {error}");
                        }
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(PAUSE.1);
                    }
                }
            };
            pause = PAUSE.0;
            room.send(read);
        }
    }

    /// Does the next step; `None` if it brought no entries.
    async fn step(&mut self) -> Result<Option<ReadBatch>, CheckError> {
        self.disconnect_from_former_server();
        self.disconnect_from_lost_server();
        if self.positions.iter().any(|position| position.first_far_id.is_some()) {
            self.replace_far_ids().await?;
        }
        self.carry_over().await?;
        if self.connected.is_none() {
            return self.connect().await.map(|()| None);
        }
        let batches = if self.positions.iter().any(|position| position.behind.is_some()) {
            self.read_behind().await?
        } else {
            self.read_new().await?
        };
        let server = self.connected.as_ref().map(|(_, server)| server.clone());
        Ok(server.filter(|_| !batches.is_empty()).map(|server| ReadBatch { batches, server }))
    }

    /// Carries over what gateways of an earlier version still append, during an upgrade.
    async fn carry_over(&mut self) -> RedisResult<()> {
        let Some((connections, _)) = &mut self.connected else {
            return Ok(());
        };
        if !self.installation.carries_over || self.carried_over.elapsed() < CARRY_OVER_EVERY {
            return Ok(());
        }
        self.carried_over = Instant::now();
        carry_over(
            &mut connections.side,
            self.redis.key_space(),
            self.positions.iter().map(|position| position.claim.partition),
        )
        .await
    }

    /// Gives up a server where stored entries can no longer be removed. The reader connects anew, and finds what was left.
    fn disconnect_from_lost_server(&mut self) {
        if self.connected.as_ref().is_some_and(|(_, server)| server.is_lost()) {
            self.connected = None;
        }
    }

    /// Gives up a server that another one has replaced. It need not fail: a master that is cut off from its sentinels alone
    /// answers every read, with nothing.
    fn disconnect_from_former_server(&mut self) {
        let (Some((connections, _)), Some(first)) = (&self.connected, self.positions.first()) else {
            return;
        };
        let partition = first.claim.partition;
        if !self.redis.still_serves(partition, connections) {
            info!(%partition, "another Redis takes what partition {partition} accepts");
            self.connected = None;
        }
    }

    /// Waits for entries behind the positions.
    async fn read_new(&mut self) -> RedisResult<Vec<PartitionBatch>> {
        let Some((PartitionConnections { blocking, .. }, server)) = &mut self.connected else {
            return Ok(Vec::new());
        };
        let block = usize::try_from(BLOCK.as_millis()).expect("a second");
        let options = StreamReadOptions::default().block(block).count(READ_COUNT);
        let streams: Vec<&str> = self.positions.iter().map(|position| position.stream.as_str()).collect();
        let positions: Vec<String> = self.positions.iter().map(|position| position.claim.cursor.to_string()).collect();
        let reply: Reply = blocking.xread_options(&streams, &positions, &options).await?;
        let (keys, mut batches) = (self.redis.key_space(), Vec::new());
        let ahead = server.now_ms().saturating_add(i64::try_from(IDS_AHEAD.as_millis()).unwrap_or(i64::MAX));
        for (stream, entries) in reply.unwrap_or_default() {
            if let Some(position) = self.positions.iter_mut().find(|position| position.stream == stream) {
                let horizon = ahead.max(position.claim.cursor.ms);
                let context = entry_context(keys, position.claim.partition, self.installation, horizon);
                let (entries, far) = parse_entries(entries, context);
                position.first_far_id = far;
                if let Some(batch) = batch_of(&position.claim, entries) {
                    position.claim.cursor = batch.upto();
                    batches.push(batch);
                }
            }
        }
        Ok(batches)
    }

    /// Connects to the server, one that may have lost or never have had the entries of the last one.
    ///
    /// Its ids may lie below the positions; so the reader makes new ids continue behind them, and always reads first what lies
    /// before them: a server that took over with a clock that is behind gives its first entries ids below the positions, and a
    /// moment later its newest id looks as it should. SQL recognises by its message id what was stored before; normally there
    /// is nothing at all, since stored entries are removed.
    async fn connect(&mut self) -> Result<(), CheckError> {
        let Some(first) = self.positions.first() else {
            return std::future::pending().await;
        };
        let mut connections = self.redis.connect_to_partition(first.claim.partition, BLOCK).await?;
        let keys = Arc::clone(self.redis.key_space());
        if self.installation.carries_over {
            carry_over(&mut connections.side, &keys, self.positions.iter().map(|position| position.claim.partition))
                .await?;
        }
        let claims = self.positions.iter().map(|position| &position.claim);
        let epoch_number = restore_check::check(&self.store, &mut connections.side, &keys, claims).await?;
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut connections.side).await?;
        let positions = self.positions.iter().map(|position| (position.stream.as_str(), position.claim.cursor));
        let raised = id_repair::raise_ids(&mut connections.blocking, positions).await?;
        for (position, raised) in self.positions.iter_mut().zip(raised) {
            position.behind = Some(LogEntryId::ZERO);
            if raised {
                let partition = position.claim.partition;
                error!(%partition, "Redis came back older than what is stored: partition {partition} is read again");
            }
        }
        let server = LogServer::new(connections.side.clone(), keys, epoch_number, seconds * 1_000 + micros / 1_000);
        self.connected = Some((connections, server));
        Ok(())
    }

    /// Reads the next entries before the positions, of all partitions at once.
    async fn read_behind(&mut self) -> RedisResult<Vec<PartitionBatch>> {
        let Some((PartitionConnections { blocking, .. }, _)) = &mut self.connected else {
            return Ok(Vec::new());
        };
        let mut ranges = redis::pipe();
        for position in self.positions.iter().filter(|position| position.behind.is_some()) {
            let (from, to) = (position.behind.unwrap_or_default(), position.claim.cursor);
            ranges.xrange_count(&position.stream, from.to_string(), to.to_string(), READ_COUNT);
        }
        let found: Vec<Vec<RawEntry>> = ranges.query_async(blocking).await?;
        let looking = self.positions.iter_mut().filter(|position| position.behind.is_some());
        let mut batches = Vec::new();
        for (position, raw) in looking.zip(found) {
            // An entry before the position cannot move it.
            let context = entry_context(self.redis.key_space(), position.claim.partition, self.installation, i64::MAX);
            let (entries, _) = parse_entries(raw, context);
            position.behind = entries.last().map(|entry| entry.log_entry_id.next());
            // The cursor stays where it is: it never moves back.
            batches.extend(batch_of(&position.claim, entries));
        }
        Ok(batches)
    }

    /// Gives new ids to the entries whose ids lie too far ahead. The reader finds them when it connects anew.
    async fn replace_far_ids(&mut self) -> RedisResult<()> {
        let Some((mut connections, _)) = self.connected.take() else {
            return Ok(());
        };
        for position in &mut self.positions {
            let (Some(from), partition) = (&position.first_far_id, position.claim.partition) else {
                continue;
            };
            let count =
                id_repair::replace_far_ids(&mut connections.blocking, self.redis.key_space(), partition, from).await?;
            position.first_far_id = None;
            // There are none if another party added and removed them.
            if count > 0 {
                FAR_IDS
                    .report(format_args!("partition {partition}"), format_args!("{count} entries are given new ones"));
            }
        }
        tokio::time::sleep(REPLACE_PAUSE).await;
        Ok(())
    }
}

static FAR_IDS: LogEvent = LogEvent::outage(
    "far_ids",
    "the accept log had ids that lie far in the future, which no process of this installation wrote",
);

fn entry_context(keys: &KeySpace, partition: Partition, installation: Installation, horizon: i64) -> EntryContext<'_> {
    EntryContext {
        keys,
        partitions: installation.partitions,
        partition,
        horizon,
        now: Timestamp::now(),
    }
}

fn batch_of(claim: &Claim, entries: Vec<Entry>) -> Option<PartitionBatch> {
    (!entries.is_empty()).then_some(PartitionBatch { claim: *claim, entries })
}
