//! The outbox: what gateways changed about members and rooms, and the worker takes into the logs of the rooms.
//!
//! A gateway changes SQL at once, whether a worker is there or not, and writes a row of the outbox in the same transaction. The
//! commit of the worker replaces the row by an entry of the log, in one transaction too. So each change gets one entry, whoever
//! ends in between. Where it stands in the log says a hint in the accept log: after what was accepted before the change, such as
//! the last messages of a member who leaves. Without waiting for the hint, a message brings the changes up to the one that made its
//! sender a member. Changes that exclude each other, such as two of one membership, get theirs in the order of their
//! transactions, since the later one waits for the earlier one before it writes its row.

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use sqlx::FromRow;

use super::StoreError;
use super::commit_statements::{encode_detail, kind};
use super::rooms::Room;
use crate::domain::{Change, MemberChange, MemberRole, OutboxHint, RoomChange, RoomId, Timestamp, UserId};
use crate::telemetry::LogEvent;

/// The rows of the outbox that one commit takes at most. Only after a long outage are there more; then some wait for the next
/// commit, and messages may come before them.
pub(super) const OUTBOX_ROWS: u32 = 1_000;

/// A row of the outbox.
#[derive(Debug, FromRow)]
pub(super) struct OutboxRow {
    pub(super) id: i64,
    #[sqlx(rename = "room_id", try_from = "i64")]
    pub(super) room: RoomId,
    #[sqlx(rename = "sender_id", try_from = "i64")]
    pub(super) sender: UserId,
    /// The user that it is about, if it is about one.
    #[sqlx(rename = "member_id")]
    member: Option<i64>,
    kind: String,
    detail: String,
    created_on: i64,
}

impl OutboxRow {
    pub(super) fn member(&self) -> Option<UserId> {
        self.member.map(UserId)
    }

    /// Whether it made `user` a member.
    pub(super) fn admits(&self, user: UserId) -> bool {
        match self.change(Some(String::new())) {
            Ok(Change::Member { change, .. }) => {
                self.member() == Some(user) && matches!(change, MemberChange::Joined { .. })
            }
            Ok(Change::Room(RoomChange::Created { .. })) => self.sender == user,
            Ok(Change::Edit { .. } | Change::Delete { .. } | Change::Reaction { .. }) | Err(_) => false,
        }
    }

    pub(super) fn created_on(&self) -> Timestamp {
        Timestamp(self.created_on)
    }

    /// What it changed. `member` is the name of the user that it is about.
    pub(super) fn change(&self, member: Option<String>) -> Result<Change, sqlx::Error> {
        let detail = serde_json::from_str(&self.detail).map_err(|error| sqlx::Error::Decode(error.into()))?;
        decode_unaddressed(&self.kind, detail, member)
    }
}

static UNKNOWN_CHANGE: LogEvent = LogEvent::outage(
    "unknown_change",
    "the outbox has changes that this version does not know; they wait for a worker of a later one",
)
.warning();

/// Reports a row that this version cannot make an entry of.
pub(super) fn report_unknown(room: RoomId) {
    UNKNOWN_CHANGE.report(format_args!("room {}", room.0), "an entry of its log is missing");
}

/// The change of `kind` that is about no message, with its `detail` and the name of the user that it is about.
pub(super) fn decode_unaddressed(
    kind: &str,
    detail: serde_json::Value,
    member: Option<String>,
) -> Result<Change, sqlx::Error> {
    fn read<T: DeserializeOwned>(detail: serde_json::Value) -> Result<T, sqlx::Error> {
        serde_json::from_value(detail).map_err(|error| sqlx::Error::Decode(error.into()))
    }
    match (kind, member) {
        (kind::MEMBER, Some(member)) => Ok(Change::Member {
            member,
            change: read(detail)?,
        }),
        (kind::ROOM, _) => Ok(Change::Room(read(detail)?)),
        _ => Err(sqlx::Error::Decode(format!("a change of kind '{kind}' is not known here").into())),
    }
}

/// A change of a user's own membership as JSON, by whether the user owns the room.
pub(super) struct MemberDetails {
    pub(super) of_owner: String,
    pub(super) of_others: String,
}

/// Converts rows of a room and the id of its last row.
pub(super) fn decode_hints(rows: Vec<(i64, i64)>) -> Vec<OutboxHint> {
    let read = |(room, upto)| OutboxHint {
        room: RoomId(room),
        upto,
    };
    rows.into_iter().map(read).collect()
}

/// The details of joining a room.
pub(super) fn joined_details() -> MemberDetails {
    let detail = |role| encode_detail(&MemberChange::Joined { role });
    MemberDetails {
        of_owner: detail(MemberRole::Owner),
        of_others: detail(MemberRole::Member),
    }
}

/// The details of leaving a room.
pub(super) fn left_details() -> MemberDetails {
    let detail = encode_detail(&MemberChange::Left);
    MemberDetails {
        of_owner: detail.clone(),
        of_others: detail,
    }
}

/// The detail of creating `room`.
pub(super) fn created_detail(room: &Room) -> String {
    encode_detail(&RoomChange::Created {
        private: room.is_private,
    })
}

/// What waits in the outbox.
#[async_trait]
pub trait Outbox {
    /// At most `limit` rooms above `after` that the outbox has rows about, ascending, with the id of the last row of each.
    async fn rooms_in_outbox(&self, after: RoomId, limit: u32) -> Result<Vec<OutboxHint>, StoreError>;

    /// The id of the last row about `room`, if there is one.
    async fn last_in_outbox(&self, room: RoomId) -> Result<Option<OutboxHint>, StoreError>;
}
