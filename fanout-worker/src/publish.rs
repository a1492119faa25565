//! Tells the gateways what was stored, and removes from the accept log what is stored.

use redis::RedisResult;
use redis::streams::{StreamTrimOptions, StreamTrimmingMode};
use shared::bus::{Link, RoomEvent, accept_stream, room_channel};
use shared::domain::{Partition, StreamId};
use shared::storage::Appended;
use tracing::warn;

/// Publishes the events of a commit, one for each room, in one round trip.
///
/// A failure is logged and nothing more: an event is a hint, and gateways find what it told by comparing heads.
pub async fn publish(connection: &mut Link, appended: Appended) {
    if appended.rooms.is_empty() {
        return;
    }
    let mut pipeline = redis::pipe();
    for (partition, room, messages) in appended.rooms {
        let event = RoomEvent { room, messages };
        pipeline.cmd("SPUBLISH").arg(room_channel(partition, room)).arg(event.encode()).ignore();
    }
    let published: RedisResult<()> = pipeline.query_async(connection).await;
    if let Err(error) = published {
        warn!(error = %error, "stored messages were not announced: {error}");
    }
}

/// Removes what lies up to `positions` from the accept log. What a failure leaves there is removed the next time.
pub async fn trim(connection: &mut Link, positions: &[(Partition, StreamId)]) {
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
