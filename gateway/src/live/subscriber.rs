//! The one connection on which this process hears of stored messages and control events.
//!
//! It reads without ever waiting for anything else. When it comes back after an outage it subscribes anew and lets the
//! hub compare heads, and the caches and streams check what they believed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, Msg, RedisResult};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::coherent::ControlLink;

/// Subscriptions that may wait to be made.
const COMMANDS: usize = 1_024;

/// Channels subscribed to by one command after a reconnect.
const CHANNELS_AT_ONCE: usize = 512;

/// How often the connection is proved to be alive.
const PROOF_EVERY: Duration = Duration::from_secs(2);

/// How long an answer may take before the connection counts as lost.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Pause before connecting again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// A change of what is listened to.
enum Command {
    Subscribe(String, oneshot::Sender<()>),
    Unsubscribe(String),
}

/// Lets others change what is listened to. Clones share the connection.
#[derive(Clone)]
pub struct Subscriber {
    commands: mpsc::Sender<Command>,
}

/// The other half of a [`Subscriber`], which [`run`] takes.
pub struct Commands(mpsc::Receiver<Command>);

/// What hears the messages.
pub trait Listener: Send + Sync + 'static {
    /// The channels that are listened to all the time.
    fn channels(&self) -> Vec<String>;

    /// A message came. It must return at once.
    fn hear(self: &Arc<Self>, channel: &str, payload: &[u8]);

    /// The subscriptions stand, for the first time or after an outage, in which anything may have been missed.
    fn reconnected(self: &Arc<Self>);
}

impl Subscriber {
    /// A subscriber and what [`run`] needs to serve it.
    #[must_use]
    pub fn new() -> (Self, Commands) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        (Self { commands }, Commands(receiver))
    }

    /// Listens to `channel`; returns when the subscription stands. False if the process is stopping.
    pub async fn subscribe(&self, channel: String) -> bool {
        let (done, stands) = oneshot::channel();
        self.commands.send(Command::Subscribe(channel, done)).await.is_ok() && stands.await.is_ok()
    }

    /// Listens to `channel` no longer. False if it cannot be said now: too much is waiting.
    #[must_use]
    pub fn unsubscribe(&self, channel: String) -> bool {
        self.commands.try_send(Command::Unsubscribe(channel)).is_ok()
    }
}

/// Keeps the connection until `stop` is cancelled.
pub async fn run<L: Listener>(
    client: Client,
    Commands(mut commands): Commands,
    listener: Arc<L>,
    link: ControlLink,
    stop: CancellationToken,
) {
    let mut channels: HashSet<String> = listener.channels().into_iter().collect();
    let mut complained = false;
    while !stop.is_cancelled() {
        let outcome = tokio::select! {
            () = stop.cancelled() => break,
            outcome = connect(&client, &channels) => outcome,
        };
        match outcome {
            Ok((sink, stream)) => {
                info!(channels = channels.len(), "listening to {} channels", channels.len());
                complained = false;
                // First forget, then trust the caches again.
                listener.reconnected();
                link.set(true);
                serve(sink, stream, &mut channels, &mut commands, &listener, &stop).await;
                link.set(false);
                if !stop.is_cancelled() {
                    warn!("the connection for live events is lost");
                }
            }
            Err(error) if !complained => {
                warn!(error = %error, "cannot listen to live events, trying on: {error}");
                complained = true;
            }
            Err(_) => {}
        }
        sleep(RECONNECT_PAUSE).await;
    }
}

async fn connect(client: &Client, channels: &HashSet<String>) -> RedisResult<(PubSubSink, PubSubStream)> {
    let (mut sink, stream) = in_time(client.get_async_pubsub()).await?.split();
    let channels: Vec<&String> = channels.iter().collect();
    for some in channels.chunks(CHANNELS_AT_ONCE) {
        in_time(sink.subscribe(some)).await?;
    }
    Ok((sink, stream))
}

/// The answer to a command, if it comes in time: on this connection the driver itself waits for ever.
async fn in_time<T>(command: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match timeout(ANSWER_TIME, command).await {
        Ok(answer) => answer,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// Serves one connection until it is lost.
async fn serve<L: Listener>(
    mut sink: PubSubSink,
    mut stream: PubSubStream,
    channels: &mut HashSet<String>,
    commands: &mut mpsc::Receiver<Command>,
    listener: &Arc<L>,
    stop: &CancellationToken,
) {
    let mut proof = interval(PROOF_EVERY);
    loop {
        let served = tokio::select! {
            () = stop.cancelled() => return,
            message = stream.next() => match message {
                Some(message) => hear(listener, &message),
                None => return,
            },
            Some(command) = commands.recv() => obey(command, &mut sink, channels).await,
            _ = proof.tick() => in_time(sink.ping::<redis::Value>()).await.is_ok(),
        };
        if !served {
            return;
        }
    }
}

fn hear<L: Listener>(listener: &Arc<L>, message: &Msg) -> bool {
    listener.hear(message.get_channel_name(), message.get_payload_bytes());
    true
}

/// Changes a subscription; false if the connection failed. The wish is remembered for the next connection either way.
async fn obey(command: Command, sink: &mut PubSubSink, channels: &mut HashSet<String>) -> bool {
    match command {
        Command::Subscribe(channel, done) => {
            let made = in_time(sink.subscribe(&channel)).await.is_ok();
            channels.insert(channel);
            if made {
                // Whoever asked may have gone away meanwhile; the sweep of idle feeds ends the subscription then.
                let _ = done.send(());
            }
            made
        }
        Command::Unsubscribe(channel) => {
            channels.remove(&channel);
            in_time(sink.unsubscribe(&channel)).await.is_ok()
        }
    }
}
