//! One proxied connection: it copies bytes in both directions and applies the faults of its link.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::condition::NetworkCondition;
use super::resp::Replies;
use super::shared::Shared;

/// Bytes read from one side at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// The direction in which bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// One client at one server.
pub(super) struct Connection {
    shared: Arc<Shared>,
    /// Set when the reply that comes next must not arrive.
    reply_is_lost: AtomicBool,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            reply_is_lost: AtomicBool::new(false),
        }
    }

    /// Copies both ways until both sides have ended, or the connection is cut.
    pub(super) async fn carry(self, client: TcpStream, server: TcpStream) {
        let mut cuts = self.shared.cuts.subscribe();
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let both = async {
            let up = self.pump(Direction::Up, from_client, to_server);
            let down = self.pump(Direction::Down, from_server, to_client);
            // A lost reply ends both directions; a side that merely closes its half ends its own.
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
    async fn pump(&self, direction: Direction, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
        let mut condition = self.shared.condition.subscribe();
        let mut replies = self.filters(direction).then(Replies::default);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let length = from.read(&mut chunk).await?;
            wait_until_passable(&mut condition, direction).await;
            if length == 0 {
                return to.shutdown().await;
            }
            match direction {
                Direction::Up if self.shared.loses_reply_to(&chunk[..length]) => {
                    self.reply_is_lost.store(true, Ordering::Relaxed);
                }
                Direction::Down if self.reply_is_lost.load(Ordering::Relaxed) => {
                    return Err(std::io::ErrorKind::ConnectionAborted.into());
                }
                Direction::Up | Direction::Down => {}
            }
            let (admitted, ends) = match direction {
                Direction::Up => (length, false),
                Direction::Down => self.shared.admit(length),
            };
            match &mut replies {
                Some(replies) => to.write_all(&replies.filter(&chunk[..admitted], || self.shared.drops_next())).await?,
                None => to.write_all(&chunk[..admitted]).await?,
            }
            if ends {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
        }
    }

    fn filters(&self, direction: Direction) -> bool {
        direction == Direction::Down && self.shared.drop_one_in.load(Ordering::Relaxed) > 0
    }
}

/// Waits until a chunk may pass.
async fn wait_until_passable(condition: &mut watch::Receiver<NetworkCondition>, direction: Direction) {
    let slow = match *condition.borrow_and_update() {
        NetworkCondition::Slow(delay) => delay,
        NetworkCondition::Normal | NetworkCondition::Refusing | NetworkCondition::Blocked { .. } => Duration::ZERO,
    };
    if slow > Duration::ZERO {
        tokio::time::sleep(slow).await;
    }
    let passes = |condition: &NetworkCondition| match *condition {
        NetworkCondition::Blocked { up, down } => !(if direction == Direction::Up { up } else { down }),
        NetworkCondition::Normal | NetworkCondition::Refusing | NetworkCondition::Slow(_) => true,
    };
    // An error means that the proxy is gone, which ends this connection as well.
    let _ = condition.wait_for(passes).await;
}

/// Makes `stream` end with a reset in place of an orderly end, so that the other side sees that it was cut.
pub(super) fn reset_on_close(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
