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
mod tests {
    use super::*;

    async fn at(address: &str) -> io::Result<TcpListener> {
        address.parse::<ListenAddress>().unwrap().listen().await
    }

    /// What `host` and the port of `listener` reach.
    async fn reaches(listener: &TcpListener, host: &str) -> bool {
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect((host, port)).await.is_ok()
    }

    #[tokio::test]
    async fn each_spelling_of_an_address_is_listened_on() {
        let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
        for (address, is_open, is_closed) in [
            ("127.0.0.1:0", "127.0.0.1", Some("127.0.0.2")),
            ("localhost:0", "localhost", Some("127.0.0.2")),
            ("0.0.0.0:0", "127.0.0.2", None),
            (":0", "127.0.0.2", None),
            ("*:0", "127.0.0.1", None),
        ] {
            let listener = at(address).await.unwrap();
            assert!(reaches(&listener, is_open).await, "{address} at {is_open}");
            if let Some(other) = is_closed {
                assert!(!reaches(&listener, other).await, "{address} at {other}");
            }
        }
        if has_ipv6 {
            assert!(reaches(&at("[::1]:0").await.unwrap(), "::1").await);
            for all in ["[::]:0", ":0", "*:0"] {
                let listener = at(all).await.unwrap();
                assert!(reaches(&listener, "::1").await && reaches(&listener, "127.0.0.1").await, "{all}");
            }
        }
    }

    #[tokio::test]
    async fn unknown_names_and_used_ports_are_errors() {
        assert!(at("nowhere.invalid:0").await.is_err());
        let taken = at("127.0.0.1:0").await.unwrap();
        let again = at(&taken.local_addr().unwrap().to_string()).await;
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // An address of another machine (RFC 5737).
        assert_eq!(at("192.0.2.1:0").await.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn an_address_is_shown_as_it_is_written() {
        for same in ["127.0.0.1:5000", "[::1]:5000", "localhost:80", "*:0"] {
            assert_eq!(same.parse::<ListenAddress>().unwrap().to_string(), same);
        }
        assert_eq!(":7740".parse::<ListenAddress>().unwrap().to_string(), "*:7740");
    }

    #[test]
    fn text_that_is_no_address_is_refused() {
        for bad in [
            "",
            "5000",
            "localhost",
            "localhost:",
            "::1:5000",
            "[::1]",
            "[localhost]:1",
            "a b:1",
            "http://h:1",
            "u@h:1",
            ":65536",
            ":-1",
            ":+1",
            "127.0.0.1:x",
        ] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn open_files_bound_the_connections() {
        assert_eq!(fewer_connections(1_024, 20_000), Some(924));
        assert_eq!(fewer_connections(20_100, 20_000), None);
        assert_eq!(fewer_connections(10, 1), Some(0));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_accept_queue_is_as_long_as_the_kernel_allows() {
        let listener = at("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let expected = allowed.trim().parse::<usize>().unwrap().min(4_096).min(300);
        // More than the 128 that the standard library asks for get through without anybody accepting them.
        let mut clients = Vec::new();
        for _ in 0..expected {
            let connecting = tokio::net::TcpStream::connect(("127.0.0.1", port));
            let connected = tokio::time::timeout(std::time::Duration::from_secs(10), connecting).await;
            clients.push(connected.expect("the kernel takes it").unwrap());
        }
        drop(listener);
    }
}
