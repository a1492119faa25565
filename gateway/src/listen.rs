//! The listening socket, and how many connections the limit of open files allows.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, lookup_host};

/// Connections that the kernel queues until they are accepted, as far as it allows (`net.core.somaxconn`, 4,096 on Linux).
/// With the 128 of the standard library, clients that reconnect together after a restart are refused.
const BACKLOG: i32 = 4_096;

/// Descriptors that are not clients: Redis, SQL, files.
const OWN_DESCRIPTORS: u64 = 100;

/// An address to listen on as people write it: `127.0.0.1:5000`, `[::1]:5000`, `localhost:5000`, any name of this machine,
/// and for every address of it `:5000` or `*:5000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// A name or an address without brackets; `None` for every address.
    host: Option<String>,
    port: u16,
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        let no_address = || "not an address such as 127.0.0.1:5000, [::1]:5000, localhost:5000 or :5000".to_owned();
        let (host, port) = raw.rsplit_once(':').ok_or_else(no_address)?;
        // Digits alone: a number's own form also takes a sign.
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_port).ok_or_else(no_address)?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(address) if address.contains(':') => Some(address),
            None if matches!(host, "" | "*") => None,
            None if !host.contains([':', '[', ']', '/', '@']) && !host.contains(char::is_whitespace) => Some(host),
            Some(_) | None => return Err(no_address()),
        };
        Ok(Self {
            host: host.map(str::to_owned),
            port,
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, "*:{}", self.port),
        }
    }
}

impl ListenAddress {
    /// Listens on this address; the caller is within the runtime that accepts. Of the addresses of a name the first that this
    /// machine has is used, those of IPv4 before those of IPv6: clients try both.
    pub async fn listen(&self) -> io::Result<TcpListener> {
        let addresses: Vec<SocketAddr> = match &self.host {
            None => vec![
                (Ipv6Addr::UNSPECIFIED, self.port).into(),
                (Ipv4Addr::UNSPECIFIED, self.port).into(),
            ],
            Some(host) => {
                let mut found: Vec<SocketAddr> = lookup_host((host.as_str(), self.port)).await?.collect();
                found.sort_by_key(SocketAddr::is_ipv6);
                found
            }
        };
        let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        for address in addresses {
            outcome = bind(address);
            match &outcome {
                // A kernel without IPv6, or an address of another machine.
                Err(error) if is_foreign(error) => {}
                Ok(_) | Err(_) => break,
            }
        }
        outcome
    }
}

/// Whether the machine has no such address, so that another one of the same name may do.
fn is_foreign(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, Unsupported};
    let unknown_family = Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    matches!(error.kind(), AddrNotAvailable | Unsupported) || error.raw_os_error() == unknown_family
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // The socket takes IPv4 as well, whatever the system's own default is (`net.ipv6.bindv6only`).
        socket.set_only_v6(false)?;
    }
    // Otherwise nobody can listen again for a minute after a process that had connections.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Connections that fit into `open_files`, if those are fewer than `wanted`.
#[must_use]
pub fn fewer_connections(open_files: u64, wanted: u32) -> Option<u64> {
    let possible = open_files.saturating_sub(OWN_DESCRIPTORS);
    (possible < u64::from(wanted)).then_some(possible)
}

#[cfg(test)]
mod tests;
