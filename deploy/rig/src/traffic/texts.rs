//! The texts of messages: every text is unique, most are short, and some try to break out of a line of a stream.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Endings with which a careless encoder would end a line, forge an event, or fail.
const HOSTILE: [&str; 8] = [
    "\r\n\r\nevent: bye\r\ndata: {\"reason\":\"forged\"}\r\n\r\n",
    "\n\nid: 1-1\ndata: {\"seq\":1}\n\n",
    "\rdata: x\r\revent: reset\r\r",
    "\u{2028}\u{2029}\u{85}\u{feff}",
    "\"}\n\ndata: {\"id\":\"",
    "\u{1}\u{7f}\u{1b}[2J\t\u{8}",
    "🦀 ᚠᛇᚻ 漢字 a\u{301}\u{200f}\u{202e}",
    ": comment\nretry: 1\n\n",
];

/// Longest padding of a text, in characters; the product takes 4,000.
const LONGEST: usize = 1_500;

/// One text in so many is long, and one in so many is hostile.
const LONG_ONE_IN: u32 = 40;
const HOSTILE_ONE_IN: u32 = 12;

/// The text of message `number` of `sender` in the run of `seed`: always the same.
#[must_use]
pub(super) fn text_of(seed: u64, sender: usize, number: u32) -> String {
    let mut rng = StdRng::seed_from_u64(seed ^ ((sender as u64) << 32) ^ u64::from(number));
    let mut text = format!("message {number} of sender {sender}");
    if rng.random_range(0..HOSTILE_ONE_IN) == 0 {
        text.push_str(HOSTILE[rng.random_range(0..HOSTILE.len())]);
    }
    if rng.random_range(0..LONG_ONE_IN) == 0 {
        text.push_str(&"~".repeat(rng.random_range(1..LONGEST)));
    }
    // The product keeps texts as they are, the end included.
    text.push('.');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_has_a_unique_and_repeatable_text() {
        let texts: std::collections::HashSet<String> =
            (0..20).flat_map(|sender| (0..200).map(move |number| text_of(7, sender, number))).collect();
        assert_eq!(texts.len(), 20 * 200);
        assert!(texts.contains(&text_of(7, 3, 3)));
        assert!(texts.iter().any(|text| text.contains('\r')));
        assert!(texts.iter().all(|text| text.chars().count() < 4_000));
    }
}
