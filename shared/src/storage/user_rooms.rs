//! The rooms of a user, as the user sees them: which they are, what is unread in them, and what changed since a version that a client
//! knows. Nothing here depends on how long the history of a room is.
//!
//! [`RoomsVersion`] orders the changes of one user's rooms. Triggers give each change its version, in the transaction of the change. The
//! deletion of a room changes no row of its members, who may be many: it is found by its [`RemovalCount`].

use async_trait::async_trait;
use serde::Deserialize;
use sqlx::FromRow;

use super::{Room, RoomHead, StoreError};
use crate::blocking::block_in_place_if_large;
use crate::domain::{
    MemberRole, MembershipId, Notify, NotifyLevel, Position, RemovalCount, RoomId, RoomKind, RoomsVersion, Seq,
    Timestamp, UserId,
};

/// One room of a user, as far as following it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedRoom {
    /// The room.
    pub room: Room,
    /// The membership of the user.
    pub membership: MembershipId,
    /// The version of the last change of what the room is for the user.
    pub version: RoomsVersion,
    /// The head of its log.
    pub head: RoomHead,
    /// The position of its last entry; 0 if it has none.
    pub position: Position,
    /// The head that the room had when the user left it: a direct room, which nobody leaves for good.
    pub hidden_upto: Option<Seq>,
    /// It has no message since then.
    pub is_hidden: bool,
    /// The version with which the membership began: to a client that knows an earlier one the room is new.
    pub joined: RoomsVersion,
    /// The last entry that the user has read.
    pub read_seq: Seq,
}

/// All rooms of a user at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRooms {
    /// The version of the set.
    pub version: RoomsVersion,
    /// How many revocations there were.
    pub removals: RemovalCount,
    /// The rooms that the user is a member of and that exist, hidden ones too, by id.
    pub rooms: Vec<FollowedRoom>,
}

/// What a room is for a user at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomState {
    /// The room.
    pub room: RoomId,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: RoomKind,
    /// The username of the other member of a direct room.
    pub with: Option<String>,
    /// What the user may do. Both members of a direct room are the same.
    pub role: MemberRole,
    /// The last seq, or where the entries of a room begin that is new to a client.
    pub head: Seq,
    /// The last seq when the unread messages were counted.
    pub counted_upto: Seq,
    /// How many messages of others behind the read mark are not deleted. If there are more than 100 messages behind it, it is
    /// their number, own and deleted ones included.
    pub unread: u32,
    /// How many of the messages of others behind the read mark mention the user, of the last 100 that do.
    pub mentions: u32,
    /// The read mark: the last entry that the user has read.
    pub read_seq: Seq,
    /// What the user wants to be notified of, as they have set it: see [`Notify::at`].
    pub notify: Notify,
    /// The version of the last change of what the room is for the user.
    pub version: RoomsVersion,
    /// The version with which the membership began: see [`FollowedRoom::joined`].
    pub joined: RoomsVersion,
    /// The position of the last entry; 0 if there is none.
    pub last_activity: Position,
}

/// A room that a user has lost: they are no longer in it, or it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneRoom {
    /// The room.
    pub room: RoomId,
    /// Its name at that time. Another room may have it since.
    pub name: String,
}

/// A read mark after a call to move it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMark {
    /// The last entry that the user has read.
    pub seq: Seq,
    /// The version of the user's set of rooms.
    pub version: RoomsVersion,
    /// Whether the call has moved it.
    pub moved: bool,
}

impl ReadMark {
    /// Converts the row of a mark and a version.
    pub(super) fn from_row((seq, version): (i64, i64), moved: bool) -> Self {
        Self {
            seq: Seq(seq),
            version: RoomsVersion(version),
            moved,
        }
    }
}

/// The rooms of users.
#[async_trait]
pub trait OwnRooms {
    /// All rooms of `user`, with the version and the number of revocations of the same moment. A user who does not exist has none.
    async fn user_rooms(&self, user: UserId) -> Result<UserRooms, StoreError>;

    /// The versions of those of `users` that exist.
    async fn rooms_versions(&self, users: &[UserId]) -> Result<Vec<(UserId, RoomsVersion)>, StoreError>;

    /// What those of `rooms` are for `user` that exist and that they are in, hidden ones too, by id.
    async fn room_states(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<RoomState>, StoreError>;

    /// Where in the log `user` became a member of those of `rooms` that they are in: the seq of the entry that says so. Nothing of a room
    /// whose entry is not stored yet: all that is stored before it was said before they came.
    async fn join_seqs(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<(RoomId, Seq)>, StoreError>;

    /// The rooms that `user` lost: those left after `version`, also if they were joined again since, and those deleted after `removals`,
    /// by id.
    async fn gone_rooms(
        &self,
        user: UserId,
        version: RoomsVersion,
        removals: RemovalCount,
    ) -> Result<Vec<GoneRoom>, StoreError>;

    /// At most `limit` rooms of `user` that are not hidden, the one with the latest entry first, below `before`: the last activity and
    /// the id of a room.
    async fn rooms_by_activity(
        &self,
        user: UserId,
        before: Option<(Position, RoomId)>,
        limit: u32,
    ) -> Result<Vec<RoomState>, StoreError>;

    /// Moves the read mark of `user` in `room` to `seq`, or to the head if that is lower; never back. `None`: they are no member,
    /// or the room is deleted.
    async fn set_read(&self, room: RoomId, user: UserId, seq: Seq) -> Result<Option<ReadMark>, StoreError>;

    /// Sets what `user` wants to be notified of in `room`; false if they are no member, or the room is deleted.
    async fn set_notify(&self, room: RoomId, user: UserId, notify: Notify) -> Result<bool, StoreError>;
}

/// The row of a user's rooms: version, number of revocations, and an array of rooms in JSON, each an array in the order of
/// [`FollowedRecord`].
///
/// It is one row instead of one per room, so that the versions are of the same moment also if there is no room; and because with
/// SQLite, handing a row from its thread to ours costs more than reading it.
pub(super) type UserRoomsRow = (i64, i64, String);

/// A followed room as the statements return it.
#[derive(Deserialize)]
struct FollowedRecord {
    id: RoomId,
    name: String,
    owner_id: UserId,
    is_private: u8,
    incarnation: i64,
    kind: RoomKind,
    membership: MembershipId,
    version: RoomsVersion,
    seq: Seq,
    changed: Seq,
    position: i64,
    hidden_upto: Option<Seq>,
    is_hidden: u8,
    joined: RoomsVersion,
    read_seq: Seq,
}

impl From<FollowedRecord> for FollowedRoom {
    fn from(record: FollowedRecord) -> Self {
        Self {
            room: Room {
                id: record.id,
                name: record.name,
                owner_id: record.owner_id,
                is_private: record.is_private != 0,
                incarnation: record.incarnation.into(),
                kind: record.kind,
            },
            membership: record.membership,
            version: record.version,
            head: RoomHead {
                seq: record.seq,
                changed: record.changed,
            },
            position: Position(record.position),
            hidden_upto: record.hidden_upto,
            is_hidden: record.is_hidden != 0,
            joined: record.joined,
            read_seq: record.read_seq,
        }
    }
}

impl UserRooms {
    /// Converts the row that both databases return; there is none of a user who does not exist.
    pub(super) fn from_row(row: Option<UserRoomsRow>) -> Result<Self, sqlx::Error> {
        let (version, removals, json) = row.unwrap_or_else(|| (0, 0, "[]".to_owned()));
        let read = || serde_json::from_str(&json).map_err(|error| sqlx::Error::Decode(error.into()));
        let records: Vec<FollowedRecord> = block_in_place_if_large(json.len(), read)?;
        let mut rooms: Vec<FollowedRoom> = records.into_iter().map(FollowedRoom::from).collect();
        rooms.sort_unstable_by_key(|followed| followed.room.id);
        Ok(Self {
            version: RoomsVersion(version),
            removals: RemovalCount(removals),
            rooms,
        })
    }
}

/// The row of a [`RoomState`].
#[derive(FromRow)]
pub(super) struct StateRow {
    id: i64,
    name: String,
    kind: String,
    other: Option<String>,
    is_owner: bool,
    head: i64,
    unread: i64,
    mentions: i64,
    read_seq: i64,
    notify: String,
    notify_until: Option<i64>,
    version: i64,
    joined: i64,
    position: i64,
}

/// Converts rows of states.
pub(super) fn decode_states(rows: Vec<StateRow>) -> Result<Vec<RoomState>, sqlx::Error> {
    let count = |count: i64| u32::try_from(count.max(0)).unwrap_or(u32::MAX);
    let read = |row: StateRow| {
        let kind = RoomKind::try_from(row.kind).map_err(|error| sqlx::Error::Decode(error.into()))?;
        let role = match kind {
            RoomKind::Room if row.is_owner => MemberRole::Owner,
            RoomKind::Room | RoomKind::Direct => MemberRole::Member,
        };
        Ok(RoomState {
            room: RoomId(row.id),
            name: row.name,
            kind,
            with: row.other,
            role,
            head: Seq(row.head),
            counted_upto: Seq(row.head),
            unread: count(row.unread),
            mentions: count(row.mentions),
            read_seq: Seq(row.read_seq),
            notify: Notify {
                level: NotifyLevel::parse(&row.notify).map_err(|error| sqlx::Error::Decode(error.into()))?,
                until: row.notify_until.map(Timestamp),
            },
            version: RoomsVersion(row.version),
            joined: RoomsVersion(row.joined),
            last_activity: Position(row.position),
        })
    };
    rows.into_iter().map(read).collect()
}

/// Converts rows of versions.
pub(super) fn decode_versions(rows: Vec<(i64, i64)>) -> Vec<(UserId, RoomsVersion)> {
    rows.into_iter().map(|(user, version)| (UserId(user), RoomsVersion(version))).collect()
}

/// Converts rows of rooms that a user lost.
pub(super) fn decode_gone(rows: Vec<(i64, String)>) -> Vec<GoneRoom> {
    let read = |(room, name)| GoneRoom {
        room: RoomId(room),
        name,
    };
    rows.into_iter().map(read).collect()
}

/// Sorts states by the last entry, the latest first.
pub(super) fn latest_first(mut states: Vec<RoomState>) -> Vec<RoomState> {
    states.sort_unstable_by_key(|state| std::cmp::Reverse((state.last_activity, state.room)));
    states
}

/// The bound of a page of rooms by activity.
pub(super) fn activity_bound(before: Option<(Position, RoomId)>) -> (i64, i64) {
    before.map_or((i64::MAX, i64::MAX), |(position, room)| (position.0, room.0))
}
