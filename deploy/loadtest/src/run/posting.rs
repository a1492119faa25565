//! Posts messages outside of the load, and waits until they are stored.

use std::time::Duration;

use rig::{ApiClient, Failure, Result, eventually};

use super::Run;
use crate::threads::control::RequestCounters;
use crate::threads::request_cycle;
use crate::threads::request_thread::RequestLimits;

/// Longest time to post the history that is read later, or the messages that streams miss.
const POST_WITHIN: Duration = Duration::from_mins(15);
/// Longest time from the last response until all messages are stored.
pub(super) const STORE_WITHIN: Duration = Duration::from_mins(5);

impl Run<'_> {
    /// Posts `messages` to each room, and waits until they are accepted.
    pub(super) async fn post(&self, step: &'static str, messages: u64) -> Result<()> {
        let cycles = request_cycle::posts_of(self.plan, &self.workers.target, messages);
        let total = cycles.iter().filter_map(|cycle| cycle.limit).sum();
        let requests = self.workers.start_requests(cycles, RequestLimits::default());
        self.progress.step(step, total);
        self.until(POST_WITHIN, "all messages are posted", || {
            let answered = self.workers.request_counters().answered;
            self.progress.set(answered, || format!("{answered} of {total} messages"));
            Ok(requests.has_ended())
        })
        .await?;
        requests.end().await?;
        let RequestCounters { answered, refusal, .. } = self.workers.request_counters();
        if answered < total {
            let refusal = refusal.unwrap_or_default();
            return Err(Failure::new(format!("only {answered} of {total} messages were accepted: {refusal}")));
        }
        Ok(())
    }

    /// Waits until the history of each room holds `messages`, so that all pages that are read later are full.
    pub(super) async fn wait_stored(&self, messages: u64) -> Result<()> {
        let target = &self.workers.target;
        let client = ApiClient::at(&format!("http://{}", target.address(0)))?;
        self.progress.step("storing", target.rooms.len() as u64);
        for (number, room) in target.rooms.iter().enumerate() {
            let token = target.tokens.get(target.users_of_room(number).start);
            let reader = client.with_token(token.map(String::as_str).unwrap_or_default());
            eventually(STORE_WITHIN, "all messages are stored", async || {
                let newest =
                    reader.history(room, "?limit=1").await?.first().and_then(|message| message["seq"].as_u64());
                match newest.unwrap_or(0).saturating_sub(target.other_entries(number)) {
                    stored if stored >= messages => Ok(()),
                    stored => Err(Failure::new(format!("{stored} of {messages} messages of {room} are stored"))),
                }
            })
            .await?;
        }
        Ok(())
    }
}
