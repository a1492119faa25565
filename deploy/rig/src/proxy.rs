//! A TCP proxy that stands between two processes and misbehaves on demand.
//!
//! ```text
//! client ──► port of the proxy ──► port of the server
//!                  │ Weather: fair, refusing, dark in one direction or both, slow
//!                  │ Loss: the next request that holds a pattern arrives, its reply does not
//!                  └ cut within: so many bytes from the server pass, and not one more
//! ```
//!
//! It copies bytes and knows no protocol, with one exception: it can leave out published messages on their way from
//! Redis, for which it finds where a reply ends (module [`resp`]).

mod pump;
mod resp;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use self::pump::Connection;
use crate::ports::free_port;
use crate::{Explain, Result};

/// Connections one proxy carries at most; a further one waits in the kernel's queue, as at a server that is full.
const MAX_CONNECTIONS: usize = 12_000;

/// How the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weather {
    /// Bytes pass at once.
    #[default]
    Fair,
    /// Whoever connects is hung up on; connections that stand are not touched.
    Refusing,
    /// Nothing passes in the directions that are true; it arrives when the weather clears, if somebody still waits.
    Dark {
        /// From the client to the server.
        up: bool,
        /// From the server to the client.
        down: bool,
    },
    /// Every piece waits for this long, in both directions.
    Slow(Duration),
}

/// A listening port whose bytes go to another one.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What the proxy and its connections share.
pub(crate) struct Shared {
    weather: watch::Sender<Weather>,
    /// Raised by every cut: a connection that was made under a lower number ends.
    cuts: watch::Sender<u64>,
    /// The request whose reply is lost next, and how many are still to be.
    loss: Mutex<Option<(&'static [u8], u64)>>,
    /// Replies lost so far.
    lost: AtomicU64,
    /// Bytes from the server that may still pass before the connection is cut.
    passing: Mutex<Option<usize>>,
    /// Connections cut by that.
    cut_within: AtomicU64,
    /// Bytes from the server that have passed.
    passed: AtomicU64,
    /// One published message in so many is left out; 0 for none.
    drop_one_in: AtomicU64,
    /// Published messages seen, and left out.
    published: AtomicU64,
    dropped: AtomicU64,
}

impl Proxy {
    /// Begins to listen on a port of its own for a server on `target`, which need not run yet.
    pub async fn start(target: u16) -> Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.explain(|| format!("a proxy cannot listen on port {port}"))?;
        let shared = Arc::new(Shared {
            weather: watch::Sender::new(Weather::Fair),
            cuts: watch::Sender::new(0),
            loss: Mutex::new(None),
            lost: AtomicU64::new(0),
            passing: Mutex::new(None),
            cut_within: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            drop_one_in: AtomicU64::new(0),
            published: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
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
        *self.shared.passing.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
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

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// Fair weather, and nothing is lost or cut any more.
    pub fn heal(&self) {
        self.set(Weather::Fair);
        *self.shared.passing.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.shared.loss.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.shared.drop_one_in.store(0, Ordering::Relaxed);
    }

    /// The next `count` requests that hold `pattern` reach the server; instead of the reply the client gets the end of
    /// its connection.
    pub fn lose_replies(&self, pattern: &'static [u8], count: u64) {
        *self.shared.loss.lock().unwrap_or_else(PoisonError::into_inner) = Some((pattern, count));
    }

    /// How many replies were lost.
    #[must_use]
    pub fn lost_replies(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Leaves out one published message in `one_in` on its way from Redis; 1 for all, 0 for none. Connections that stand
    /// are cut, since it must see a connection from its beginning.
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

/// Takes connections until it is aborted; they end with it.
async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors: the next one that is closed makes room.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if *shared.weather.borrow() == Weather::Refusing {
            pump::end_audibly(&client);
            continue;
        }
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A server that is not there looks the same through the proxy: the client is hung up on.
            match TcpStream::connect(target).await {
                Ok(server) => Connection::new(shared).carry(client, server).await,
                Err(_) => pump::end_audibly(&client),
            }
        });
    }
}

impl Shared {
    /// True if `request` is one whose reply is to be lost; it counts.
    fn loses_reply_to(&self, request: &[u8]) -> bool {
        let mut loss = self.loss.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((pattern, left)) = loss.as_mut() else {
            return false;
        };
        if !request.windows(pattern.len()).any(|window| window == *pattern) {
            return false;
        }
        *left -= 1;
        if *left == 0 {
            *loss = None;
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// How many of `length` bytes from the server may pass, and whether the connection ends behind them.
    fn admit(&self, length: usize) -> (usize, bool) {
        let mut passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        let (admitted, ends) = match passing.as_mut() {
            Some(left) if *left > length => {
                *left -= length;
                (length, false)
            }
            Some(left) => (*left, true),
            None => (length, false),
        };
        if ends {
            *passing = None;
            self.cut_within.fetch_add(1, Ordering::Relaxed);
        }
        self.passed.fetch_add(admitted as u64, Ordering::Relaxed);
        (admitted, ends)
    }

    /// True if the next published message is to be left out.
    fn drops_next(&self) -> bool {
        let one_in = self.drop_one_in.load(Ordering::Relaxed);
        let number = self.published.fetch_add(1, Ordering::Relaxed);
        let drops = one_in > 0 && number.is_multiple_of(one_in);
        if drops {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        drops
    }
}

#[cfg(test)]
mod tests;
