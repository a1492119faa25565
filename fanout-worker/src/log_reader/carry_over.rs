//! Carries over the accept log of earlier versions, whose names had no installation in them.
//!
//! The first time it renames the old log, so that ids, and with them the positions in SQL, stay what they are; that works on a
//! cluster too, since both names are in one slot. After that it moves what gateways of the earlier version append entry by
//! entry, behind what is there already.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script};
use shared::bus::KeySpace;
use shared::domain::Partition;
use tracing::info;

/// Moves the entries of `KEYS[1]` to `KEYS[2]`; returns how many they were. A failure leaves both as they were, and of an entry
/// with more fields than Lua passes, which no gateway writes, only their number is kept. allow-oom: a Redis whose memory is
/// full gets room by being read.
static CARRY_OVER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "#!lua flags=allow-oom
         if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
         local count = redis.call('XLEN', KEYS[1])
         if redis.call('EXISTS', KEYS[2]) == 0 then
           redis.call('RENAME', KEYS[1], KEYS[2])
           return count
         end
         for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
           local fields = entry[2]
           if #fields > 7000 then fields = {'fields', #fields / 2} end
           redis.call('XADD', KEYS[2], '*', unpack(fields))
         end
         redis.call('DEL', KEYS[1])
         return count",
    )
});

/// Carries over the old log of each of `partitions`.
pub(super) async fn carry_over(
    connection: &mut MultiplexedConnection,
    keys: &KeySpace,
    partitions: impl Iterator<Item = Partition>,
) -> RedisResult<()> {
    for partition in partitions {
        let (old, new) = (KeySpace::former_accept_stream(partition), keys.accept_stream(partition));
        let count: u64 = CARRY_OVER.key(old).key(new).invoke_async(connection).await?;
        if count > 0 {
            info!(%partition, entries = count, "{count} entries of an earlier version are carried over to {new}");
        }
    }
    Ok(())
}
