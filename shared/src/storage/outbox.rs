//! The outbox: what gateways changed about members and rooms, and the worker takes into the logs of the rooms.
//!
//! A gateway changes SQL at once, whether a worker is there or not, and writes a row of the outbox in the same transaction. The
//! commit of the worker replaces the row by an entry of the log, in one transaction too. So each change gets one entry, whoever
//! ends in between.
//!
//! A hint in the accept log fixes the entry's place in the order: behind everything that was accepted before the change, such as the
//! last messages of a member who leaves. A message does not wait for the hint: it first takes all rows up to the one that made its
//! sender a member. Of a sender who has left and joined again since, that is not the last one: the row was written before the message
//! was accepted. The clocks of two gateways decide this only for a user who leaves by one and joins and posts by another, while the hint
//! of the leaving is late. The rows of a room are written one transaction after the other, so their ids are in the order of the commits.

use std::collections::{HashMap, VecDeque};

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
    id: i64,
    #[sqlx(rename = "room_id", try_from = "i64")]
    pub(super) room: RoomId,
    #[sqlx(rename = "sender_id", try_from = "i64")]
    sender: UserId,
    /// The user that it is about, if it is about one.
    #[sqlx(rename = "member_id")]
    member: Option<i64>,
    kind: String,
    detail: String,
    created_on: i64,
}

impl OutboxRow {
    /// What it changed, without the name of the user that it is about; an error if a later version wrote it.
    fn change(&self) -> Result<Change, sqlx::Error> {
        let detail = serde_json::from_str(&self.detail).map_err(|error| sqlx::Error::Decode(error.into()))?;
        decode_unaddressed(&self.kind, detail, self.member.map(|_| String::new()))
    }
}

/// A change in the outbox that waits to become an entry.
pub(super) struct WaitingChange {
    pub(super) id: i64,
    pub(super) sender: UserId,
    /// The user that it is about, if it is about one.
    pub(super) member: Option<UserId>,
    /// Without the name of that user.
    pub(super) change: Change,
    pub(super) created_on: Timestamp,
}

impl WaitingChange {
    /// The user whose membership it changes, and whether it makes them a member.
    fn membership(&self) -> Option<(UserId, bool)> {
        match &self.change {
            Change::Member { change, .. } => match change {
                MemberChange::Joined { .. } => self.member.map(|user| (user, true)),
                MemberChange::Left => self.member.map(|user| (user, false)),
            },
            Change::Room(RoomChange::Created { .. }) => Some((self.sender, true)),
            Change::Edit { .. } | Change::Delete { .. } | Change::Reaction { .. } => None,
        }
    }
}

/// What the outbox has of one room, in the order in which it becomes entries.
#[derive(Default)]
pub(super) struct RoomOutbox {
    waiting: VecDeque<WaitingChange>,
    /// How many changes were taken.
    taken: usize,
    /// The changes by which users began or ceased to be members, in their order.
    memberships: HashMap<UserId, Vec<MembershipChange>>,
    has_unknown: bool,
}

/// A change by which a user begins or ceases to be a member.
#[derive(Clone, Copy)]
struct MembershipChange {
    /// Its number, counted from the first change of the room that was ever added.
    number: usize,
    admits: bool,
    created_on: Timestamp,
}

impl RoomOutbox {
    /// Adds a row; rows come in the order of their ids. One that a later version of the program wrote stays in the outbox, and with it
    /// all that follow it, until a worker of that version comes.
    pub(super) fn add(&mut self, row: &OutboxRow) {
        if self.has_unknown {
            return;
        }
        let Ok(change) = row.change() else {
            self.has_unknown = true;
            UNKNOWN_CHANGE.report(format_args!("room {}", row.room.0), "entries of its log are missing");
            return;
        };
        let waiting = WaitingChange {
            id: row.id,
            sender: row.sender,
            member: row.member.map(UserId),
            change,
            created_on: Timestamp(row.created_on),
        };
        if let Some((user, admits)) = waiting.membership() {
            self.memberships.entry(user).or_default().push(MembershipChange {
                number: self.taken + self.waiting.len(),
                admits,
                created_on: waiting.created_on,
            });
        }
        self.waiting.push_back(waiting);
    }

    /// The users that it names.
    pub(super) fn users(&self) -> impl Iterator<Item = UserId> {
        self.waiting.iter().flat_map(|waiting| [Some(waiting.sender), waiting.member]).flatten()
    }

    /// Takes the changes whose rows a hint names.
    pub(super) fn take_hinted(&mut self, hint: OutboxHint) -> Vec<WaitingChange> {
        self.take(self.waiting.partition_point(|waiting| waiting.id <= hint.upto))
    }

    /// Takes the changes up to the one by which `user` was a member when something of theirs was accepted, `at` that time: the last one until
    /// then that made them a member. Without one it is the next change about them, if that does, since they were a member by something.
    pub(super) fn take_admitting(&mut self, user: UserId, at: Timestamp) -> Vec<WaitingChange> {
        let all = self.memberships.get(&user).map_or(&[][..], Vec::as_slice);
        let waiting = &all[all.partition_point(|change| change.number < self.taken)..];
        let before = waiting.iter().rfind(|change| change.admits && change.created_on <= at);
        let admission = before.or_else(|| waiting.first().filter(|change| change.admits));
        let upto = admission.map_or(0, |change| change.number + 1 - self.taken);
        self.take(upto)
    }

    fn take(&mut self, count: usize) -> Vec<WaitingChange> {
        self.taken += count;
        self.waiting.drain(..count).collect()
    }
}

static UNKNOWN_CHANGE: LogEvent = LogEvent::outage(
    "unknown_change",
    "the outbox has changes that this version does not know; they wait for a worker of a later one",
)
.warning();

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

/// The detail of becoming a member of somebody else's room.
pub(super) fn joined_detail() -> String {
    encode_detail(&MemberChange::Joined {
        role: MemberRole::Member,
    })
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
