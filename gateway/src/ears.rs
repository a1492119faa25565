//! What this gateway does with what it hears from Redis.

use std::sync::Arc;

use shared::bus::{CONTROL_CHANNEL, ControlEvent, room_of_channel};
use tracing::warn;

use crate::app::App;
use crate::live::Listener;

impl Listener for App {
    fn channels(&self) -> Vec<String> {
        let receipts = self.acceptor.receipts_channel();
        receipts.into_iter().chain([CONTROL_CHANNEL.to_owned()]).collect()
    }

    fn hear(self: &Arc<Self>, channel: &str, payload: &[u8]) {
        if channel == CONTROL_CHANNEL {
            match ControlEvent::decode(payload) {
                Ok(event) => self.act_on(&event),
                Err(error) => warn!(error = %error, "unreadable control event: {error}"),
            }
        } else if let Some(room) = room_of_channel(channel) {
            self.hub.hear(room, payload);
        } else {
            self.acceptor.hear_receipts(payload);
        }
    }

    /// Any message may have been stored meanwhile. Of a removal that was missed [`crate::removals`] takes care.
    fn reconnected(self: &Arc<Self>) {
        self.hub.doubt_everything();
    }
}
