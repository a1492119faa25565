//! Wrong passwords for many accounts, as fast as the gateway responds: each costs a hash, unless it is refused before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::json;
use tokio::time::sleep;

use super::context::{Attack, FloodContext};
use crate::failure::Result;

/// Requests at the same time.
const AT_ONCE: usize = 64;
/// Pause after a refusal.
const RETRY_AFTER: Duration = Duration::from_millis(100);

pub(super) fn attack(context: Arc<FloodContext>) -> Attack {
    Box::pin(async move {
        let next = AtomicUsize::new(0);
        let all = (0..AT_ONCE).map(|_| guess(&context, &next));
        try_join_all(all).await.map(drop)
    })
}

async fn guess(context: &FloodContext, next: &AtomicUsize) -> Result<()> {
    loop {
        // The accounts of the baseline load are among them.
        let name = format!("user-{}", next.fetch_add(1, Ordering::Relaxed) % 1_000);
        let body = json!({"email": name, "password": "a guess that is wrong"});
        let response = context.attacker.send_json("/auth/login", &body).await;
        if !response.is_ok_and(|response| response.status() == 401) {
            sleep(RETRY_AFTER).await;
        }
    }
}
