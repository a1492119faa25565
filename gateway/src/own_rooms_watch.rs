//! Watch of users' rooms: finds streams of all rooms of a user that have not read the last change of them.
//!
//! A stream reads its user's rooms when it is told of a change. What is told through Redis may be lost, and then this comparison of versions
//! takes its place, as the comparison of heads does for the entries of a room.

use std::collections::{BTreeMap, HashMap};
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
        let inboxes = next_users(&streams, last);
        let users: Vec<UserId> =
            inboxes.iter().filter(|(_, inboxes)| !inboxes.is_empty()).map(|(user, _)| *user).collect();
        let upto = inboxes.last_key_value().map(|(user, _)| *user).filter(|_| inboxes.len() >= USERS_AT_ONCE);
        // Of the users of this turn, those are remembered that still have streams.
        let is_of_turn = |user: UserId| user > last && upto.is_none_or(|upto| user <= upto);
        noted.retain(|user, _| !is_of_turn(*user) || inboxes.contains_key(user));
        last = upto.unwrap_or(UserId(0));
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

/// The next users above `last` with streams, and the inboxes of those that are of all their rooms.
fn next_users(streams: &StreamRegistry, last: UserId) -> BTreeMap<UserId, Vec<Arc<UserInbox>>> {
    let mut inboxes: BTreeMap<UserId, Vec<Arc<UserInbox>>> = BTreeMap::new();
    for stream in streams.of_users_above(last, USERS_AT_ONCE) {
        let of_user = inboxes.entry(stream.user).or_default();
        if let Followed::AllRooms(inbox) = &stream.followed {
            of_user.push(Arc::clone(inbox));
        }
    }
    inboxes
}

#[cfg(test)]
mod tests {
    use shared::domain::{MembershipId, RoomId, SessionId};
    use uuid::Uuid;

    use super::*;
    use crate::live::UserTopics;

    #[test]
    fn users_take_turns() {
        let (streams, topics) = (StreamRegistry::default(), UserTopics::default());
        let count = i64::try_from(USERS_AT_ONCE).unwrap();
        let session = SessionId(Uuid::nil());
        let all_rooms = |user| Followed::AllRooms(Arc::new(UserInbox::new(topics.open(user))));
        let mut open: Vec<_> =
            (1..=count + 5).map(UserId).map(|user| streams.register(user, session, all_rooms(user))).collect();
        let room = Followed::Room {
            room: RoomId(1),
            membership: MembershipId(1),
        };
        open.push(streams.register(UserId(7), session, room));
        let first = next_users(&streams, UserId(0));
        assert_eq!((first.len(), first[&UserId(7)].len()), (USERS_AT_ONCE, 1));
        let second = next_users(&streams, UserId(count));
        assert!(second.keys().map(|user| user.0).eq(count + 1..=count + 5));
        drop(open);
        assert!(next_users(&streams, UserId(0)).is_empty());
    }
}
