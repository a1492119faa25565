//! Takes over what waits in the accept log under the names of earlier versions, which had no installation in them.
//!
//! At the first time the old log is renamed, so that ids, and with them the positions in SQL, stay what they are; that
//! works on a cluster too, since both names are in one slot. What gateways of the earlier version append after that is
//! moved entry by entry, behind what is there already.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script};
use shared::bus::KeySpace;
use shared::domain::Partition;
use tracing::info;

/// Moves what is in `KEYS[1]` to `KEYS[2]`; returns how many entries that were. A failure leaves all as it was, and of an
/// entry with more fields than Lua hands on, which no gateway writes, their number is kept. allow-oom: a Redis whose
/// memory is full gets room by being read.
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

/// Takes over what waits for each of `partitions`.
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
