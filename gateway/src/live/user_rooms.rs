//! The rooms that a user's stream follows, each with its feed and how far it was sent.

use shared::domain::{MemberRole, MembershipId, Notify, NotifyLevel, RoomId, Seq};
use shared::storage::{FollowedRoom, RoomState};

use super::hub::OpenFeed;

/// A room of a stream. There are fifty of them in a stream, so it is small: 24 bytes.
pub(super) struct StreamRoom {
    pub(super) feed: OpenFeed,
    /// The last entry that was sent, or the head that the stream began the room at.
    sent: Seq48,
    /// What the user wants to be notified of and may do there, as this stream has told the client.
    settings: Settings,
    /// Its [`Stage`], and [`QUEUED`].
    flags: u8,
    /// The membership by which the user reads it.
    membership: Fingerprint32,
    /// How far the user has read, as the client knows it.
    read_seq: Fingerprint32,
}

const _: () = assert!(size_of::<StreamRoom>() == 24, "fifty of these are most of what a stream takes");

/// A flag of a room: it lies in the queue of rooms to visit.
const QUEUED: u8 = 0x80;

/// What a client knows of a room beside its entries and read marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings(u8);

impl Settings {
    /// Nothing is known of the room, or a level of notification that ends some time: that is told anew with each change.
    const UNKNOWN: Self = Self(0);

    /// Those of a member.
    fn of(role: MemberRole, notify: Notify) -> Self {
        if notify.until.is_some() {
            return Self::UNKNOWN;
        }
        let level = match notify.level {
            NotifyLevel::All => 1,
            NotifyLevel::Mentions => 2,
            NotifyLevel::None => 3,
        };
        let role = match role {
            MemberRole::Owner => 0,
            MemberRole::Member => 4,
        };
        Self(role + level)
    }
}

/// A seq in 48 bits. A room that stores a million entries a second has so many after nine years.
#[derive(Debug, Clone, Copy)]
struct Seq48([u8; 6]);

impl Seq48 {
    fn of(seq: Seq) -> Self {
        let [low @ .., _, _] = seq.0.to_le_bytes();
        Self(low)
    }

    fn seq(self) -> Seq {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&self.0);
        Seq(i64::from_le_bytes(bytes))
    }
}

/// The lower half of a number, of which it is only asked whether it is still the same: a random number, or that of an entry of one room. Two
/// random ones are taken for one once in four billion times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint32([u8; 4]);

impl Fingerprint32 {
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
            sent: Seq48::of(sent),
            settings: Settings::UNKNOWN,
            flags: stage as u8,
            membership: Fingerprint32::of(followed.membership.0),
            read_seq: Fingerprint32::of(followed.read_seq.0),
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> RoomId {
        self.feed.room
    }

    /// The last entry that was sent, or the head that the stream began the room at.
    pub(super) fn sent(&self) -> Seq {
        self.sent.seq()
    }

    /// Notes that the client has everything up to `seq`.
    pub(super) fn note_sent(&mut self, seq: Seq) {
        self.sent = Seq48::of(seq);
    }

    /// Whether entries may be left to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.feed.known_head() > self.sent()
    }

    /// How its entries get to the client.
    pub(super) fn stage(&self) -> Stage {
        const BEHIND: u8 = Stage::Behind as u8;
        const HIDDEN: u8 = Stage::Hidden as u8;
        match self.flags & !QUEUED {
            BEHIND => Stage::Behind,
            HIDDEN => Stage::Hidden,
            _ => Stage::Live,
        }
    }

    pub(super) fn set_stage(&mut self, stage: Stage) {
        self.flags = self.flags & QUEUED | stage as u8;
    }

    /// Notes that it lies in the queue of rooms to visit; false if it did before.
    pub(super) fn note_queued(&mut self) -> bool {
        let is_new = self.flags & QUEUED == 0;
        self.flags |= QUEUED;
        is_new
    }

    /// Notes that it was taken out of the queue.
    pub(super) fn note_dequeued(&mut self) {
        self.flags &= !QUEUED;
    }

    /// The membership by which the user reads it.
    pub(super) fn membership(&self) -> Fingerprint32 {
        self.membership
    }

    /// Whether the user reads it by `membership`.
    pub(super) fn is_by(&self, membership: MembershipId) -> bool {
        self.membership == Fingerprint32::of(membership.0)
    }

    /// Notes how far the user has read; true if the client knew another mark.
    pub(super) fn note_read(&mut self, read_seq: Seq) -> bool {
        std::mem::replace(&mut self.read_seq, Fingerprint32::of(read_seq.0)) != self.read_seq
    }

    /// Notes the settings that `state` has; true if the client may have known others.
    pub(super) fn note_settings(&mut self, state: &RoomState) -> bool {
        let known = std::mem::replace(&mut self.settings, Settings::of(state.role, state.notify));
        known != self.settings || known == Settings::UNKNOWN
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

    /// The same, all of them in the queue of rooms to visit.
    pub(super) fn all_queued(mut self) -> Self {
        self.0.iter_mut().for_each(|room| _ = room.note_queued());
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use shared::domain::Timestamp;

    use super::*;

    #[test]
    fn seqs_fit_into_48_bits() {
        for seq in [0, 1, 255, 256, 1 << 32, (1 << 48) - 1] {
            assert_eq!(Seq48::of(Seq(seq)).seq(), Seq(seq));
        }
    }

    #[test]
    fn other_settings_are_told_apart_and_those_that_end_are_never_known() {
        let roles = [MemberRole::Owner, MemberRole::Member];
        let of = |role, level, until| Settings::of(role, Notify { level, until });
        let lasting = roles.map(|role| NotifyLevel::EVERY.map(|level| of(role, level, None).0));
        let distinct: BTreeSet<u8> = lasting.into_iter().flatten().chain([Settings::UNKNOWN.0]).collect();
        assert_eq!(distinct.len(), 7);
        assert_eq!(of(MemberRole::Owner, NotifyLevel::None, Some(Timestamp(1))), Settings::UNKNOWN);
    }
}
