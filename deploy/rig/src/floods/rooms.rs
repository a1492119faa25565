//! One user who creates rooms, joins, lists, leaves and deletes them, as fast as the gateway responds.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::context::{Attack, FloodContext};
use crate::failure::Result;
use reqwest::Method;

/// Requests at the same time.
const AT_ONCE: usize = 32;
/// Pause after a refusal.
const RETRY_AFTER: Duration = Duration::from_millis(50);

pub(super) fn attack(context: Arc<FloodContext>) -> Attack {
    Box::pin(async move {
        let all = (0..AT_ONCE).map(|number| create_and_delete(&context, number));
        try_join_all(all).await.map(drop)
    })
}

async fn create_and_delete(context: &FloodContext, number: usize) -> Result<()> {
    let room = format!("/chat/flood-{number}");
    let (member, list) = (format!("{room}/message"), "/chat/".to_owned());
    let join = format!("{room}/join");
    loop {
        for (method, path) in [
            (Method::POST, &room),
            (Method::POST, &join),
            (Method::GET, &list),
            (Method::DELETE, &member),
            (Method::DELETE, &room),
        ] {
            let response = context.attacker.call(method, path).await;
            if !response.is_ok_and(|response| response.status() < 400) {
                sleep(RETRY_AFTER).await;
            }
        }
    }
}
