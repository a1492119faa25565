//! A connection for channels: what is confirmed on it, and the commands that need no other state.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{ErrorKind, PushInfo, RedisResult, Value, cmd};
use shared::bus::KeySpace;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A connection, and the channels that are subscribed to on it.
pub(super) struct SubscribedConnection {
    pub(super) raw: MultiplexedConnection,
    pub(super) pushes: mpsc::Receiver<PushInfo>,
    /// Cancelled when a push came while `MAX_PENDING_PUSHES` waited.
    pub(super) overrun: CancellationToken,
    /// The channels that the server has confirmed.
    pub(super) confirmed: HashSet<Arc<str>>,
    /// Channels that the server has refused, because it does not hold their slots, or not yet.
    pub(super) refused: Vec<Arc<str>>,
    /// How many changes of the desired channels were seen; `None` before the first comparison.
    pub(super) seen: Option<u64>,
    /// Channels that we unsubscribed from and whose confirmation is yet to be read among the pushes, with how often.
    pub(super) unsubscribing: HashMap<Arc<str>, u32>,
}

impl SubscribedConnection {
    /// Notes the end of a sharded subscription; false if it was not asked for.
    pub(super) fn note_unsubscribed(&mut self, channel: &str) -> bool {
        let Some(times) = self.unsubscribing.get_mut(channel) else {
            return false;
        };
        *times -= 1;
        if *times == 0 {
            self.unsubscribing.remove(channel);
        }
        true
    }

    /// Unsubscribes from `channels`.
    pub(super) async fn unsubscribe(&mut self, channels: &[Arc<str>], keys: &KeySpace) -> RedisResult<()> {
        let mut commands = redis::pipe();
        for channel in channels {
            self.confirmed.remove(channel);
            if keys.is_sharded(channel) {
                commands.cmd("SUNSUBSCRIBE").arg(&**channel);
                // The confirmation of the server must not be taken for a move of the slot.
                *self.unsubscribing.entry(Arc::clone(channel)).or_default() += 1;
            } else {
                commands.cmd("UNSUBSCRIBE").arg(&**channel);
            }
        }
        let answers = self.raw.req_packed_commands(&commands, 0, channels.len()).await?;
        answers.into_iter().try_for_each(|answer| answer.extract_error().map(drop))
    }

    /// Asks the server for an answer, which comes after all that it sent before.
    pub(super) async fn ping(&mut self) -> RedisResult<()> {
        match cmd("PING").query_async::<Value>(&mut self.raw).await? {
            Value::SimpleString(_) => Ok(()),
            // A push of the server that came in between was taken for the answer.
            _ => Err((ErrorKind::UnexpectedReturnType, "the answer to PING was another").into()),
        }
    }
}
