//! Wrong passwords for many accounts, as fast as they are answered: each costs a hash, if it gets so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::json;
use tokio::time::sleep;

use super::Attack;
use super::attacker::Ground;
use crate::Result;

/// Requests at once.
const AT_ONCE: usize = 64;
/// After a refusal.
const AGAIN: Duration = Duration::from_millis(100);

pub(super) fn attack(ground: Arc<Ground>) -> Attack {
    Box::pin(async move {
        let next = AtomicUsize::new(0);
        let all = (0..AT_ONCE).map(|_| guess(&ground, &next));
        try_join_all(all).await.map(drop)
    })
}

async fn guess(ground: &Ground, next: &AtomicUsize) -> Result<()> {
    loop {
        // The ordinary users' accounts are among them.
        let name = format!("user-{}", next.fetch_add(1, Ordering::Relaxed) % 1_000);
        let body = json!({"email": name, "password": "a guess that is wrong"});
        let answer = ground.attacker.send_json("/auth/login", &body).await;
        if !answer.is_ok_and(|answer| answer.status() == 401) {
            sleep(AGAIN).await;
        }
    }
}
