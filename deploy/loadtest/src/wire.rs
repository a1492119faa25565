//! TCP connections of many clients on one machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// The same client on another connection keeps its address; so many clients share one. Gateways let an address have 100
/// streams unless they are told otherwise.
pub(crate) const CLIENTS_PER_ADDRESS: usize = 100;

/// Addresses in each of the networks `127.<net>.0.0/16` that are given out: .1 to .250 in 250 rows.
const ROW: usize = 250;

/// Where clients come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Wherever the system says.
    Any,
    /// From addresses of the loopback network, so that limits of an address and its 28,000 ports are not in the way.
    Loopback {
        /// Second number of the addresses: another for each kind of client.
        net: u8,
    },
}

impl Origin {
    /// Where clients of `door` come from: on Linux every address of 127.0.0.0/8 is the machine itself.
    pub(crate) fn of(door: SocketAddr, net: u8) -> Self {
        match door.ip() {
            IpAddr::V4(address) if address.is_loopback() && cfg!(target_os = "linux") => Self::Loopback { net },
            _ => Self::Any,
        }
    }

    /// The address of group `number` of clients.
    pub(crate) fn address(self, number: usize) -> Option<Ipv4Addr> {
        let Self::Loopback { net } = self else {
            return None;
        };
        let [row, place] = [number / ROW % ROW, number % ROW + 1].map(|part| u8::try_from(part).unwrap_or(1));
        Some(Ipv4Addr::new(127, net, row, place))
    }
}

/// Begins to connect client `number` to `door`; the first writable event tells that it is done. The kernel takes about
/// `receive` bytes for a client that does not read, if that is said, and else what it likes.
pub(crate) fn connect(
    door: SocketAddr,
    origin: Origin,
    number: usize,
    receive: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(door), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive {
        // Before the connection, which tells the other side how much it may send.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(address) = origin.address(number / CLIENTS_PER_ADDRESS) {
        socket.bind(&SocketAddr::from((address, 0)).into())?;
    }
    match socket.connect(&door.into()) {
        Err(error) if !is_in_progress(&error) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

fn is_in_progress(error: &io::Error) -> bool {
    let in_progress = rustix::io::Errno::INPROGRESS.raw_os_error();
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(in_progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_a_loopback_door_have_addresses_of_their_own() {
        let origin = Origin::of(([127, 0, 0, 1], 5000).into(), 7);
        if cfg!(target_os = "linux") {
            assert_eq!(origin.address(0), Some(Ipv4Addr::new(127, 7, 0, 1)));
            assert_eq!(origin.address(251), Some(Ipv4Addr::new(127, 7, 1, 2)));
        }
        assert_eq!(Origin::of(([192, 0, 2, 1], 80).into(), 7).address(0), None);
    }
}
