//! One proxied connection: two directions, and what may happen to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::resp::Replies;
use super::{Shared, Weather};

/// Bytes taken from one side at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// One client at one server.
pub(super) struct Connection {
    shared: Arc<Shared>,
    /// Set when the reply that comes next must not arrive.
    doomed: AtomicBool,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            doomed: AtomicBool::new(false),
        }
    }

    /// Copies both ways until both sides have ended, or the connection is cut.
    pub(super) async fn carry(self, client: TcpStream, server: TcpStream) {
        let mut cuts = self.shared.cuts.subscribe();
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let both = async {
            let up = self.pump(Way::Up, from_client, to_server);
            let down = self.pump(Way::Down, from_server, to_client);
            // A lost reply ends both directions; a side that merely has nothing more to say ends its own.
            tokio::pin!(up, down);
            tokio::select! {
                ended = &mut up => if ended.is_ok() { let _ = down.await; },
                ended = &mut down => if ended.is_ok() { let _ = up.await; },
            }
        };
        tokio::select! {
            () = both => {}
            _ = cuts.changed() => {}
        }
    }

    /// Copies one way; an error means that the other way must end too.
    async fn pump(&self, way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
        let mut weather = self.shared.weather.subscribe();
        let mut replies = self.filters(way).then(Replies::default);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = from.read(&mut piece).await?;
            pass(&mut weather, way).await;
            if length == 0 {
                return to.shutdown().await;
            }
            match way {
                Way::Up if self.shared.loses_reply_to(&piece[..length]) => self.doomed.store(true, Ordering::Relaxed),
                Way::Down if self.doomed.load(Ordering::Relaxed) => {
                    return Err(std::io::ErrorKind::ConnectionAborted.into());
                }
                Way::Up | Way::Down => {}
            }
            let (admitted, ends) = match way {
                Way::Up => (length, false),
                Way::Down => self.shared.admit(length),
            };
            match &mut replies {
                Some(replies) => to.write_all(&replies.filter(&piece[..admitted], || self.shared.drops_next())).await?,
                None => to.write_all(&piece[..admitted]).await?,
            }
            if ends {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
        }
    }

    fn filters(&self, way: Way) -> bool {
        way == Way::Down && self.shared.drop_one_in.load(Ordering::Relaxed) > 0
    }
}

/// Waits until a piece may pass.
async fn pass(weather: &mut watch::Receiver<Weather>, way: Way) {
    let slow = match *weather.borrow_and_update() {
        Weather::Slow(delay) => delay,
        Weather::Fair | Weather::Refusing | Weather::Dark { .. } => Duration::ZERO,
    };
    if slow > Duration::ZERO {
        tokio::time::sleep(slow).await;
    }
    let passes = |weather: &Weather| match *weather {
        Weather::Dark { up, down } => !(if way == Way::Up { up } else { down }),
        Weather::Fair | Weather::Refusing | Weather::Slow(_) => true,
    };
    // An error means that the proxy is gone, which ends this connection as well.
    let _ = weather.wait_for(passes).await;
}

/// Makes the end of `stream` audible: the other side is told that it was cut, not that all was said.
pub(super) fn end_audibly(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
