//! Subscription to one server: a connection for its channels, and its replacement when it is lost.
//!
//! It reads without waiting for anything else. A channel counts as subscribed when the server has confirmed it by name. The
//! connection is closed when an answer does not come in time, when the server ends a subscription by itself (a slot has moved
//! away), or when messages come faster than they are handled; then every channel is subscribed to anew, and the handler
//! compares what it may have missed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike as _;
use redis::{ErrorKind, PushInfo, PushKind, RedisResult, ServerErrorKind, Value};
use shared::bus::{Node, RedisConnector};
use shared::telemetry::FailureSeries;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::EventHandler;
use super::connection::SubscribedConnection;
use super::desired_channels::{Comparison, DesiredChannels};

/// Channels subscribed to, or unsubscribed from, in one round trip.
const CHANNELS_AT_ONCE: usize = 512;

/// Messages that may wait to be handled. Handling one takes microseconds; if it does not keep up, the connection is replaced
/// and what was missed is read from SQL.
const MAX_PENDING_PUSHES: usize = 16_384;

/// How often the connection is probed, several times in the second for which caches are trusted (see [`crate::freshness`]). An
/// answer may take [`shared::bus::COMMAND_TIMEOUT`].
const PROBE_EVERY: Duration = Duration::from_millis(400);

/// How often channels that the server refused are tried again, because their slot is being moved.
const ALIGN_EVERY: Duration = Duration::from_secs(2);

/// Pause before connecting again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// The subscription to one server.
pub(super) struct Subscription<L> {
    pub(super) node: Node,
    pub(super) redis: RedisConnector,
    pub(super) desired: Arc<DesiredChannels>,
    pub(super) handler: Arc<L>,
}

impl<L: EventHandler> Subscription<L> {
    /// Keeps a connection until `end` is cancelled.
    pub(super) async fn run(self, end: CancellationToken) {
        let mut failures = FailureSeries::default();
        while !end.is_cancelled() {
            let outcome = tokio::select! {
                () = end.cancelled() => return,
                outcome = self.connect() => outcome,
            };
            match outcome {
                Ok(connection) => {
                    let channels = connection.confirmed.len();
                    info!(redis.server = %self.node, channels, "listening to {channels} channels of {}", self.node);
                    failures.recovered();
                    self.handler.on_reconnected();
                    self.serve(connection, &end).await;
                    self.handler.on_disconnected();
                    if !end.is_cancelled() {
                        warn!(redis.server = %self.node, "the connection for live events to {} is lost", self.node);
                    }
                }
                Err(error) => {
                    if failures.failed() {
                        warn!(
                            redis.server = %self.node, error = %error,
                            "cannot listen to live events of {}, retrying: {error}", self.node
                        );
                    }
                }
            }
            tokio::select! {
                () = end.cancelled() => {}
                () = sleep(RECONNECT_PAUSE) => {}
            }
        }
    }

    async fn connect(&self) -> RedisResult<SubscribedConnection> {
        let (sender, pushes) = mpsc::channel(MAX_PENDING_PUSHES);
        let overrun = CancellationToken::new();
        let on_overrun = overrun.clone();
        let push = move |push: PushInfo| sender.try_send(push).inspect_err(|_| on_overrun.cancel());
        let mut connection = SubscribedConnection {
            raw: self.redis.connect_for_pushes(&self.node, push).await?,
            pushes,
            overrun,
            confirmed: HashSet::new(),
            refused: Vec::new(),
            seen: None,
            unsubscribing: HashMap::new(),
        };
        self.align(&mut connection).await?;
        if connection.confirmed.contains(self.redis.key_space().control_channel()) {
            return Ok(connection);
        }
        Err((ErrorKind::Client, "the control channel was not subscribed to").into())
    }

    /// Serves one connection until it is lost.
    async fn serve(&self, mut connection: SubscribedConnection, end: &CancellationToken) {
        let mut changes = self.desired.changes();
        let (mut probe, mut alignment) = (interval(PROBE_EVERY), interval(ALIGN_EVERY));
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // It is asked for while something is refused, and that is seldom.
        alignment.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // For channels that were added between connecting and now.
        changes.mark_changed();
        loop {
            let outcome = tokio::select! {
                () = end.cancelled() => return,
                () = connection.overrun.cancelled() => return,
                push = connection.pushes.recv() => match push {
                    Some(push) if self.on_push(&push, &mut connection) => Ok(()),
                    _ => return,
                },
                _ = changes.changed() => self.align(&mut connection).await,
                _ = alignment.tick(), if !connection.refused.is_empty() => self.align(&mut connection).await,
                _ = probe.tick() => match self.probe(&mut connection).await {
                    Ok(true) => Ok(()),
                    Ok(false) => return,
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = outcome {
                self.redis.note_error(&error);
                return;
            }
        }
    }

    /// Asks the server for an answer, and handles all that it sent before; false if the connection can no longer be used.
    async fn probe(&self, connection: &mut SubscribedConnection) -> RedisResult<bool> {
        let asked = Instant::now();
        connection.ping().await?;
        while let Ok(push) = connection.pushes.try_recv() {
            if !self.on_push(&push, connection) {
                return Ok(false);
            }
        }
        if !connection.overrun.is_cancelled() {
            self.handler.on_confirmed(asked);
        }
        Ok(true)
    }

    /// Handles what the server sent; false if the connection can no longer be used.
    fn on_push(&self, push: &PushInfo, connection: &mut SubscribedConnection) -> bool {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::Message | PushKind::SMessage, [Value::BulkString(channel), Value::BulkString(payload)]) => {
                if let Ok(channel) = std::str::from_utf8(channel) {
                    self.handler.on_message(channel, payload);
                }
                true
            }
            (PushKind::Disconnection, _) => false,
            (PushKind::SUnsubscribe, [Value::BulkString(channel), ..]) => {
                let asked_for = std::str::from_utf8(channel).is_ok_and(|channel| connection.note_unsubscribed(channel));
                if !asked_for {
                    self.redis.note_error(&(ServerErrorKind::Moved.into(), "a slot has moved").into());
                }
                asked_for
            }
            _ => true,
        }
    }

    /// Subscribes to the desired channels of this server that are not confirmed, and unsubscribes from all others.
    async fn align(&self, connection: &mut SubscribedConnection) -> RedisResult<()> {
        let refused = std::mem::take(&mut connection.refused);
        let (comparison, seen) = self.desired.comparison(connection.seen, refused);
        let (ours, others): (Vec<Arc<str>>, Vec<Arc<str>>) = match comparison {
            Comparison::All => {
                let ours = self.desired.matching(|channel| self.is_ours(channel));
                let wanted: HashSet<&Arc<str>> = ours.iter().collect();
                let others = connection.confirmed.iter().filter(|channel| !wanted.contains(channel)).cloned().collect();
                (ours, others)
            }
            Comparison::Some(channels) => {
                let (ours, others): (Vec<_>, Vec<_>) =
                    channels.into_iter().partition(|(channel, is_desired)| *is_desired && self.is_ours(channel));
                let names = |channels: Vec<(Arc<str>, bool)>| channels.into_iter().map(|(channel, _)| channel);
                let others = names(others).filter(|channel| connection.confirmed.contains(channel)).collect();
                (names(ours).collect(), others)
            }
        };
        let (known, new): (Vec<_>, Vec<_>) =
            ours.into_iter().partition(|channel| connection.confirmed.contains(channel));
        for channel in &known {
            self.desired.confirm(channel);
        }
        for some in new.chunks(CHANNELS_AT_ONCE) {
            self.subscribe(connection, some).await?;
        }
        for some in others.chunks(CHANNELS_AT_ONCE) {
            connection.unsubscribe(some, self.redis.key_space()).await?;
        }
        connection.seen = Some(seen);
        Ok(())
    }

    /// On a cluster the channel of a room belongs to one server, and a channel for all comes from each of them.
    fn is_ours(&self, channel: &str) -> bool {
        !self.redis.key_space().is_sharded(channel) || self.redis.node_of_channel(channel).as_ref() == Some(&self.node)
    }

    async fn subscribe(&self, connection: &mut SubscribedConnection, channels: &[Arc<str>]) -> RedisResult<()> {
        let mut commands = redis::pipe();
        for channel in channels {
            // One each: channels of different slots must not be named together.
            let subscribe = if self.redis.key_space().is_sharded(channel) {
                "SSUBSCRIBE"
            } else {
                "SUBSCRIBE"
            };
            commands.cmd(subscribe).arg(&**channel);
        }
        let answers = connection.raw.req_packed_commands(&commands, 0, channels.len()).await?;
        for (channel, answer) in channels.iter().zip(answers) {
            match answer {
                Value::Push {
                    kind: PushKind::SSubscribe | PushKind::Subscribe,
                    data,
                } if names(&data, channel) => {
                    connection.confirmed.insert(Arc::clone(channel));
                    self.desired.confirm(channel);
                }
                // The server does not hold this slot, or not yet: tried again with the next alignment.
                Value::ServerError(error) if error.kind().is_some_and(is_about_slots) => {
                    connection.refused.push(Arc::clone(channel));
                    self.redis.note_error(&error.into());
                }
                Value::ServerError(error) => return Err(error.into()),
                _ => return Err((ErrorKind::UnexpectedReturnType, "a subscription was not confirmed").into()),
            }
        }
        Ok(())
    }
}

fn names(data: &[Value], channel: &str) -> bool {
    matches!(data.first(), Some(Value::BulkString(name)) if name == channel.as_bytes())
}

fn is_about_slots(kind: ServerErrorKind) -> bool {
    matches!(
        kind,
        ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown
    )
}
