//! The task that reads some partitions: one server, one command at a time.

use std::sync::Arc;
use std::time::Duration;

use redis::streams::StreamReadOptions;
use redis::{AsyncCommands as _, RedisResult};
use shared::bus::{KeySpace, PartitionConnections, RedisConnector};
use shared::domain::{Partition, StreamId};
use shared::storage::{Claim, Entry, Installation, PartitionBatch, Store};
use shared::telemetry::Event;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::carry_over::carry_over;
use super::entry::{self, RawEntry};
use super::id_repair;
use super::origin::{ReadBatch, Server};
use super::restore_check::{self, CheckError};

/// How long a read waits for entries. Nothing else waits for it: a reader that is not needed is cut off.
const BLOCK: Duration = Duration::from_secs(1);

/// How often the names of an earlier version are looked at, in installations that had them.
const CARRY_OVER_EVERY: Duration = Duration::from_millis(500);

/// Entries taken from one partition by one read. With texts of the longest kind in all of 16 partitions a read takes
/// 64 MB; a reader holds at most the one it waits to hand on.
const READ_COUNT: usize = 250;

/// How far ahead of the server's clock ids may lie, unless our position lies there already: clocks are put right, and a server
/// that was replaced may have been ahead. Nobody else gives out such ids but a stranger.
const IDS_AHEAD: Duration = Duration::from_hours(24);

/// Between two exchanges of ids that are too far.
const EXCHANGE_PAUSE: Duration = Duration::from_millis(100);

/// Pause after a failed read: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The shape of an XREAD reply: streams with their entries.
type Reply = Option<Vec<(String, Vec<RawEntry>)>>;

/// Reads some partitions and remembers how far it has read.
pub(super) struct PartitionReader {
    redis: RedisConnector,
    store: Store,
    installation: Installation,
    /// When what gateways of an earlier version appended was last carried over.
    carried_over: Instant,
    /// The server that is read, once it is found, and the same for those who remove what is stored.
    holder: Option<(PartitionConnections, Server)>,
    places: Vec<Place>,
}

/// How far a partition is read.
struct Place {
    stream: String,
    /// The ownership, with the position behind what was handed on.
    claim: Claim,
    /// From where on entries that lie before that position are looked for; `None` when there are no more.
    behind: Option<StreamId>,
    /// The first id that was seen to be too far.
    first_far_id: Option<String>,
}

impl PartitionReader {
    pub(super) fn new(redis: RedisConnector, store: Store, claims: &[Claim], installation: Installation) -> Self {
        let place = |claim: &Claim| Place {
            stream: redis.key_space().accept_stream(claim.partition).to_owned(),
            claim: *claim,
            behind: None,
            first_far_id: None,
        };
        Self {
            places: claims.iter().map(place).collect(),
            redis,
            store,
            installation,
            carried_over: Instant::now(),
            holder: None,
        }
    }

    /// Hands on what it reads, in the order of each partition, until nobody takes it. Failures are retried until then.
    pub(super) async fn run(mut self, reads: mpsc::Sender<ReadBatch>) {
        let mut pause = PAUSE.0;
        // Reads only when there is room for what is read.
        while let Ok(room) = reads.reserve().await {
            let read = loop {
                match self.read().await {
                    Ok(None) => pause = PAUSE.0,
                    Ok(Some(read)) => break read,
                    Err(error) => {
                        self.holder = None;
                        if pause == PAUSE.0 {
                            warn!(error = %error, "cannot read the accept log, trying on: {error}");
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

    /// Takes the next step; `None` if it brought no entries.
    async fn read(&mut self) -> Result<Option<ReadBatch>, CheckError> {
        self.leave_former_holder();
        self.leave_lost_server();
        if self.places.iter().any(|place| place.first_far_id.is_some()) {
            self.exchange_far_ids().await?;
        }
        self.carry_over().await?;
        if self.holder.is_none() {
            return self.connect().await.map(|()| None);
        }
        let batches = if self.places.iter().any(|place| place.behind.is_some()) {
            self.read_behind().await?
        } else {
            self.read_new().await?
        };
        let server = self.holder.as_ref().map(|(_, server)| server.clone());
        Ok(server.filter(|_| !batches.is_empty()).map(|server| ReadBatch { batches, server }))
    }

    /// Takes what gateways of an earlier version still append, while an upgrade is under way.
    async fn carry_over(&mut self) -> RedisResult<()> {
        let Some((holder, _)) = &mut self.holder else {
            return Ok(());
        };
        if !self.installation.carries_over || self.carried_over.elapsed() < CARRY_OVER_EVERY {
            return Ok(());
        }
        self.carried_over = Instant::now();
        carry_over(&mut holder.side, self.redis.key_space(), self.places.iter().map(|place| place.claim.partition))
            .await
    }

    /// Connects anew to a server where what is stored cannot be removed any more: what was left there is found then.
    fn leave_lost_server(&mut self) {
        if self.holder.as_ref().is_some_and(|(_, server)| server.is_lost()) {
            self.holder = None;
        }
    }

    /// Gives up a server that others have replaced. It need not fail: a master that is cut off from its sentinels alone
    /// answers every read, with nothing.
    fn leave_former_holder(&mut self) {
        let (Some((holder, _)), Some(first)) = (&self.holder, self.places.first()) else {
            return;
        };
        let partition = first.claim.partition;
        if !self.redis.still_serves(partition, holder) {
            info!(%partition, "another Redis takes what partition {partition} accepts");
            self.holder = None;
        }
    }

    /// Waits for entries behind our positions.
    async fn read_new(&mut self) -> RedisResult<Vec<PartitionBatch>> {
        let Some((PartitionConnections { blocking, .. }, server)) = &mut self.holder else {
            return Ok(Vec::new());
        };
        let block = usize::try_from(BLOCK.as_millis()).expect("a second");
        let options = StreamReadOptions::default().block(block).count(READ_COUNT);
        let streams: Vec<&str> = self.places.iter().map(|place| place.stream.as_str()).collect();
        let positions: Vec<String> = self.places.iter().map(|place| place.claim.cursor.to_string()).collect();
        let reply: Reply = blocking.xread_options(&streams, &positions, &options).await?;
        let (keys, mut batches) = (self.redis.key_space(), Vec::new());
        let ahead = server.now_ms().saturating_add(i64::try_from(IDS_AHEAD.as_millis()).unwrap_or(i64::MAX));
        for (stream, entries) in reply.unwrap_or_default() {
            if let Some(place) = self.places.iter_mut().find(|place| place.stream == stream) {
                let horizon = ahead.max(place.claim.cursor.ms);
                let read_at = at(keys, place.claim.partition, self.installation, horizon);
                let (entries, far) = entry::read_all(entries, read_at);
                place.first_far_id = far;
                if let Some(batch) = batch(&place.claim, entries) {
                    place.claim.cursor = batch.upto();
                    batches.push(batch);
                }
            }
        }
        Ok(batches)
    }

    /// Finds the server, one that may have lost or never have had what the last one held.
    ///
    /// Its ids may lie below our positions; so from now on they are made to continue behind them, and what lies before them
    /// is read first, always: a server that took over with a clock that is behind gives its first entries ids below our
    /// positions, and a moment later its newest id looks as it should. What was stored before is recognised by its
    /// message id, and normally there is nothing at all, since what is stored is removed.
    async fn connect(&mut self) -> Result<(), CheckError> {
        let Some(first) = self.places.first() else {
            return std::future::pending().await;
        };
        let mut holder = self.redis.connect_to_partition(first.claim.partition, BLOCK).await?;
        let keys = Arc::clone(self.redis.key_space());
        if self.installation.carries_over {
            carry_over(&mut holder.side, &keys, self.places.iter().map(|place| place.claim.partition)).await?;
        }
        let claims = self.places.iter().map(|place| &place.claim);
        let epoch_number = restore_check::check(&self.store, &mut holder.side, &keys, claims).await?;
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut holder.side).await?;
        let positions = self.places.iter().map(|place| (place.stream.as_str(), place.claim.cursor));
        let raised = id_repair::raise_ids(&mut holder.blocking, positions).await?;
        for (place, raised) in self.places.iter_mut().zip(raised) {
            place.behind = Some(StreamId::ZERO);
            if raised {
                let partition = place.claim.partition;
                error!(%partition, "Redis came back older than what is stored: partition {partition} is read again");
            }
        }
        let server = Server::new(holder.side.clone(), keys, epoch_number, seconds * 1_000 + micros / 1_000);
        self.holder = Some((holder, server));
        Ok(())
    }

    /// Reads the next of what lies before our positions, of all partitions at once.
    async fn read_behind(&mut self) -> RedisResult<Vec<PartitionBatch>> {
        let Some((PartitionConnections { blocking, .. }, _)) = &mut self.holder else {
            return Ok(Vec::new());
        };
        let mut ranges = redis::pipe();
        for place in self.places.iter().filter(|place| place.behind.is_some()) {
            let (from, to) = (place.behind.unwrap_or_default(), place.claim.cursor);
            ranges.xrange_count(&place.stream, from.to_string(), to.to_string(), READ_COUNT);
        }
        let found: Vec<Vec<RawEntry>> = ranges.query_async(blocking).await?;
        let looking = self.places.iter_mut().filter(|place| place.behind.is_some());
        let mut batches = Vec::new();
        for (place, raw) in looking.zip(found) {
            // What lies before our position cannot move it.
            let read_at = at(self.redis.key_space(), place.claim.partition, self.installation, i64::MAX);
            let (entries, _) = entry::read_all(raw, read_at);
            place.behind = entries.last().map(|entry| entry.stream_id.next());
            // The cursor stays where it is: it never moves back.
            batches.extend(batch(&place.claim, entries));
        }
        Ok(batches)
    }

    /// Has the entries whose ids are too far renumbered. They are found when the server is connected to anew.
    async fn exchange_far_ids(&mut self) -> RedisResult<()> {
        let Some((mut holder, _)) = self.holder.take() else {
            return Ok(());
        };
        for place in &mut self.places {
            let (Some(from), partition) = (&place.first_far_id, place.claim.partition) else {
                continue;
            };
            let count =
                id_repair::exchange_far_ids(&mut holder.blocking, self.redis.key_space(), partition, from).await?;
            place.first_far_id = None;
            // None if whoever put it there has taken it away again.
            if count > 0 {
                FAR_IDS
                    .report(format_args!("partition {partition}"), format_args!("{count} entries are given new ones"));
            }
        }
        tokio::time::sleep(EXCHANGE_PAUSE).await;
        Ok(())
    }
}

static FAR_IDS: Event =
    Event::outage("far_ids", "somebody else gave out ids in the accept log that lie far in the future");

fn at(keys: &KeySpace, partition: Partition, installation: Installation, horizon: i64) -> entry::Place<'_> {
    entry::Place {
        keys,
        partitions: installation.partitions,
        partition,
        horizon,
    }
}

fn batch(claim: &Claim, entries: Vec<Entry>) -> Option<PartitionBatch> {
    (!entries.is_empty()).then_some(PartitionBatch { claim: *claim, entries })
}
