//! The position of a reader in a room's history, as it travels in `Last-Event-ID`.

use std::fmt;

use super::Seq;

/// Version of a room's history. A cursor from another epoch points into a history that is gone.
///
/// It is one random number of the installation, raised by one for each deleted room of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// `<epoch>-<seq>`: everything up to and with `seq` was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCursor {
    /// The history the position belongs to.
    pub epoch: Epoch,
    /// The last message received; 0 for none.
    pub seq: Seq,
}

/// The text was not a cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form <epoch>-<seq>")]
pub struct InvalidCursor;

impl StreamCursor {
    /// Reads the form that [`fmt::Display`] writes and nothing else: no signs, no spaces.
    pub fn parse(raw: &str) -> Result<Self, InvalidCursor> {
        let (epoch, seq) = raw.split_once('-').ok_or(InvalidCursor)?;
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_the_round_trip(epoch: u64, seq in 0..=i64::MAX) {
            let cursor = StreamCursor { epoch: Epoch(epoch), seq: Seq(seq) };
            prop_assert_eq!(StreamCursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(raw in ".{0,60}") {
            if let Ok(cursor) = StreamCursor::parse(&raw) {
                prop_assert!(cursor.seq >= Seq::ZERO);
            }
        }
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
        ] {
            assert_eq!(StreamCursor::parse(bad), Err(InvalidCursor), "{bad:?}");
        }
    }
}
