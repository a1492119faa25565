//! The slots of a Redis Cluster: which slot a key is in, and which master serves it.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Arg, Cmd, ErrorKind, RedisResult, Value, cmd, from_redis_value};

use super::address::Node;

/// Slots of every cluster (Redis Cluster specification).
const SLOTS: u16 = 16_384;

/// A range of slots in the reply of `CLUSTER SLOTS`: first, last, the master, its replicas.
type Range = Vec<Value>;

/// The slot of a key: of the text between its first pair of braces, if there is any, else of the whole key.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')? + 1;
        let length = key[open..].iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &key[open..open + length])
    };
    crc16::State::<crc16::XMODEM>::calculate(tag().unwrap_or(key)) % SLOTS
}

/// The first key of a command, by which it finds its node; `None` if any node will do.
///
/// It knows the commands that are sent through a [`RedisClient`](super::RedisClient); all keys of one command are in one slot.
/// Any other command is refused: the position of its key is unknown, and on a cluster it would go to a wrong server.
pub(super) fn key_of(command: &Cmd) -> RedisResult<Option<&[u8]>> {
    let mut words = command.args_iter().map(|word| match word {
        Arg::Simple(word) => word,
        Arg::Cursor | _ => &[],
    });
    let name = words.next().unwrap_or_default();
    let is_one_of = |names: &[&[u8]]| names.iter().any(|other| name.eq_ignore_ascii_case(other));
    if is_one_of(&[
        b"XADD",
        b"XLEN",
        b"SET",
        b"SPUBLISH",
        b"EXISTS",
        b"ZREM",
        b"ZRANGE",
        b"DEL",
        b"PSETEX",
    ]) {
        Ok(words.next())
    } else if is_one_of(&[b"EVALSHA", b"EVAL"]) {
        // The script or its hash, and the number of keys, stand before them.
        Ok(words.nth(2))
    } else if is_one_of(&[b"INFO", b"PUBLISH", b"SCRIPT", b"TIME"]) {
        Ok(None)
    } else {
        let name = String::from_utf8_lossy(name).into_owned();
        Err((ErrorKind::Client, "it is not known where this command has its key", name).into())
    }
}

/// The name in a command: its first key, or the channel it publishes on; `None` if it names nothing.
pub(super) fn name_of(command: &Cmd) -> RedisResult<Option<&[u8]>> {
    let mut words = command.args_iter().map(|word| match word {
        Arg::Simple(word) => word,
        Arg::Cursor | _ => &[],
    });
    if words.next().is_some_and(|name| name.eq_ignore_ascii_case(b"PUBLISH")) {
        return Ok(words.next());
    }
    key_of(command)
}

/// Which master serves which slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SlotTable {
    /// By the first slot of a range: its last slot, and the master.
    ranges: BTreeMap<u16, (u16, Node)>,
}

impl SlotTable {
    /// Asks the server of `connection`, which is at `asked`.
    pub(super) async fn query(connection: &mut MultiplexedConnection, asked: &Node) -> RedisResult<Self> {
        let ranges: Vec<Range> = cmd("CLUSTER").arg("SLOTS").query_async(connection).await?;
        let ranges = ranges.into_iter().map(|range| parse_range(range, asked)).collect::<Option<BTreeMap<_, _>>>();
        match ranges {
            Some(ranges) if !ranges.is_empty() => Ok(Self { ranges }),
            _ => Err((ErrorKind::ClusterConnectionNotFound, "the cluster's slots are not distributed").into()),
        }
    }

    /// The master of a slot; `None` if no server serves it.
    pub(super) fn master_of(&self, slot: u16) -> Option<&Node> {
        let (_, (last, node)) = self.ranges.range(..=slot).next_back()?;
        (slot <= *last).then_some(node)
    }

    /// Every master that serves a slot, each once.
    pub(super) fn masters(&self) -> Vec<Node> {
        let mut masters: Vec<Node> = self.ranges.values().map(|(_, node)| node.clone()).collect();
        masters.sort();
        masters.dedup();
        masters
    }
}

fn parse_range(range: Range, asked: &Node) -> Option<(u16, (u16, Node))> {
    let mut parts = range.into_iter();
    let first: u16 = from_redis_value(parts.next()?).ok()?;
    let last: u16 = from_redis_value(parts.next()?).ok()?;
    let mut master = from_redis_value::<Vec<Value>>(parts.next()?).ok()?.into_iter();
    // A server that does not know its own name leaves it out: its name is the address that was asked.
    let host: Option<String> = from_redis_value(master.next()?).ok()?;
    let host = host.filter(|host| !host.is_empty() && host != "?");
    let host = host.map_or_else(|| Arc::clone(&asked.host), Arc::from);
    let port: u16 = from_redis_value(master.next()?).ok()?;
    Some((first, (last, Node { host, port })))
}

#[cfg(test)]
mod tests {
    use super::super::is_refusal;
    use super::*;

    fn node(host: &str) -> Node {
        Node {
            host: host.into(),
            port: 6379,
        }
    }

    #[test]
    fn keys_with_the_same_tag_share_a_slot() {
        // The example of the cluster specification.
        assert_eq!(slot_of(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"roomcast:00a1b2c3d4e5:{7}:in"), slot_of(b"7"));
        assert_eq!(slot_of(b"roomcast:00a1b2c3d4e5:{7}:in"), slot_of(b"roomcast:00a1b2c3d4e5:{7}:room:42"));
        assert_ne!(slot_of(b"a{}b"), slot_of(b""));
        assert_eq!(slot_of(b"a{b"), crc16::State::<crc16::XMODEM>::calculate(b"a{b") % SLOTS);
    }

    #[test]
    fn key_of_each_kind_of_command_is_found() {
        let key = |line: &str| {
            let mut words = line.split(' ');
            let mut command = cmd(words.next().unwrap());
            for word in words {
                command.arg(word);
            }
            key_of(&command).map(|key| key.map(|key| String::from_utf8(key.to_vec()).unwrap()))
        };
        for (line, expected) in [
            ("XADD k * a b", Some("k")),
            ("set k v", Some("k")),
            ("EVALSHA 1234 1 k v", Some("k")),
            ("SPUBLISH k m", Some("k")),
            ("PUBLISH c m", None),
            ("SCRIPT LOAD s", None),
        ] {
            assert_eq!(key(line).unwrap().as_deref(), expected, "{line}");
        }
        for line in ["GET k", "XREAD STREAMS k 0", "WAIT 1 0"] {
            assert!(is_refusal(&key(line).unwrap_err()), "{line}");
        }
    }

    #[test]
    fn each_slot_has_the_master_of_its_range() {
        let ranges = [(0, (99, node("a"))), (100, (200, node("b"))), (300, (400, node("a")))];
        let table = SlotTable { ranges: ranges.into() };
        for (slot, master) in [
            (0, Some("a")),
            (99, Some("a")),
            (100, Some("b")),
            (250, None),
            (400, Some("a")),
            (500, None),
        ] {
            assert_eq!(table.master_of(slot).map(|node| &*node.host), master, "{slot}");
        }
        assert_eq!(table.masters(), [node("a"), node("b")]);
    }
}
