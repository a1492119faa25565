//! Lua scripts that acquire, renew and release leases, each in one set of one server. Times are by the clock of Redis.

use std::sync::LazyLock;

use redis::{Script, ScriptInvocation};
use shared::bus::KeySpace;
use shared::domain::{StreamKey, UserId};

use super::LEASE_TTL;

/// KEYS: the set, the clients. ARGV: the stream, the time to live in ms, how many may be open (0: any number), the client or
/// nothing. Returns whether the stream may be opened, and the older stream of the client whose lease it took.
static ACQUIRE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local t = redis.call('TIME')
         local now, limit = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[3])
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
         local older = ARGV[4] ~= '' and redis.call('HGET', KEYS[2], ARGV[4])
         if older then redis.call('ZREM', KEYS[1], older) end
         if limit > 0 and redis.call('ZCARD', KEYS[1]) >= limit then return {0, older} end
         redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
         redis.call('PEXPIRE', KEYS[1], ARGV[2])
         if ARGV[4] ~= '' then
           redis.call('HSET', KEYS[2], ARGV[4], ARGV[1])
           redis.call('PEXPIRE', KEYS[2], ARGV[2])
         end
         return {1, older}",
    )
});

/// KEYS and ARGV as above, without the limit. Returns 0 if a newer stream of the client has the lease.
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if ARGV[3] ~= '' then
           local holder = redis.call('HGET', KEYS[2], ARGV[3])
           if holder and holder ~= ARGV[1] then return 0 end
           redis.call('HSET', KEYS[2], ARGV[3], ARGV[1])
           redis.call('PEXPIRE', KEYS[2], ARGV[2])
         end
         local t = redis.call('TIME')
         redis.call('ZADD', KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2], ARGV[1])
         redis.call('PEXPIRE', KEYS[1], ARGV[2])
         return 1",
    )
});

/// KEYS: the set, the clients. ARGV: the stream, the client or nothing.
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('ZREM', KEYS[1], ARGV[1])
         if ARGV[2] ~= '' and redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[1] then
           redis.call('HDEL', KEYS[2], ARGV[2])
         end
         return 1",
    )
});

/// The Redis keys that a stream is counted in.
pub(super) struct LeaseKeys {
    /// The set of leases.
    pub(super) set: String,
    /// The map from clients to their streams, on the server of the set.
    clients: String,
    client: String,
}

impl LeaseKeys {
    pub(super) fn of_user(keys: &KeySpace, user: UserId, client: Option<String>) -> Self {
        Self {
            set: keys.streams_of_user(user),
            clients: keys.stream_clients(user),
            client: client.unwrap_or_default(),
        }
    }

    pub(super) fn of_address(keys: &KeySpace, address: std::net::IpAddr) -> Self {
        let set = keys.streams_of_address(address);
        Self {
            clients: set.clone(),
            set,
            client: String::new(),
        }
    }
}

pub(super) fn acquire(keys: &LeaseKeys, stream: StreamKey, limit: u32) -> ScriptInvocation<'static> {
    let mut invocation = begin(&ACQUIRE, keys, stream);
    invocation.arg(lease_ttl_ms()).arg(limit).arg(&keys.client);
    invocation
}

pub(super) fn renew(keys: &LeaseKeys, stream: StreamKey) -> ScriptInvocation<'static> {
    let mut invocation = begin(&RENEW, keys, stream);
    invocation.arg(lease_ttl_ms()).arg(&keys.client);
    invocation
}

pub(super) fn release(keys: &LeaseKeys, stream: StreamKey) -> ScriptInvocation<'static> {
    let mut invocation = begin(&RELEASE, keys, stream);
    invocation.arg(&keys.client);
    invocation
}

fn begin(script: &'static Script, keys: &LeaseKeys, stream: StreamKey) -> ScriptInvocation<'static> {
    let mut invocation = script.prepare_invoke();
    invocation.key(&keys.set).key(&keys.clients).arg(stream.to_string());
    invocation
}

fn lease_ttl_ms() -> u64 {
    u64::try_from(LEASE_TTL.as_millis()).unwrap_or(u64::MAX)
}
