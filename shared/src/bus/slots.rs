//! The slots of a Redis Cluster: which slot a key is in, and which master serves it.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult, Value, cmd, from_redis_value};

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
