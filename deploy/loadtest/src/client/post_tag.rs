//! The tag that every posted text begins with, `@<connection>.<count>.<µs> `. It has a fixed width, so that a request
//! is prepared once and only the digits of its tag are written each time.

/// Digits of the connection, of the count and of the time.
const WIDTHS: [usize; 3] = [4, 10, 13];

/// Which post of which connection a message is, and when it was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PostTag {
    /// Number of the posting connection among those of its room.
    pub(crate) connection: u64,
    /// How often the connection has sent this request, from 1.
    pub(crate) count: u64,
    /// When the post was due, in microseconds of the run's clock.
    pub(crate) posted_us: u64,
}

impl PostTag {
    /// First byte of a tag.
    pub(crate) const MARK: u8 = b'@';

    /// Length of a tag in bytes.
    pub(crate) const LEN: usize = 1 + WIDTHS[0] + 1 + WIDTHS[1] + 1 + WIDTHS[2] + 1;

    /// Writes the tag over the first [`PostTag::LEN`] bytes of `text`.
    pub(crate) fn write(self, text: &mut [u8]) {
        text[0] = Self::MARK;
        let mut at = 1;
        for (number, (width, end)) in
            [self.connection, self.count, self.posted_us].into_iter().zip(WIDTHS.into_iter().zip(*b".. "))
        {
            write_decimal(number, &mut text[at..at + width]);
            text[at + width] = end;
            at += width + 1;
        }
    }

    /// Parses the tag at the beginning of `text`; `None` if there is none.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() < Self::LEN || text[0] != Self::MARK {
            return None;
        }
        let mut numbers = [0; 3];
        let mut at = 1;
        for (number, width) in numbers.iter_mut().zip(WIDTHS) {
            *number = decimal(&text[at..at + width])?;
            at += width + 1;
        }
        let [connection, count, posted_us] = numbers;
        Some(Self {
            connection,
            count,
            posted_us,
        })
    }
}

/// Writes `number` over all of `digits`, with leading zeros.
pub(crate) fn write_decimal(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

/// Parses decimal digits; `None` if `digits` is empty, holds another byte, or exceeds 64 bits.
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
        fn a_written_tag_is_parsed(connection in 0..10_000_u64, count in 0..10_000_000_000_u64, posted_us in 0..10_000_000_000_000_u64) {
            let tag = PostTag { connection, count, posted_us };
            let mut text = [b'x'; PostTag::LEN + 5];
            tag.write(&mut text);
            prop_assert_eq!(PostTag::parse(&text), Some(tag));
            prop_assert_eq!(&text[PostTag::LEN - 1..], b" xxxxx");
        }

        #[test]
        fn other_texts_have_no_tag(text in "[^@].{0,40}") {
            prop_assert_eq!(PostTag::parse(text.as_bytes()), None);
        }
    }

    #[test]
    fn only_digits_are_parsed() {
        assert_eq!(decimal(b"018446744073709551615"), Some(u64::MAX));
        for other in [&b""[..], b"-1", b"1 ", b"18446744073709551616"] {
            assert_eq!(decimal(other), None);
        }
    }
}
