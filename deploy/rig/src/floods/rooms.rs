//! One user who makes rooms, joins and leaves them, deletes them and lists all there are, as fast as it is answered.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::Attack;
use super::attacker::Ground;
use crate::{Method, Result};

/// What is done at once.
const AT_ONCE: usize = 32;
/// After a refusal.
const AGAIN: Duration = Duration::from_millis(50);

pub(super) fn attack(ground: Arc<Ground>) -> Attack {
    Box::pin(async move {
        let all = (0..AT_ONCE).map(|number| come_and_go(&ground, number));
        try_join_all(all).await.map(drop)
    })
}

async fn come_and_go(ground: &Ground, number: usize) -> Result<()> {
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
            let answer = ground.attacker.call(method, path).await;
            if !answer.is_ok_and(|answer| answer.status() < 400) {
                sleep(AGAIN).await;
            }
        }
    }
}
