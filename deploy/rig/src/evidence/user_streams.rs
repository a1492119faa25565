//! Devices that follow all rooms of their user, by streams and by calls to catch up: what they got, and what their users were in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::streams::{ByeReason, PlainEntry, Sequenced as _};

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct UserStreams {
    /// What each device got, in the order in which it did.
    pub records: Vec<UserRecord>,
    /// When users began and ceased to be in rooms, in the order in which each user asked for it.
    pub calls: Vec<UserRoomCall>,
    /// What each device had when the run was over.
    pub final_rooms: Vec<FinalRooms>,
    /// The rooms that exist at the end, by their names.
    pub rooms: BTreeMap<String, ExistingRoom>,
}

impl UserStreams {
    /// How much there was of it, as a sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let entries = self.records.iter().flat_map(|record| &record.received).filter(|received| received.is_entry());
        let syncs = self.records.iter().filter(|record| record.source == UserSource::Sync).count();
        format!(
            "{} entries over {} streams of all rooms and {syncs} calls to catch up, {} joins and leaves of their users",
            entries.count(),
            self.records.len() - syncs,
            self.calls.len()
        )
    }
}

/// How a device got something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserSource {
    /// By a stream.
    Stream,
    /// By a call to catch up.
    Sync,
}

/// One stream of a device, from its beginning to its end, or one answer to a call to catch up.
#[derive(Debug, Clone)]
pub struct UserRecord {
    /// Number of the device.
    pub device: usize,
    /// Name of its user.
    pub username: String,
    /// Number of the gateway.
    pub gateway: usize,
    /// Which of the two it is.
    pub source: UserSource,
    /// What the device had when it got the cursor that it sent: the last seq of each room.
    pub known: BTreeMap<String, i64>,
    /// Those of these rooms of which no entry has come yet, if the first answer came in several pages: they may begin before the seq.
    pub unbegun: BTreeSet<String>,
    /// Whether it sent a cursor with which a stream goes on; otherwise it had none, or one of a beginning.
    pub is_resumed: bool,
    /// Whether its first answer came in several pages: rooms that moved meanwhile come later, and may begin before their heads.
    pub was_paged: bool,
    /// Whether the gateway said that it goes on from there.
    pub has_recovered: bool,
    /// What came, in its order.
    pub received: Vec<UserReceived>,
    /// Events that no gateway may send, as they came.
    pub unexpected_events: Vec<String>,
    /// When it was asked for.
    pub requested: Duration,
    /// When it began to come.
    pub opened: Duration,
    /// Why the gateway ended it, if it did.
    pub bye: Option<ByeReason>,
}

/// Something that came.
#[derive(Debug, Clone, PartialEq)]
pub struct UserReceived {
    /// Name of the room.
    pub room: String,
    /// What it was.
    pub news: RoomNews,
    /// When it came.
    pub at: Duration,
}

/// What a device learned about a room.
#[derive(Debug, Clone, PartialEq)]
pub enum RoomNews {
    /// What the room is now, with its last seq. A room that is new to the device goes on behind it.
    State(i64),
    /// The user is no longer in it.
    Gone,
    /// The device must fetch what it has anew, and goes on behind this seq.
    Reset(i64),
    /// An entry of its log.
    Entry(PlainEntry),
    /// A message that is shown of a room at first, which is new to the device.
    Preview(PlainEntry),
    /// The entries from one seq to another are left out.
    Gap(i64, i64),
}

impl UserReceived {
    /// Whether it is an entry that follows those before it.
    #[must_use]
    pub fn is_entry(&self) -> bool {
        matches!(self.news, RoomNews::Entry(_))
    }

    /// Takes it over into what a device has: the last seq of each room.
    pub fn apply(&self, rooms: &mut BTreeMap<String, i64>) {
        match &self.news {
            RoomNews::State(head) => {
                rooms.entry(self.room.clone()).or_insert(*head);
            }
            RoomNews::Gone => drop(rooms.remove(&self.room)),
            RoomNews::Reset(seq) | RoomNews::Gap(_, seq) => drop(rooms.insert(self.room.clone(), *seq)),
            RoomNews::Entry(entry) => match rooms.get_mut(&self.room) {
                Some(last) => *last = entry.seq(),
                None => drop(rooms.insert(self.room.clone(), entry.seq())),
            },
            RoomNews::Preview(_) => {}
        }
    }
}

/// A call by which a user begins to be in a room, or ceases to be: joins or leaves it, creates or deletes it. Each user makes one
/// after the other.
#[derive(Debug, Clone)]
pub struct UserRoomCall {
    /// Name of the user.
    pub username: String,
    /// Name of the room.
    pub room: String,
    /// Whether they are in it afterwards.
    pub is_in: bool,
    /// When it was sent.
    pub sent: Duration,
    /// When its outcome was known, or the user gave up.
    pub settled: Duration,
    /// Whether it certainly took effect.
    pub is_acknowledged: bool,
}

/// What a device had when the run was over.
#[derive(Debug, Clone)]
pub struct FinalRooms {
    /// Number of the device.
    pub device: usize,
    /// Name of its user.
    pub username: String,
    /// The last seq of each room.
    pub rooms: BTreeMap<String, i64>,
}

/// A room that exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExistingRoom {
    /// The seq of its last entry.
    pub head: i64,
    /// Names of its members.
    pub members: BTreeSet<String>,
}

/// The rooms that a user is in, with their last seqs.
#[must_use]
pub(crate) fn rooms_of(username: &str, rooms: &BTreeMap<String, ExistingRoom>) -> BTreeMap<String, i64> {
    let of_user = rooms.iter().filter(|(_, room)| room.members.contains(username));
    of_user.map(|(name, room)| (name.clone(), room.head)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_says_what_a_device_has() {
        let mut rooms = BTreeMap::from([("old".to_owned(), 5)]);
        let mut apply = |room: &str, news| {
            let received = UserReceived {
                room: room.to_owned(),
                news,
                at: Duration::ZERO,
            };
            received.apply(&mut rooms);
        };
        apply("old", RoomNews::State(9));
        apply("new", RoomNews::State(3));
        apply("gapped", RoomNews::State(1));
        apply("gapped", RoomNews::Gap(2, 7));
        apply("gone", RoomNews::State(1));
        apply("gone", RoomNews::Gone);
        apply("reset", RoomNews::State(1));
        apply("reset", RoomNews::Reset(0));
        let expected = [("gapped", 7), ("new", 3), ("old", 5), ("reset", 0)];
        assert_eq!(rooms, expected.map(|(room, seq)| (room.to_owned(), seq)).into());
    }
}
