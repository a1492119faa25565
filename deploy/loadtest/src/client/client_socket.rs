//! Opens TCP connections of many clients on one machine, from many source addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// Clients that share a source address; a client that reconnects keeps its address. Gateways allow 100 streams from an
/// address by default.
pub(crate) const CLIENTS_PER_ADDRESS: usize = 100;

/// Addresses of a row: of each network `127.<net>.0.0/16`, the addresses .1 to .250 in 250 rows are used.
const ROW: usize = 250;

/// The addresses that clients connect from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceAddresses {
    /// The address that the system chooses.
    Any,
    /// Addresses of the loopback network, so that neither limits for an address nor its 28,000 ports bound the clients.
    Loopback {
        /// Second number of the addresses; each kind of client has another one.
        net: u8,
    },
}

impl SourceAddresses {
    /// The source addresses of clients of `address`: on Linux every address of 127.0.0.0/8 is the machine itself.
    pub(crate) fn toward(address: SocketAddr, net: u8) -> Self {
        match address.ip() {
            IpAddr::V4(address) if address.is_loopback() && cfg!(target_os = "linux") => Self::Loopback { net },
            _ => Self::Any,
        }
    }

    /// The address of group `number` of clients.
    pub(crate) fn of_group(self, number: usize) -> Option<Ipv4Addr> {
        let Self::Loopback { net } = self else {
            return None;
        };
        let [row, host] = [number / ROW % ROW, number % ROW + 1].map(|part| u8::try_from(part).unwrap_or(1));
        Some(Ipv4Addr::new(127, net, row, host))
    }
}

/// Begins to connect client `number` to `address`; the first writable event reports the result. With `receive_buffer`,
/// the kernel accepts about so many bytes for a client that does not read.
pub(crate) fn connect(
    address: SocketAddr,
    sources: SourceAddresses,
    number: usize,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        // The size must be set before connecting, since the handshake tells the peer how much it may send.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(address) = sources.of_group(number / CLIENTS_PER_ADDRESS) {
        socket.bind(&SocketAddr::from((address, 0)).into())?;
    }
    match socket.connect(&address.into()) {
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
    fn clients_of_a_loopback_server_have_own_addresses() {
        let sources = SourceAddresses::toward(([127, 0, 0, 1], 5000).into(), 7);
        if cfg!(target_os = "linux") {
            assert_eq!(sources.of_group(0), Some(Ipv4Addr::new(127, 7, 0, 1)));
            assert_eq!(sources.of_group(251), Some(Ipv4Addr::new(127, 7, 1, 2)));
        }
        assert_eq!(SourceAddresses::toward(([192, 0, 2, 1], 80).into(), 7).of_group(0), None);
    }
}
