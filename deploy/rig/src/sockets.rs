//! The TCP connections of a process, as Linux shows them.

use std::fs;

use crate::failure::{Explain, Result};

/// `st` of /proc/net/tcp: open in both directions.
const ESTABLISHED: &str = "01";
/// `st` of /proc/net/tcp: the peer has closed, and the process has not closed its side yet.
const CLOSE_WAIT: &str = "08";

/// Accepted connections on the local `port` in the network of process `pid` that the process has not closed.
///
/// A client that hung up counts until the server closes its side too: a leak looks like that.
pub fn sockets_on_port(pid: u32, port: u16) -> Result<usize> {
    let path = format!("/proc/{pid}/net/tcp");
    let table = fs::read_to_string(&path).explain(|| format!("cannot read {path}"))?;
    let local = format!(":{port:04X}");
    let open = table.lines().skip(1).filter(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let is_local = columns.next().is_some_and(|address| address.ends_with(&local));
        is_local && matches!(columns.nth(1), Some(ESTABLISHED | CLOSE_WAIT))
    });
    Ok(open.count())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connection_counts_until_the_server_closes_its_side() -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let count = || sockets_on_port(std::process::id(), address.port());
        assert_eq!(count()?, 0);
        let client = TcpStream::connect(address)?;
        let (server, _) = listener.accept()?;
        assert_eq!(count()?, 1);
        drop(client);
        assert_eq!(count()?, 1);
        drop(server);
        assert_eq!(count()?, 0);
        Ok(())
    }
}
