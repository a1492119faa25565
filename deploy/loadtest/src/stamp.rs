//! What every posted text begins with: `@<lane>.<count>.<µs> `, in digits of a fixed number, so that a request is prepared
//! once and only its digits are written anew.

/// Digits of the lane, of the count and of the time.
const WIDTHS: [usize; 3] = [4, 10, 13];

/// Who posted a message as his how-manieth, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Number of the posting connection within its room.
    pub(crate) lane: u64,
    /// Counts the posts of the lane, from 1.
    pub(crate) count: u64,
    /// When it was posted, in microseconds of the run's clock.
    pub(crate) posted: u64,
}

impl Stamp {
    /// First byte of a stamp.
    pub(crate) const MARK: u8 = b'@';

    /// Bytes of a stamp.
    pub(crate) const LEN: usize = 1 + WIDTHS[0] + 1 + WIDTHS[1] + 1 + WIDTHS[2] + 1;

    /// Writes it over the first [`Stamp::LEN`] bytes of `text`.
    pub(crate) fn write(self, text: &mut [u8]) {
        text[0] = Self::MARK;
        let mut at = 1;
        for (number, (width, end)) in
            [self.lane, self.count, self.posted].into_iter().zip(WIDTHS.into_iter().zip(*b".. "))
        {
            write_decimal(number, &mut text[at..at + width]);
            text[at + width] = end;
            at += width + 1;
        }
    }

    /// The stamp at the beginning of `text`, if there is one.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        if text.len() < Self::LEN || text[0] != Self::MARK {
            return None;
        }
        let mut numbers = [0; 3];
        let mut at = 1;
        for (number, width) in numbers.iter_mut().zip(WIDTHS) {
            *number = decimal(&text[at..at + width])?;
            at += width + 1;
        }
        let [lane, count, posted] = numbers;
        Some(Self { lane, count, posted })
    }
}

/// Writes `number` over all of `digits`.
pub(crate) fn write_decimal(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

/// The number that `digits` write; `None` if they are no digits or none at all, or it is too large.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = digit.wrapping_sub(b'0');
        if value > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(lane in 0..10_000_u64, count in 0..10_000_000_000_u64, posted in 0..10_000_000_000_000_u64) {
            let stamp = Stamp { lane, count, posted };
            let mut text = [b'x'; Stamp::LEN + 5];
            stamp.write(&mut text);
            prop_assert_eq!(Stamp::read(&text), Some(stamp));
            prop_assert_eq!(&text[Stamp::LEN - 1..], b" xxxxx");
        }

        #[test]
        fn other_texts_have_none(text in "[^@].{0,40}") {
            prop_assert_eq!(Stamp::read(text.as_bytes()), None);
        }
    }

    #[test]
    fn digits_are_read_and_nothing_else() {
        assert_eq!(decimal(b"018446744073709551615"), Some(u64::MAX));
        for other in [&b""[..], b"-1", b"1 ", b"18446744073709551616"] {
            assert_eq!(decimal(other), None);
        }
    }
}
