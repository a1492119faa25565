//! Revocations: the log from which gateways learn who lost access.

use uuid::Uuid;

use crate::domain::{MembershipId, RoomId, RoomName, SessionId, UserId};

/// A loss of access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// A session was revoked.
    Session {
        /// The user.
        user: UserId,
        /// The session.
        session: SessionId,
    },
    /// A user is no longer in a room.
    Member {
        /// The room.
        room: RoomId,
        /// The user.
        user: UserId,
        /// The membership that ended.
        membership: MembershipId,
    },
    /// A room was deleted.
    Room {
        /// The room.
        room: RoomId,
        /// Its name.
        name: RoomName,
    },
}

/// A row of `removal_log`: session, user, room and membership, and the room's name.
pub(super) type RevocationRow = (Option<Uuid>, Option<i64>, Option<i64>, Option<i64>, Option<String>);

/// Converts the rows of the `expected` number of revocations; `None` if some are no longer stored, or are of a kind that a
/// later release has added.
pub(super) fn decode_revocations(rows: Vec<RevocationRow>, expected: i64) -> Option<Vec<Revocation>> {
    if i64::try_from(rows.len()) != Ok(expected) {
        return None;
    }
    rows.into_iter().map(decode_row).collect()
}

fn decode_row(row: RevocationRow) -> Option<Revocation> {
    match row {
        (Some(session), Some(user), None, _, _) => Some(Revocation::Session {
            user: UserId(user),
            session: SessionId(session),
        }),
        (None, Some(user), Some(room), membership, _) => Some(Revocation::Member {
            room: RoomId(room),
            user: UserId(user),
            // Releases that had no ids of memberships logged none.
            membership: MembershipId(membership.unwrap_or(0)),
        }),
        (None, None, Some(room), _, Some(name)) => RoomName::parse(&name).ok().map(|name| Revocation::Room {
            room: RoomId(room),
            name,
        }),
        _ => None,
    }
}
