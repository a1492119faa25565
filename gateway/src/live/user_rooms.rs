//! The rooms that a user's stream follows, each with its feed and how far it was sent.

use shared::domain::{MembershipId, RoomId, Seq};
use shared::storage::FollowedRoom;

use super::hub::OpenFeed;

/// A room of a stream. There are fifty of them in a stream, so it is small.
pub(super) struct StreamRoom {
    pub(super) feed: OpenFeed,
    /// The membership by which the user reads it.
    pub(super) membership: MembershipId,
    /// The last entry that was sent, or the position at which the stream took the room on.
    pub(super) sent: Seq,
    /// How far the user has read, as the client knows it.
    pub(super) read_seq: Seq,
    /// How many were noted as typing when the client was told last.
    pub(super) typists_seen: u32,
    pub(super) stage: Stage,
    /// It lies in the queue of rooms to look at.
    pub(super) is_queued: bool,
}

/// How a room's entries get to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// As they come.
    Live,
    /// What was missed comes first.
    Behind,
    /// The user has left this direct room: the client is told of it before the next entry.
    Hidden,
}

impl StreamRoom {
    /// A room of which the client has everything up to `sent`.
    pub(super) fn new(followed: &FollowedRoom, feed: OpenFeed, sent: Seq, stage: Stage) -> Self {
        Self {
            feed,
            membership: followed.membership,
            sent,
            read_seq: followed.read_seq,
            typists_seen: 0,
            stage,
            is_queued: false,
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> RoomId {
        self.feed.room
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
