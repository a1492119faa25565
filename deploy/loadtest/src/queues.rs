//! What servers on this machine have written to clients that do not read, as Linux shows it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::site::{Site, kinds};
use crate::wire::Origin;

/// Streams that have stopped reading, by the sockets of the server they belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// How many there are.
    pub streams: usize,
    /// Those whose socket holds what was written and cannot be sent. The rest was cut off by the server.
    pub full: usize,
    /// What these sockets hold together.
    pub held_kib: u64,
}

/// Bytes that each socket holds, by the client it leads to.
pub(crate) type Queues = BTreeMap<SocketAddrV4, u64>;

impl Stalled {
    pub(crate) fn of(plan: &Plan, queues: &Queues) -> Self {
        Self {
            streams: (0..plan.streams).filter(|number| plan.stalls(*number)).count(),
            full: queues.values().filter(|bytes| **bytes > 0).count(),
            held_kib: queues.values().sum::<u64>() / 1_024,
        }
    }
}

/// The queues of those clients of `site` that are to stall; `None` where they cannot be told from other clients: on another
/// machine, or another system.
pub(crate) fn queues(site: &Site) -> Option<Queues> {
    let is_told = |number: usize| matches!(site.origin(number, kinds::STALLERS), Origin::Loopback { .. });
    if !(0..site.doors.len()).all(is_told) {
        return None;
    }
    let ports: Vec<u16> = site.doors.iter().map(SocketAddr::port).collect();
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let queues = table.lines().filter_map(queue);
    let is_staller = |(port, client): (u16, SocketAddrV4)| {
        ports.contains(&port) && client.ip().octets()[..2] == [127, kinds::STALLERS]
    };
    Some(
        queues
            .filter(|(port, client, _)| is_staller((*port, *client)))
            .map(|(_, client, bytes)| (client, bytes))
            .collect(),
    )
}

/// A line of proc_net_tcp(5) about an established connection: the port on this side, the other side, and the bytes that
/// wait to be sent or acknowledged.
fn queue(line: &str) -> Option<(u16, SocketAddrV4, u64)> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote, state, queues) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if state != "01" {
        return None;
    }
    let bytes = u64::from_str_radix(queues.split_once(':')?.0, 16).ok()?;
    Some((address(local)?.port(), address(remote)?, bytes))
}

/// `0100007F:1388` is 127.0.0.1:5000: the address as the machine keeps it, and the port as people write it.
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
    fn a_line_tells_both_ends_and_what_waits() {
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
