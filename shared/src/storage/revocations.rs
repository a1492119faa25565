//! What was taken away from somebody, as gateways look it up.

use uuid::Uuid;

use crate::domain::{MembershipId, RoomId, RoomName, SessionId, UserId};

/// Something that somebody may no longer do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// A session was revoked.
    Session {
        /// Whose it was.
        user: UserId,
        /// Which one.
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
        /// What it was called.
        name: RoomName,
    },
}

/// A row of `removal_log`: session, user, room and membership, with the room's name.
pub(super) type RevocationRow = (Option<Uuid>, Option<i64>, Option<i64>, Option<i64>, Option<String>);

/// Reads the rows of as many removals as are `expected`; `None` if some are not there any more, or of a kind that a later
/// release has brought.
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
            // What a release that knew of no ids has logged ended a membership that had none.
            membership: MembershipId(membership.unwrap_or(0)),
        }),
        (None, None, Some(room), _, Some(name)) => RoomName::parse(&name).ok().map(|name| Revocation::Room {
            room: RoomId(room),
            name,
        }),
        _ => None,
    }
}
