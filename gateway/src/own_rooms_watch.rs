//! Watch of users' rooms: finds streams of all rooms of a user that have not read the last change of them.
//!
//! A stream reads its user's rooms when it is told of a change. What is told through Redis may be lost, and then this comparison of versions
//! takes its place, as the comparison of heads does for the entries of a room.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::domain::{RoomsVersion, UserId};
use shared::storage::Store;
use shared::telemetry::FailureSeries;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::live::{Followed, StreamRegistry, UserInbox};

/// Time between two queries.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// Users in one query. With more of them they take turns.
const USERS_AT_ONCE: usize = 1_000;

/// Compares until `stop`.
pub(crate) async fn watch(store: Store, streams: StreamRegistry, stop: CancellationToken) {
    let (mut last, mut failures) = (UserId(0), FailureSeries::default());
    // What streams were woken for: one that a client keeps from reading is woken once.
    let mut noted: HashMap<UserId, RoomsVersion> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(CHECK_EVERY) => {}
        }
        let (users, inboxes) = next_users(&streams, last);
        last = if users.len() < USERS_AT_ONCE {
            UserId(0)
        } else {
            users.last().copied().unwrap_or(UserId(0))
        };
        noted.retain(|user, _| inboxes.contains_key(user));
        if users.is_empty() {
            continue;
        }
        match store.rooms_versions(&users).await {
            Ok(versions) => {
                if failures.recovered() {
                    info!("the rooms of users are compared again");
                }
                for (user, version) in versions {
                    let behind = inboxes.get(&user).into_iter().flatten().find(|inbox| inbox.is_behind(version));
                    if let Some(inbox) = behind
                        && noted.insert(user, version) != Some(version)
                    {
                        inbox.topic.note_change();
                    }
                }
            }
            Err(error) if failures.failed() => {
                warn!(error = %error, "cannot compare the rooms of users, retrying: {error}");
            }
            Err(_) => {}
        }
    }
}

/// The next users with streams of all their rooms, above `last`, ascending, and the inboxes of all such streams.
fn next_users(streams: &StreamRegistry, last: UserId) -> (Vec<UserId>, HashMap<UserId, Vec<Arc<UserInbox>>>) {
    let mut inboxes: HashMap<UserId, Vec<Arc<UserInbox>>> = HashMap::new();
    for stream in streams.all() {
        if let Followed::AllRooms(inbox) = &stream.followed {
            inboxes.entry(stream.user).or_default().push(Arc::clone(inbox));
        }
    }
    let mut users: Vec<UserId> = inboxes.keys().copied().filter(|user| *user > last).collect();
    users.sort_unstable();
    users.truncate(USERS_AT_ONCE);
    (users, inboxes)
}
