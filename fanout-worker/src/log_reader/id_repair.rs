//! Repairs the ids of an accept stream when they are not as a single healthy server generates them.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script};
use shared::bus::KeySpace;
use shared::domain::{LogEntryId, Partition};

/// Makes the next ids of the stream lie behind `ARGV[1]`; returns 1 if they would not have. The script adds an entry with that
/// very id and removes it before anybody sees it. Redis refuses the entry if its newest id is there already.
///
/// Here and below, allow-oom: a Redis whose memory is full gets room by being read, and by nothing else.
const RAISE_IDS: &str = "#!lua flags=allow-oom
    local added = redis.pcall('XADD', KEYS[1], ARGV[1], 'position', '')
    if type(added) == 'string' then
      redis.call('XDEL', KEYS[1], ARGV[1])
      return 1
    elseif string.find(added.err, 'equal or smaller') or string.find(added.err, 'greater than 0-0') then
      return 0
    else
      return added
    end";

/// Gives new ids to the entries from the id `ARGV[1]` on, in their order and behind all others; returns how many they were.
///
/// Redis never lets the newest id of a stream go back; so the script writes the stream anew, to `KEYS[2]`, and renames that.
/// This is one atomic step: no gateway appends in between, and a failure leaves the stream as it was. It takes time in
/// proportion to the stream, which the gateways' bound on the backlog keeps short.
///
/// Lua passes 8,000 values at most: of an entry with more, which no gateway writes, only the number of fields is kept.
static REPLACE_FAR_IDS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "#!lua flags=allow-oom
         redis.call('DEL', KEYS[2])
         local exchanged, far = 0, false
         for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
           local id, fields = entry[1], entry[2]
           far = far or id == ARGV[1]
           if far then
             id = '*'
             exchanged = exchanged + 1
           end
           if #fields > 7000 then fields = {'fields', #fields / 2} end
           redis.call('XADD', KEYS[2], id, unpack(fields))
         end
         if exchanged > 0 then redis.call('RENAME', KEYS[2], KEYS[1]) else redis.call('DEL', KEYS[2]) end
         return exchanged",
    )
});

/// Makes sure that new entries of each stream sort behind its position; returns for each whether they would not have.
pub(super) async fn raise_ids(
    connection: &mut MultiplexedConnection,
    positions: impl Iterator<Item = (&str, LogEntryId)>,
) -> RedisResult<Vec<bool>> {
    let mut scripts = redis::pipe();
    for (stream, position) in positions {
        scripts.cmd("EVAL").arg(RAISE_IDS).arg(1).arg(stream).arg(position.to_string());
    }
    scripts.query_async(connection).await
}

/// See [`REPLACE_FAR_IDS`]; `from` is the first id that lies too far ahead.
pub(super) async fn replace_far_ids(
    connection: &mut MultiplexedConnection,
    keys: &KeySpace,
    partition: Partition,
    from: &str,
) -> RedisResult<u64> {
    let (stream, exchanged) = (keys.accept_stream(partition), keys.exchanged_stream(partition));
    REPLACE_FAR_IDS.key(stream).key(exchanged).arg(from).invoke_async(connection).await
}
