//! Events of a user's stream that are no entries of a room: what rooms the user has, how far they have read, and what is gone at once.

use bytes::Bytes;
use serde::{Serialize, Serializer};
use shared::domain::{RemovalCount, RoomsVersion, Seq, Timestamp};
use shared::storage::RoomState;

use super::event_kind::Kind;
use super::frame;
use super::stream_events::ResetReason;
use crate::json;
use crate::room_state_json::State;

/// Data of `ready` on a user's stream.
#[derive(Debug, Serialize)]
pub(super) struct UserReady {
    /// Id of the session that opened the stream.
    pub(super) session: String,
    /// True if the stream goes on from the cursor of the client.
    pub(super) recovered: bool,
    /// Seconds of silence after which a ping comes.
    pub(super) heartbeat_s: u64,
    /// The time by the clock of the gateway.
    pub(super) server_time: String,
    /// The rooms that are another thing to the user than at the cursor; the first ones, if there are many.
    pub(super) rooms: Vec<RoomUpdate>,
}

/// What became of a room for its user.
#[derive(Debug, Clone)]
pub(super) enum RoomUpdate {
    /// What it is now.
    State(RoomState),
    /// The room of this name is gone.
    Gone(String),
}

/// A room that is gone.
#[derive(Serialize)]
struct Gone<'a> {
    name: &'a str,
    gone: bool,
}

impl Serialize for RoomUpdate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::State(state) => State::of(state, Timestamp::now()).serialize(serializer),
            Self::Gone(name) => Gone { name, gone: true }.serialize(serializer),
        }
    }
}

/// Data of `rooms`.
#[derive(Serialize)]
struct Rooms<'a> {
    rooms: &'a [RoomUpdate],
}

/// Data of `read`.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the fields are named as apps see them")]
pub(super) struct Read<'a> {
    /// Name of the room.
    pub(super) name: &'a str,
    /// The last entry that the user has read.
    pub(super) read_seq: Seq,
    /// The last entry of the room when the others were counted.
    pub(super) counted_upto: Seq,
    /// How many messages are unread.
    pub(super) unread: u32,
    /// How many of them mention the user.
    pub(super) mentions: u32,
}

/// Data of `typing`.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the fields are named as apps see them")]
pub(super) struct Typing<'a> {
    /// Name of the room.
    pub(super) name: &'a str,
    /// Name of the user.
    pub(super) username: &'a str,
    /// Whether they are typing.
    pub(super) typing: bool,
}

/// Data of `presence`.
#[derive(Debug, Serialize)]
struct Presence<'a> {
    /// Those who came or went.
    users: &'a [PresentUser],
}

/// Whether somebody is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PresentUser {
    /// Name of the user.
    pub username: String,
    /// Whether they are.
    pub online: bool,
}

/// Data of `reset` on a user's stream.
#[derive(Debug, Serialize)]
pub(super) struct Reset {
    /// Why the cursor could not be used.
    pub(super) reason: ResetReason,
    /// The rooms that it concerns.
    pub(super) rooms: Vec<NamedRoom>,
}

/// A room, and where the stream goes on in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct NamedRoom {
    /// Its name.
    pub(super) name: String,
    /// Its last seq.
    pub(super) head: Seq,
}

/// An event without a position, encoded once for all who get it.
#[derive(Debug, Clone)]
pub struct Ephemeral {
    /// Its kind.
    pub kind: Kind,
    /// Its data: one line of JSON.
    pub data: Bytes,
}

impl Ephemeral {
    /// What became of the presence of some users.
    pub(super) fn presence(users: &[PresentUser]) -> Self {
        let mut data = Vec::new();
        json::write(&mut data, &Presence { users });
        Self {
            kind: Kind::Presence,
            data: data.into(),
        }
    }
}

/// An event that waits to be sent.
pub(super) enum OwnEvent {
    /// One with a position.
    Lasting {
        kind: Kind,
        data: Bytes,
        /// With it the client knows the user's rooms as they were then.
        rooms_known: Option<(RoomsVersion, RemovalCount)>,
    },
    /// One that is gone when it is sent.
    Ephemeral(Ephemeral),
}

impl OwnEvent {
    /// The stream is open.
    pub(super) fn ready(ready: &UserReady) -> Self {
        Self::lasting(Kind::Ready, ready)
    }

    /// What became of rooms.
    pub(super) fn rooms(updates: &[RoomUpdate]) -> Self {
        Self::lasting(Kind::Rooms, &Rooms { rooms: updates })
    }

    /// A room is gone.
    pub(super) fn gone(name: String) -> Self {
        Self::rooms(&[RoomUpdate::Gone(name)])
    }

    /// The user has read further.
    pub(super) fn read(state: &RoomState) -> Self {
        let data = Read {
            name: &state.name,
            read_seq: state.read_seq,
            counted_upto: state.counted_upto,
            unread: state.unread,
            mentions: state.mentions,
        };
        Self::lasting(Kind::Read, &data)
    }

    /// What the client has of some rooms may be outdated.
    pub(super) fn reset(reset: &Reset) -> Self {
        Self::lasting(Kind::Reset, reset)
    }

    fn lasting(kind: Kind, data: &impl Serialize) -> Self {
        let mut out = Vec::new();
        json::write(&mut out, data);
        Self::Lasting {
            kind,
            data: out.into(),
            rooms_known: None,
        }
    }

    /// The same as the last event that tells the client of the user's rooms as they were then.
    pub(super) fn with_rooms_known(self, version: RoomsVersion, removals: RemovalCount) -> Self {
        match self {
            Self::Lasting { kind, data, .. } => Self::Lasting {
                kind,
                data,
                rooms_known: Some((version, removals)),
            },
            ephemeral @ Self::Ephemeral(_) => ephemeral,
        }
    }

    pub(super) fn rooms_known(&self) -> Option<(RoomsVersion, RemovalCount)> {
        match self {
            Self::Lasting { rooms_known, .. } => *rooms_known,
            Self::Ephemeral(_) => None,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Lasting { kind, .. } | Self::Ephemeral(Ephemeral { kind, .. }) => *kind,
        }
    }

    pub(super) fn has_id(&self) -> bool {
        match self {
            Self::Lasting { .. } => true,
            Self::Ephemeral(_) => false,
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, id: Option<&str>) {
        match self {
            Self::Lasting { kind, data, .. } | Self::Ephemeral(Ephemeral { kind, data }) => {
                frame::push_encoded(out, *kind, id, data);
            }
        }
    }
}
