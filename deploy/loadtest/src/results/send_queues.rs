//! Bytes that servers on this machine have written to clients that do not read, from /proc/net/tcp on Linux.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::client::client_socket::SourceAddresses;
use crate::plan::Plan;
use crate::target::{Target, source_nets};

/// Streams that have stopped reading, as seen from the server's sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StalledStreams {
    /// Number of these streams.
    pub streams: usize,
    /// Sockets that hold bytes that cannot be sent; the server has closed the others.
    pub full: usize,
    /// Bytes in these sockets together, in KiB.
    pub held_kib: u64,
}

/// Bytes in each socket of the server, by the address of its client.
pub(crate) type SendQueues = BTreeMap<SocketAddrV4, u64>;

impl StalledStreams {
    pub(crate) fn of(plan: &Plan, queues: &SendQueues) -> Self {
        Self {
            streams: (0..plan.streams).filter(|number| plan.is_stalled(*number)).count(),
            full: queues.values().filter(|bytes| **bytes > 0).count(),
            held_kib: queues.values().sum::<u64>() / 1_024,
        }
    }
}

/// The send queues toward the clients of `target` that stall; `None` if these clients cannot be told from others: with
/// a server on another machine, or on another system than Linux.
pub(crate) fn send_queues(target: &Target) -> Option<SendQueues> {
    let is_distinct = |number: usize| {
        matches!(target.source_addresses(number, source_nets::STALLED_STREAMS), SourceAddresses::Loopback { .. })
    };
    if !(0..target.addresses.len()).all(is_distinct) {
        return None;
    }
    let ports: Vec<u16> = target.addresses.iter().map(SocketAddr::port).collect();
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let queues = table.lines().filter_map(queue);
    let is_stalled = |(port, client): (u16, SocketAddrV4)| {
        ports.contains(&port) && client.ip().octets()[..2] == [127, source_nets::STALLED_STREAMS]
    };
    Some(
        queues
            .filter(|(port, client, _)| is_stalled((*port, *client)))
            .map(|(_, client, bytes)| (client, bytes))
            .collect(),
    )
}

/// Parses a line of proc_net_tcp(5) about an established connection: the local port, the remote address, and the bytes
/// that are not sent or not acknowledged.
fn queue(line: &str) -> Option<(u16, SocketAddrV4, u64)> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote, state, queues) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if state != "01" {
        return None;
    }
    let bytes = u64::from_str_radix(queues.split_once(':')?.0, 16).ok()?;
    Some((address(local)?.port(), address(remote)?, bytes))
}

/// Parses an address: `0100007F:1388` is 127.0.0.1:5000, with the address in the byte order of the machine and the port
/// in that of the network.
fn address(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = text.split_once(':')?;
    let octets = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    Some(SocketAddrV4::new(Ipv4Addr::from(octets), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn a_line_shows_both_ends_and_the_queue() {
        let line =
            "  12: 0100007F:1388 0101677F:D431 01 0000A000:00000010 01:00000018 00000000  0 0 4711 2 0 20 4 1 10 -1";
        let client = SocketAddrV4::new(Ipv4Addr::new(127, 103, 1, 1), 0xD431);
        assert_eq!(queue(line), Some((5_000, client, 0xA000)));
        for other in [
            "  sl  local_address rem_address   st tx_queue rx_queue",
            "",
            &line.replace(" 01 0000A", " 06 0000A"),
        ] {
            assert_eq!(queue(other), None);
        }
    }
}
