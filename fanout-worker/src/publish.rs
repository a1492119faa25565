//! Tells the gateways what was stored, and removes from the accept log what is stored.

use std::collections::HashMap;

use redis::RedisResult;
use redis::streams::{StreamTrimOptions, StreamTrimmingMode};
use shared::bus::{
    CONTROL_CHANNEL, ControlEvent, Link, Receipts, RoomEvent, accept_stream, receipts_channel, room_channel,
};
use shared::domain::{GatewayId, MessageId, Partition, StreamId};
use shared::storage::{Appended, Content, PartitionBatch};
use tracing::warn;

/// The gateways that wait to hear of messages.
pub type Waiting = HashMap<MessageId, GatewayId>;

/// Who waits for messages of `batches`.
#[must_use]
pub fn waiting_for(batches: &[PartitionBatch]) -> Waiting {
    let entries = batches.iter().flat_map(|batch| &batch.entries);
    let waiting = entries.filter_map(|entry| match &entry.content {
        Content::Message(message) => message.reply_to.map(|gateway| (message.id, gateway)),
        Content::DeadLetter { .. } => None,
    });
    waiting.collect()
}

/// Publishes the events of a commit, one for each room, and then the receipts, one for each gateway that waits, in one
/// round trip. Its size is bounded by that of the commit.
///
/// A failure is logged and nothing more: both are hints. Gateways find what they told by comparing heads and asking SQL.
pub async fn publish(connection: &mut Link, appended: Appended, waiting: &Waiting) {
    let receipts = receipts(&appended, waiting);
    let mut pipeline = redis::pipe();
    for (partition, room, messages) in appended.rooms {
        let event = RoomEvent { room, messages };
        pipeline.cmd("SPUBLISH").arg(room_channel(partition, room)).arg(event.encode()).ignore();
    }
    for (gateway, receipts) in receipts {
        pipeline.publish(receipts_channel(gateway), receipts.encode()).ignore();
    }
    if pipeline.is_empty() {
        return;
    }
    let published: RedisResult<()> = pipeline.query_async(connection).await;
    if let Err(error) = published {
        warn!(error = %error, "stored messages were not announced: {error}");
    }
}

/// What each gateway is told: messages that were stored now, and those that were before.
fn receipts(appended: &Appended, waiting: &Waiting) -> HashMap<GatewayId, Receipts> {
    let new = appended.rooms.iter().flat_map(|(_, _, messages)| messages).map(|message| (message.id, message.seq));
    let mut receipts: HashMap<GatewayId, Receipts> = HashMap::new();
    for (id, seq) in new.chain(appended.duplicates.iter().copied()) {
        if let Some(gateway) = waiting.get(&id) {
            receipts.entry(*gateway).or_insert_with(|| Receipts(Vec::new())).0.push((id, seq));
        }
    }
    receipts
}

/// Tells the gateways that `partitions` have a new owner, so that they look for what the former one did not announce.
pub async fn announce(connection: &mut Link, partitions: Vec<Partition>) {
    let event = ControlEvent::PartitionsTaken { partitions };
    let told: RedisResult<()> = redis::AsyncCommands::publish(connection, CONTROL_CHANNEL, event.encode()).await;
    if let Err(error) = told {
        warn!(error = %error, "taking over partitions was not announced: {error}");
    }
}

/// Removes what lies up to `positions` from the accept log. What a failure leaves there is removed the next time.
pub async fn trim(connection: &mut Link, positions: &[(Partition, StreamId)]) {
    if positions.is_empty() {
        return;
    }
    let mut pipeline = redis::pipe();
    for (partition, upto) in positions {
        let keep_from = upto.next().to_string();
        let options = StreamTrimOptions::minid(StreamTrimmingMode::Exact, keep_from);
        pipeline.xtrim_options(accept_stream(*partition), &options).ignore();
    }
    let trimmed: RedisResult<()> = pipeline.query_async(connection).await;
    if let Err(error) = trimmed {
        warn!(error = %error, "stored entries were not removed from the accept log: {error}");
    }
}
