//! What is published after a commit or a claim: room events, receipts for the gateways that wait, and new owners of partitions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use redis::RedisResult;
use shared::bus::{ControlEvent, ControlMessage, Receipts, RedisClient, RoomEvent};
use shared::domain::{GatewayId, MessageId, Outcome, Partition, RoomEntry};
use shared::storage::{Committed, EntryContent, PartitionBatch, RoomEntries};
use tracing::warn;

/// The gateways that wait for the receipts of messages. Several wait for one that was posted again at another gateway.
pub type ReceiptRequests = HashMap<MessageId, HashSet<GatewayId>>;

/// The gateways that wait for messages of `batches`.
#[must_use]
pub fn receipt_requests(batches: &[PartitionBatch]) -> ReceiptRequests {
    let mut receipt_requests = ReceiptRequests::new();
    for entry in batches.iter().flat_map(|batch| &batch.entries) {
        let (id, gateway) = match &entry.content {
            EntryContent::Message(message) => (message.id, message.reply_to),
            EntryContent::Change(change) => (change.id, change.receipt_to),
            EntryContent::Outbox(_) | EntryContent::DeadLetter { .. } => continue,
        };
        if let Some(gateway) = gateway {
            receipt_requests.entry(id).or_default().insert(gateway);
        }
    }
    receipt_requests
}

/// Publishes the events of a commit, one for each room, and then the receipts, one for each gateway that waits, in one round
/// trip. Its size is bounded by that of the commit.
///
/// A failure is logged and nothing more: both are hints. Gateways find what they missed by comparing heads and asking SQL.
pub async fn publish(redis: &mut RedisClient, committed: Committed, receipt_requests: &mut ReceiptRequests) {
    let receipts = receipts(&committed, receipt_requests);
    let (mut pipeline, keys) = (redis::pipe(), Arc::clone(redis.key_space()));
    for RoomEntries {
        partition,
        room,
        entries,
    } in committed.rooms
    {
        let event = RoomEvent {
            room,
            entries,
            typing: None,
        };
        pipeline.cmd("SPUBLISH").arg(keys.room_channel(partition, room)).arg(event.encode(&keys)).ignore();
    }
    for (gateway, receipts) in receipts {
        pipeline.publish(keys.receipts_channel(gateway), receipts.encode(&keys)).ignore();
    }
    if pipeline.is_empty() {
        return;
    }
    let published: RedisResult<()> = pipeline.query_async(redis).await;
    if let Err(error) = published {
        warn!(error = %error, "stored messages were not announced: {error}");
    }
}

/// The receipts for each gateway: messages that this commit stored, those that were stored before, and what became of changes.
/// They are removed from `receipt_requests`.
fn receipts(committed: &Committed, receipt_requests: &mut ReceiptRequests) -> HashMap<GatewayId, Receipts> {
    let new = committed.rooms.iter().flat_map(|of_room| &of_room.entries).filter_map(|entry| match entry {
        RoomEntry::Message(message) => Some((message.id, message.seq)),
        // Among the outcomes.
        RoomEntry::Change(_) => None,
    });
    let stored = new.chain(committed.duplicates.iter().copied()).map(|(id, seq)| (id, Outcome::Stored(seq)));
    let mut receipts: HashMap<GatewayId, Receipts> = HashMap::new();
    for (id, outcome) in stored.chain(committed.outcomes.iter().copied()) {
        for gateway in receipt_requests.remove(&id).into_iter().flatten() {
            receipts.entry(gateway).or_insert_with(|| Receipts(Vec::new())).0.push((id, outcome));
        }
    }
    receipts
}

/// Announces to the gateways that `partitions` have a new owner, so that they compare heads with SQL: the former one
/// may not have published its last commit.
pub async fn announce(redis: &mut RedisClient, partitions: Vec<Partition>) {
    let keys = Arc::clone(redis.key_space());
    let message = ControlMessage {
        event: ControlEvent::PartitionsClaimed { partitions },
        reply_to: None,
    };
    let published: RedisResult<()> =
        redis::AsyncCommands::publish(redis, keys.control_channel(), message.encode(&keys)).await;
    if let Err(error) = published {
        warn!(error = %error, "taking over partitions was not announced: {error}");
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::{Accepted, Fence, LogEntryId, MessageText, RoomId, Seq, Timestamp, UserId};
    use shared::storage::{Claim, Entry};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn two_gateways_with_one_message_get_one_receipt_each() {
        let (id, first, second) = (MessageId::fresh(), GatewayId(Uuid::new_v4()), GatewayId(Uuid::new_v4()));
        let entry = |(ms, gateway)| Entry {
            log_entry_id: LogEntryId { ms, counter: 0 },
            content: EntryContent::Message(Accepted {
                id,
                room: RoomId(1),
                sender: UserId(1),
                text: MessageText::parse("hello").unwrap(),
                in_reply_to: None,
                mentions: Vec::new(),
                created_on: Timestamp(1),
                reply_to: Some(gateway),
            }),
        };
        let batch = PartitionBatch {
            claim: Claim {
                partition: Partition(0),
                fence: Fence(1),
                cursor: LogEntryId::ZERO,
            },
            entries: [(1, first), (2, second)].map(entry).into(),
        };
        let committed = Committed {
            duplicates: vec![(id, Seq(7)), (id, Seq(7))],
            ..Committed::default()
        };
        let receipts = receipts(&committed, &mut receipt_requests(&[batch]));
        for gateway in [first, second] {
            assert_eq!(receipts[&gateway].0, [(id, Outcome::Stored(Seq(7)))]);
        }
    }
}
