//! The cursor of a stream: the position of a client in a room's history, as `Last-Event-ID` carries it.

use std::fmt;

use super::partition::split_mix;
use super::{RoomId, Seq};

/// Version of a room's history. A cursor from another epoch points into a history that no longer exists.
///
/// An installation has a random epoch. The epoch of each room is derived from it and the room's id: see [`Epoch::of_room`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// Bits of an epoch. Every JSON reader reads the decimal digits of such a number exactly.
const EPOCH_BITS: u32 = 53;

impl Epoch {
    /// The epoch of a room's cursors in an installation of this epoch. Two rooms have the same one only once in 2⁵³ pairs, whatever
    /// their names, so a cursor of another room is as foreign as one of another history.
    #[must_use]
    pub fn of_room(self, room: RoomId) -> Self {
        let mixed = split_mix(self.0 ^ split_mix(room.0.cast_unsigned()));
        Self(mixed >> (u64::BITS - EPOCH_BITS))
    }
}

/// `<epoch>-<seq>`: everything up to and including `seq` was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCursor {
    /// The history that the position belongs to.
    pub epoch: Epoch,
    /// The last message received; 0 for none.
    pub seq: Seq,
}

/// A text that is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form <epoch>-<seq>")]
pub struct InvalidCursor;

impl StreamCursor {
    /// Parses the form that [`fmt::Display`] writes and nothing else: no signs, no spaces, no leading zeros.
    pub fn parse(raw: &str) -> Result<Self, InvalidCursor> {
        let (epoch, seq) = raw.split_once('-').ok_or(InvalidCursor)?;
        let digits = |part: &str| match part.as_bytes() {
            [] | [b'0', _, ..] => false,
            digits => digits.iter().all(u8::is_ascii_digit),
        };
        if !digits(epoch) || !digits(seq) {
            return Err(InvalidCursor);
        }
        Ok(Self {
            epoch: Epoch(epoch.parse().map_err(|_| InvalidCursor)?),
            seq: Seq(seq.parse().map_err(|_| InvalidCursor)?),
        })
    }
}

impl fmt::Display for StreamCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch.0, self.seq.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Cursors, what is nearly one, and any text.
    const LIKE_A_CURSOR: &str = "(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})|[0-9+ ]{1,4}-?[0-9 -]{1,4}|.{0,60}";

    proptest! {
        #[test]
        fn a_written_cursor_parses_to_itself(epoch: u64, seq in 0..=i64::MAX) {
            let cursor = StreamCursor { epoch: Epoch(epoch), seq: Seq(seq) };
            prop_assert_eq!(StreamCursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn only_what_a_cursor_is_written_as_parses(raw in LIKE_A_CURSOR) {
            if let Ok(cursor) = StreamCursor::parse(&raw) {
                prop_assert!(cursor.seq >= Seq::ZERO);
                prop_assert_eq!(cursor.to_string(), raw);
            }
        }
    }

    #[test]
    fn every_room_has_an_epoch_of_its_own() {
        let epochs: HashSet<u64> = (1..=10_000).map(|room| Epoch(7).of_room(RoomId(room)).0).collect();
        assert_eq!(epochs.len(), 10_000);
        assert!(epochs.iter().all(|epoch| *epoch < 1 << EPOCH_BITS));
        assert_ne!(Epoch(7).of_room(RoomId(1)), Epoch(8).of_room(RoomId(1)));
        // It must never change, or every cursor that a client keeps would be foreign.
        assert_eq!(Epoch(77).of_room(RoomId(1)).0, 2_021_365_942_491_529);
    }

    #[test]
    fn only_the_exact_form_is_a_cursor() {
        for bad in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "+1-2",
            "1-+2",
            "1--2",
            " 1-2",
            "1-2 ",
            "1-2-3",
            "1-9223372036854775808",
            "x-1",
            "01-2",
            "1-02",
            "1-00",
        ] {
            assert_eq!(StreamCursor::parse(bad), Err(InvalidCursor), "{bad:?}");
        }
    }
}
