//! The socket that clients knock at, and whether the process may have as many as it is set to have.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel keeps ready to be accepted, as far as it allows (`net.core.somaxconn`, 4,096 on Linux). With
/// the 128 of the standard library, clients that come back together after a restart are turned away.
const BACKLOG: i32 = 4_096;

/// Descriptors that are not clients: Redis, SQL, files.
const OWN_DESCRIPTORS: u64 = 100;

/// Listens on `address`. It must be called within the runtime that accepts.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Otherwise nobody could listen again for a minute after a process that had connections.
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

    #[test]
    fn too_few_open_files_are_noticed() {
        assert_eq!(fewer_connections(1_024, 20_000), Some(924));
        assert_eq!(fewer_connections(20_100, 20_000), None);
        assert_eq!(fewer_connections(10, 1), Some(0));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn as_many_may_wait_as_the_kernel_allows() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
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
