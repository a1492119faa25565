//! The cursor of a user's stream: what a client has got of all its rooms, as `Last-Event-ID` carries it.
//!
//! Positions of entries come from one sequence for all rooms, so one position says of every room how far it was sent: up to its last
//! entry that is not above it. Rooms do not move together, though, and a stream sends what is there. So beside the position, the
//! base, a cursor names the rooms that are ahead of it, each with its seq. They are those that moved in the last second
//! or so: the base follows, see [`mod@super::user_progress`].
//!
//! While a client catches up, its rooms are brought up to date one after the other, in the order of their ids. Then a cursor has two bases:
//! the upper one for the rooms up to the one that was finished last, and the lower one for the others.
//!
//! To clients a cursor is opaque: base64url of varints (LEB128). It is no secret, and a forged one shows nothing: which rooms a
//! user is in is read from SQL.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use shared::domain::{Epoch, Position, RemovalCount, RoomId, RoomsVersion, Seq};

/// The first number of a cursor: how the rest is to be read.
const FORMAT: u64 = 1;

/// The same of a cursor between the pages of a first answer.
const PAGING_FORMAT: u64 = 2;

/// Longest cursor that is read, in characters: what fits into a header everywhere. A cursor names few rooms, and one is
/// not longer than 256 characters unless more than some thirty of the user's rooms move within a second.
pub(super) const MAX_CURSOR_LEN: usize = 6_000;

/// What a client has got of all its rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCursor {
    /// The history that the positions belong to.
    pub epoch: Epoch,
    /// How far most rooms are.
    pub base: Base,
    /// While the client catches up: how far the rooms up to this one are.
    pub finished: Option<(RoomId, Base)>,
    /// Rooms that are at a seq of their own, ascending by id.
    pub ahead: Vec<(RoomId, Seq)>,
}

/// Everything up to here was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Base {
    /// What the user's set of rooms was.
    pub version: RoomsVersion,
    /// Which deleted rooms the client knows to be gone.
    pub removals: RemovalCount,
    /// The entries that the rooms had.
    pub position: Position,
}

/// A cursor that a client sent and that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of a user's stream")]
pub struct InvalidUserCursor;

/// What a client sent as its cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCursor {
    /// It has nothing yet: a stream or an answer began and did not get far.
    Start,
    /// It has this.
    At(UserCursor),
    /// It has the rooms of the first pages, those with the latest entries.
    Between(PagingCursor),
}

/// What a client has between the pages of a first answer, which tells it of all its rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagingCursor {
    /// What it has when it was told of all rooms.
    pub all: UserCursor,
    /// The position of the last entry of the room that was told last, and the id of that room.
    pub before: (Position, RoomId),
}

/// The cursor of a client that has nothing yet.
pub(super) const START: &str = "AQ";

impl ClientCursor {
    /// Reads what [`UserCursor::encode`] wrote, or `START`.
    pub fn parse(raw: &str) -> Result<Self, InvalidUserCursor> {
        if raw == START {
            return Ok(Self::Start);
        }
        if raw.len() > MAX_CURSOR_LEN {
            return Err(InvalidUserCursor);
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(raw).map_err(|_| InvalidUserCursor)?;
        let mut reader = Reader(&bytes);
        match reader.varint()? {
            FORMAT => Ok(Self::At(reader.cursor()?)),
            PAGING_FORMAT => {
                let before = (Position(reader.number()?), RoomId(reader.number()?));
                let all = reader.cursor()?;
                Ok(Self::Between(PagingCursor { all, before }))
            }
            _ => Err(InvalidUserCursor),
        }
    }
}

impl PagingCursor {
    /// The cursor as clients get it.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        push_varint(&mut bytes, PAGING_FORMAT);
        push_varint(&mut bytes, self.before.0.0.unsigned_abs());
        push_varint(&mut bytes, self.before.1.0.unsigned_abs());
        self.all.push(&mut bytes);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }
}

impl UserCursor {
    /// The cursor as clients get it: letters, digits, `-` and `_`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(32 + 8 * self.ahead.len());
        push_varint(&mut bytes, FORMAT);
        self.push(&mut bytes);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    fn push(&self, bytes: &mut Vec<u8>) {
        push_varint(bytes, self.epoch.0);
        push_base(bytes, self.base, Base::default());
        match self.finished {
            None => push_varint(bytes, 0),
            Some((room, base)) => {
                push_varint(bytes, room.0.unsigned_abs());
                push_base(bytes, base, self.base);
            }
        }
        let mut before = 0;
        for (room, seq) in &self.ahead {
            let room = room.0.unsigned_abs();
            push_varint(bytes, room - before);
            push_varint(bytes, seq.0.unsigned_abs());
            before = room;
        }
    }

    /// How far `room` is, if it is not at a seq of its own.
    #[must_use]
    pub fn base_of(&self, room: RoomId) -> Base {
        match self.finished {
            Some((upto, base)) if room <= upto => base,
            Some(_) | None => self.base,
        }
    }

    /// Names `room`, at `seq`.
    pub fn set_ahead(&mut self, room: RoomId, seq: Seq) {
        match self.ahead.binary_search_by_key(&room, |(ahead, _)| *ahead) {
            Ok(index) => self.ahead[index].1 = seq,
            Err(index) => self.ahead.insert(index, (room, seq)),
        }
    }

    /// No longer names `room`.
    pub fn remove_ahead(&mut self, room: RoomId) {
        self.ahead.retain(|(ahead, _)| *ahead != room);
    }

    /// The seq that `room` is at, if it is named.
    #[must_use]
    pub fn seq_of(&self, room: RoomId) -> Option<Seq> {
        let index = self.ahead.binary_search_by_key(&room, |(ahead, _)| *ahead).ok()?;
        Some(self.ahead[index].1)
    }
}

/// Adds a base, which is not below `lower`.
fn push_base(bytes: &mut Vec<u8>, base: Base, lower: Base) {
    let above = |value: i64, lower: i64| value.saturating_sub(lower).max(0).cast_unsigned();
    push_varint(bytes, above(base.version.0, lower.version.0));
    push_varint(bytes, above(base.removals.0, lower.removals.0));
    push_varint(bytes, above(base.position.0, lower.position.0));
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let part = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            return bytes.push(part);
        }
        bytes.push(part | 0x80);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// Reads what [`UserCursor::push`] wrote, up to the end.
    fn cursor(&mut self) -> Result<UserCursor, InvalidUserCursor> {
        let epoch = Epoch(self.varint()?);
        let base = self.base(Base::default())?;
        let finished = match self.number()? {
            0 => None,
            room => Some((RoomId(room), self.base(base)?)),
        };
        let (mut ahead, mut before): (Vec<(RoomId, Seq)>, i64) = (Vec::new(), 0);
        while !self.0.is_empty() {
            let room = before.checked_add(self.number()?).filter(|room| *room > before).ok_or(InvalidUserCursor)?;
            ahead.push((RoomId(room), Seq(self.number()?)));
            before = room;
        }
        Ok(UserCursor {
            epoch,
            base,
            finished,
            ahead,
        })
    }

    fn number(&mut self) -> Result<i64, InvalidUserCursor> {
        i64::try_from(self.varint()?).map_err(|_| InvalidUserCursor)
    }

    fn varint(&mut self) -> Result<u64, InvalidUserCursor> {
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(InvalidUserCursor)?;
            self.0 = rest;
            let part = u64::from(byte & 0x7f);
            if part.leading_zeros() < shift {
                return Err(InvalidUserCursor);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(InvalidUserCursor)
    }

    fn base(&mut self, lower: Base) -> Result<Base, InvalidUserCursor> {
        let mut above = |lower: i64| lower.checked_add(self.number()?).ok_or(InvalidUserCursor);
        Ok(Base {
            version: RoomsVersion(above(lower.version.0)?),
            removals: RemovalCount(above(lower.removals.0)?),
            position: Position(above(lower.position.0)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base(version: i64, removals: i64, position: i64) -> Base {
        Base {
            version: RoomsVersion(version),
            removals: RemovalCount(removals),
            position: Position(position),
        }
    }

    #[test]
    fn a_cursor_of_thirty_busy_rooms_fits_into_256_characters() {
        let ahead = (1..=30).map(|number| (RoomId(number * 600), Seq(100_000 + number))).collect();
        let cursor = UserCursor {
            epoch: Epoch((1 << 53) - 1),
            base: base(300, 100_000, 3_000_000_000),
            finished: None,
            ahead,
        };
        let text = cursor.encode();
        assert!(text.len() <= 256, "{} characters", text.len());
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }

    #[test]
    fn a_room_is_at_its_seq_or_at_its_base() {
        let cursor = UserCursor {
            epoch: Epoch(1),
            base: base(1, 2, 3),
            finished: Some((RoomId(5), base(4, 5, 6))),
            ahead: vec![(RoomId(2), Seq(7)), (RoomId(9), Seq(8))],
        };
        assert_eq!(cursor.seq_of(RoomId(2)), Some(Seq(7)));
        assert_eq!(cursor.seq_of(RoomId(5)), None);
        assert_eq!(cursor.base_of(RoomId(5)), base(4, 5, 6));
        assert_eq!(cursor.base_of(RoomId(6)), base(1, 2, 3));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let long = "A".repeat(MAX_CURSOR_LEN + 1);
        for bad in [
            "",
            "A",
            "AQ==",
            "AA",
            "hello world",
            "99-17",
            "_____________________",
            &long,
        ] {
            assert_eq!(ClientCursor::parse(bad), Err(InvalidUserCursor), "{bad:?}");
        }
        assert_eq!(ClientCursor::parse(START), Ok(ClientCursor::Start));
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(
            epoch in 0..1_u64 << 53,
            lower in (0..1_i64 << 40, 0..1_i64 << 40, 0..1_i64 << 50),
            finished in proptest::option::of((1..1_i64 << 40, 0..1_i64 << 20, 0..1_i64 << 20, 0..1_i64 << 40)),
            ahead in proptest::collection::btree_map(1..1_i64 << 40, 0..1_i64 << 50, 0..40),
        ) {
            let base_below = base(lower.0, lower.1, lower.2);
            let cursor = UserCursor {
                epoch: Epoch(epoch),
                base: base_below,
                finished: finished.map(|(room, version, removals, position)| {
                    (RoomId(room), base(lower.0 + version, lower.1 + removals, lower.2 + position))
                }),
                ahead: ahead.into_iter().map(|(room, seq)| (RoomId(room), Seq(seq))).collect(),
            };
            prop_assert_eq!(ClientCursor::parse(&cursor.encode()), Ok(ClientCursor::At(cursor.clone())));
            let between = PagingCursor {
                before: (Position(lower.2), RoomId(lower.0 + 1)),
                all: cursor,
            };
            prop_assert_eq!(ClientCursor::parse(&between.encode()), Ok(ClientCursor::Between(between)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[A-Za-z0-9_-]{0,300}") {
            if let Ok(ClientCursor::At(cursor)) = ClientCursor::parse(&text) {
                prop_assert_eq!(ClientCursor::parse(&cursor.encode()), Ok(ClientCursor::At(cursor)));
            }
        }
    }
}
