//! The rooms that a user's stream follows, each with its feed and how far it was sent.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use shared::domain::{MembershipId, RoomId, Seq};
use shared::storage::{FollowedRoom, RoomState};

use super::hub::OpenFeed;

/// A room of a stream. There are fifty of them in a stream, so it is small: 32 bytes.
pub(super) struct StreamRoom {
    pub(super) feed: OpenFeed,
    /// The last entry that was sent, or the head that the stream began the room at.
    pub(super) sent: Seq,
    /// The membership by which the user reads it.
    pub(super) membership: Low32,
    /// How far the user has read, as the client knows it.
    read_seq: Low32,
    /// What the user wants to be notified of and may do there, as this stream has told the client.
    pub(super) settings: Settings,
    /// How many were noted as typing when the client was told last.
    pub(super) typists_seen: u16,
    pub(super) stage: Stage,
    /// It lies in the queue of rooms to look at.
    pub(super) is_queued: bool,
}

const _: () = assert!(size_of::<StreamRoom>() == 32, "fifty of these are most of what a stream takes");

/// What a client knows of a room beside its entries and read marks, as a number of 32 bits: it is only compared, once for each change of the room
/// for this user. 0 if nothing is known of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Settings(u32);

impl Settings {
    /// Those of a room's state.
    pub(super) fn of(state: &RoomState) -> Self {
        let mut hasher = DefaultHasher::new();
        let until = state.notify.until.map(|until| until.0);
        (state.role.as_str(), state.notify.level.as_str(), until).hash(&mut hasher);
        let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
        Self(u32::from_le_bytes([a, b, c, d]).max(1))
    }
}

/// The lower half of a number, of which it is only asked whether it is still the same. Between two that are taken for one lie four billion
/// memberships, or entries of one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Low32([u8; 4]);

impl Low32 {
    /// The lower half of `number`.
    pub(super) fn of(number: i64) -> Self {
        let [a, b, c, d, ..] = number.to_le_bytes();
        Self([a, b, c, d])
    }
}

/// How a room's entries get to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// As they come.
    Live,
    /// What was missed comes first.
    Behind,
    /// The user has left this direct room: the client is told of it before the next message.
    Hidden,
}

impl StreamRoom {
    /// A room of which the client has everything up to `sent`.
    pub(super) fn new(followed: &FollowedRoom, feed: OpenFeed, sent: Seq, stage: Stage) -> Self {
        Self {
            feed,
            sent,
            membership: Low32::of(followed.membership.0),
            read_seq: Low32::of(followed.read_seq.0),
            settings: Settings::default(),
            typists_seen: 0,
            stage,
            is_queued: false,
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> RoomId {
        self.feed.room
    }

    /// Whether the user reads it by `membership`.
    pub(super) fn is_by(&self, membership: MembershipId) -> bool {
        self.membership == Low32::of(membership.0)
    }

    /// Notes how far the user has read; true if the client knew another mark.
    pub(super) fn note_read(&mut self, read_seq: Seq) -> bool {
        std::mem::replace(&mut self.read_seq, Low32::of(read_seq.0)) != self.read_seq
    }

    /// Whether entries may be left to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.feed.known_head() > self.sent
    }
}

/// The rooms of a stream, ascending by id.
#[derive(Default)]
pub(super) struct StreamRooms(Vec<StreamRoom>);

impl StreamRooms {
    /// These rooms, which are ascending by id.
    pub(super) fn new(rooms: Vec<StreamRoom>) -> Self {
        Self(rooms)
    }

    /// The same, all of them in the queue of rooms to look at.
    pub(super) fn all_queued(mut self) -> Self {
        self.0.iter_mut().for_each(|room| room.is_queued = true);
        self
    }

    pub(super) fn get(&self, room: RoomId) -> Option<&StreamRoom> {
        self.index(room).ok().map(|index| &self.0[index])
    }

    pub(super) fn get_mut(&mut self, room: RoomId) -> Option<&mut StreamRoom> {
        self.index(room).ok().map(|index| &mut self.0[index])
    }

    /// Adds a room in place of the one with the same id.
    pub(super) fn insert(&mut self, room: StreamRoom) {
        match self.index(room.id()) {
            Ok(index) => self.0[index] = room,
            Err(index) => self.0.insert(index, room),
        }
    }

    pub(super) fn remove(&mut self, room: RoomId) -> Option<StreamRoom> {
        self.index(room).ok().map(|index| self.0.remove(index))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &StreamRoom> {
        self.0.iter()
    }

    fn index(&self, room: RoomId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&room, StreamRoom::id)
    }
}
