//! Which idempotency keys were used lately: what tells a retry from another message under the same key before either of them is
//! in SQL.
//!
//! Each partition has two hashes beside its accept log, from message id to [`PostedUnder`]. A keyed message and its key are
//! written in one step, so that of two messages under one key the second one sees the first, and a key stands for a message that
//! is in the log. A key stays until its message has been stored for [`KEPT_S`]; SQL knows the message from then on, for
//! ever. So the hashes grow with what is not stored yet, which is bounded by the backlog, and hold no more than the posts of
//! some seconds otherwise: 107 bytes each with Redis 7.0.

use std::sync::LazyLock;

use redis::{RedisError, RedisResult, Script, ScriptInvocation};

use super::{Keys, Link, encode_entry};
use crate::domain::{Accepted, MessageId, Partition, RoomId};

/// How long a key is kept after its message was stored: longer than the 5 s a post may take from its look-up in SQL, where the
/// message was not there yet, to here.
const KEPT_S: u32 = 6;

/// Appends an entry unless its key stands for another message, and returns that one then.
///
/// KEYS: accept log, recent keys, older keys. ARGV: message id, what it stands for, then the fields of the entry.
static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local known = redis.call('HGET', KEYS[2], ARGV[1]) or redis.call('HGET', KEYS[3], ARGV[1])
         if known and known ~= ARGV[2] then return known end
         redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3))
         if not known then redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
         return false",
    )
});

/// Forgets the older keys once all their messages have left the log, as stored ones do, and have been stored for long enough.
/// The recent keys become the older ones then. What is remembered of that is in the hash of the older keys; any number of gateways
/// may run this at any time.
///
/// KEYS: accept log, recent keys, older keys. ARGV: seconds.
static RETIRE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local now = tonumber(redis.call('TIME')[1])
         local last = redis.call('HGET', KEYS[3], 'last')
         if last then
           local stored = tonumber(redis.call('HGET', KEYS[3], 'stored'))
           if not stored then
             if #redis.call('XRANGE', KEYS[1], '-', last, 'COUNT', 1) == 0 then
               redis.call('HSET', KEYS[3], 'stored', now)
             end
             return
           end
           if math.abs(now - stored) < tonumber(ARGV[1]) then return end
           redis.call('UNLINK', KEYS[3])
         end
         if redis.call('EXISTS', KEYS[2]) == 1 then
           local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
           redis.call('RENAME', KEYS[2], KEYS[3])
           redis.call('HSET', KEYS[3], 'last', newest and newest[1] or '0-0')
         end",
    )
});

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostedUnder {
    /// The room that was posted to.
    pub room: RoomId,
    /// A digest of the text.
    pub text: [u8; 8],
}

impl PostedUnder {
    fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.room.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.text);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (room, text) = bytes.split_first_chunk()?;
        Some(Self {
            room: RoomId(i64::from_be_bytes(*room)),
            text: text.try_into().ok()?,
        })
    }
}

/// Appends a keyed message to the accept log of `partition`, unless its key stands for another one, which is returned then. The same
/// message may be appended again: it is stored once.
pub async fn append_keyed(
    connection: &mut Link,
    partition: Partition,
    message: &Accepted,
    posted: PostedUnder,
) -> RedisResult<Option<PostedUnder>> {
    let MessageId(id) = message.id;
    let mut append = on_keys_of(partition, &APPEND, connection.keys());
    append.arg(id.as_bytes()).arg(&posted.encode()).arg(encode_entry(message, connection.keys()));
    let known: Option<Vec<u8>> = append.invoke_async(connection).await?;
    let unreadable = || RedisError::from((redis::ErrorKind::UnexpectedReturnType, "not what a key stands for"));
    known.map(|known| PostedUnder::decode(&known).ok_or_else(unreadable)).transpose()
}

/// Forgets the keys of `partition` that SQL knows by now. Once a second is often enough.
pub async fn retire_keys(connection: &mut Link, partition: Partition) -> RedisResult<()> {
    let mut retire = on_keys_of(partition, &RETIRE, connection.keys());
    retire.arg(KEPT_S).invoke_async(connection).await
}

fn on_keys_of<'s>(partition: Partition, script: &'s Script, keys: &Keys) -> ScriptInvocation<'s> {
    let mut invocation = script.key(keys.accept_stream(partition));
    invocation.key(keys.recent_keys(partition)).key(keys.older_keys(partition));
    invocation
}
