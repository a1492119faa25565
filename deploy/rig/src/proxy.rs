//! A TCP proxy between two processes that injects network faults on demand.
//!
//! ```text
//! client ──► port of the proxy ──► port of the server
//!                  │ NetworkCondition: normal, refusing, blocked in one direction or both, slow
//!                  │ lost reply: the next request that contains a pattern arrives, its reply does not
//!                  └ cut after: so many bytes from the server pass, and not one more
//! ```
//!
//! It copies bytes and knows no protocol, with one exception: it can leave out published messages on their way from
//! Redis, for which it finds the end of each reply (module [`resp`]).

mod condition;
mod pump;
mod resp;
mod shared;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub use self::condition::NetworkCondition;
use self::pump::Connection;
use self::shared::Shared;
use crate::failure::{Explain as _, Result};
use crate::ports::free_port;

/// Connections one proxy carries at most; a further one waits in the kernel's queue, as at a server that is full.
const MAX_CONNECTIONS: usize = 12_000;

/// A listening port whose bytes go to another one.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own for a server on `target`, which need not run yet.
    pub async fn start(target: u16) -> Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.explain(|| format!("a proxy cannot listen on port {port}"))?;
        let shared = Arc::new(Shared::new());
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
        let task = tokio::spawn(accept(listener, target, Arc::clone(&shared)));
        Ok(Self { port, shared, task })
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections; new ones are welcome.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets `bytes` more bytes from the server pass, over whichever connections, and ends the connection that brought the
    /// last of them; with 0 the one that would bring the next.
    pub fn cut_after(&self, bytes: usize) {
        *self.shared.passing.lock() = Some(bytes);
    }

    /// How many connections [`Proxy::cut_after`] has ended.
    #[must_use]
    pub fn cut_within(&self) -> u64 {
        self.shared.cut_within.load(Ordering::Relaxed)
    }

    /// How many bytes from the server have passed.
    #[must_use]
    pub fn passed_bytes(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Changes the condition of the link.
    pub fn set(&self, condition: NetworkCondition) {
        self.shared.condition.send_replace(condition);
    }

    /// Makes the condition of the link normal; nothing more is lost or cut.
    pub fn clear_faults(&self) {
        self.set(NetworkCondition::Normal);
        *self.shared.passing.lock() = None;
        *self.shared.loss.lock() = None;
        self.shared.drop_one_in.store(0, Ordering::Relaxed);
    }

    /// The next `count` requests that contain `pattern` reach the server; in place of the reply the connection ends.
    pub fn lose_replies(&self, pattern: &'static [u8], count: u64) {
        *self.shared.loss.lock() = Some((pattern, count));
    }

    /// How many replies were lost.
    #[must_use]
    pub fn lost_replies(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Leaves out one published message in `one_in` on its way from Redis; 1 for all, 0 for none. Existing
    /// connections are cut, since the proxy must see a connection from its beginning.
    pub fn drop_published(&self, one_in: u64) {
        self.shared.drop_one_in.store(one_in, Ordering::Relaxed);
        self.cut();
    }

    /// How many published messages were left out.
    #[must_use]
    pub fn dropped_messages(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts connections until it is aborted; they end with it.
async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        let Ok((client, _)) = listener.accept().await else {
            // The process has no free descriptor: one is free when a connection ends.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if *shared.condition.borrow() == NetworkCondition::Refusing {
            pump::reset_on_close(&client);
            continue;
        }
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A server that does not run looks the same through the proxy: the connection is reset.
            match TcpStream::connect(target).await {
                Ok(server) => Connection::new(shared).carry(client, server).await,
                Err(_) => pump::reset_on_close(&client),
            }
        });
    }
}

#[cfg(test)]
mod tests;
