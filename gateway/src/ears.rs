//! What this gateway does with what it hears from Redis.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::{CONTROL_CHANNEL, ControlEvent, room_of_channel};
use shared::storage::StoreError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::app::App;
use crate::live::{ByeReason, Listener};

/// How often the open streams are compared with SQL although nothing happened.
const RECHECK_EVERY: Duration = Duration::from_secs(15);

/// Pause after a comparison failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Streams compared by one query.
const STREAMS_AT_ONCE: usize = 500;

impl Listener for App {
    fn channels(&self) -> Vec<String> {
        vec![CONTROL_CHANNEL.to_owned()]
    }

    fn hear(self: &Arc<Self>, channel: &str, payload: &[u8]) {
        if channel == CONTROL_CHANNEL {
            match ControlEvent::decode(payload) {
                Ok(event) => self.act_on(&event),
                Err(error) => warn!(error = %error, "unreadable control event: {error}"),
            }
        } else if let Some(room) = room_of_channel(channel) {
            self.hub.hear(room, payload);
        }
    }

    /// Anything may have happened meanwhile: what is known is forgotten, and what is open is checked.
    fn reconnected(self: &Arc<Self>) {
        self.sessions.forget_all();
        self.rooms.forget_all();
        self.recheck.notify_one();
    }
}

impl App {
    /// Compares what is open and remembered here with SQL: after an outage at once, and now and then since a control
    /// event can be lost. Runs until `stop` is cancelled.
    pub(crate) async fn keep_true(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.recheck.notified() => {}
                () = sleep(RECHECK_EVERY) => {}
            }
            let (ended, ()) = tokio::join!(self.end_forbidden_streams(), self.hub.compare_heads());
            if let Err(error) = ended {
                warn!(error = %error, "cannot check the open streams, trying again: {error}");
                self.recheck.notify_one();
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Ends the streams whose session or membership has ended.
    async fn end_forbidden_streams(&self) -> Result<(), StoreError> {
        for some in self.connections.all().chunks(STREAMS_AT_ONCE) {
            let sessions: Vec<_> = some.iter().map(|connection| connection.session).collect();
            let members: Vec<_> = some.iter().map(|connection| (connection.room, connection.user)).collect();
            let open = self.store.open_sessions(&sessions).await?;
            let allowed = self.store.members_among(&members).await?;
            for connection in some {
                if !open.contains(&connection.session) {
                    connection.end(ByeReason::Revoked);
                } else if !allowed.contains(&(connection.room, connection.user)) {
                    connection.end(ByeReason::Removed);
                }
            }
        }
        Ok(())
    }
}
