//! What this gateway does with what it hears from Redis.

use std::sync::Arc;

use shared::bus::ControlMessage;
use tokio::time::Instant;

use crate::app::App;
use crate::live::EventHandler;

impl EventHandler for App {
    fn channels(&self) -> Vec<String> {
        let receipts = self.acceptor.receipts_channel();
        let acknowledgements = self.control.acknowledgements_channel().to_owned();
        let control = self.redis.key_space().control_channel().to_owned();
        receipts.into_iter().chain([control, acknowledgements]).collect()
    }

    fn on_message(self: &Arc<Self>, channel: &str, payload: &[u8]) {
        let keys = self.redis.key_space();
        if channel == keys.control_channel() {
            match ControlMessage::decode(payload, keys) {
                Ok(ControlMessage { event, reply_to }) => {
                    self.act_on(&event);
                    if let Some(to) = reply_to {
                        self.control.acknowledge(to);
                    }
                }
                Err(error) => error.report("control event"),
            }
        } else if let Some(room) = keys.room_of_channel(channel) {
            self.hub.on_room_event(room, payload);
        } else if channel == self.control.acknowledgements_channel() {
            self.control.on_acknowledgements(payload);
        } else {
            self.acceptor.on_receipts(payload);
        }
    }

    /// Any message may have been stored meanwhile, and anything may have ended.
    fn on_reconnected(self: &Arc<Self>) {
        self.freshness.subscription_restored(Instant::now());
        self.hub.mark_all_stale();
    }

    fn on_confirmed(self: &Arc<Self>, asked: Instant) {
        self.freshness.confirm(asked);
    }

    fn on_disconnected(self: &Arc<Self>) {
        self.freshness.subscription_lost(Instant::now());
    }
}
