//! Emojis of reactions.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointSetData};
use serde::{Deserialize, Serialize};

use super::{Invalid, check_length};

/// An emoji of a reaction: 1–32 characters, one of them at least beyond ASCII, one at least that is seen, and none a space, a control
/// character, one of markup, or a mark that reorders text.
///
/// Which pictures exist grows each year, so an unknown one is accepted; only what cannot be one is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Emoji(Box<str>);

impl Emoji {
    /// The longest accepted emoji, in characters: the longest recommended sequence of Unicode 16 has 10, a flag of a region 14.
    pub const MAX_LEN: usize = 32;

    /// Accepts `raw` of a client unchanged or returns why not.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let emoji = Self::stored(raw)?;
        if raw.chars().any(is_visible) && !raw.chars().any(reorders_text) {
            Ok(emoji)
        } else {
            Err(bad_characters())
        }
    }

    /// Accepts what was stored: earlier releases let invisible ones pass.
    pub fn stored(raw: &str) -> Result<Self, Invalid> {
        check_length("emoji", raw, 1, Self::MAX_LEN)?;
        let is_part = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | '\\' | '<' | '>' | '"');
        // The keycaps, such as 1️⃣, begin with ASCII and end with a combining mark.
        if raw.is_ascii() || !raw.chars().all(is_part) {
            return Err(bad_characters());
        }
        Ok(Self(raw.into()))
    }

    /// The emoji as it was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn bad_characters() -> Invalid {
    Invalid::new("emoji", "bad_characters", "Use one emoji.")
}

/// Whether a character is seen by itself: no accent, and not one of those that only join or choose others.
fn is_visible(c: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    let is_mark = GeneralCategoryGroup::Mark.contains(category) || category == GeneralCategory::Format;
    !is_mark && !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether a character is one of the marks of the bidirectional algorithm (UAX 9) that texts are not shown in order with.
fn reorders_text(c: char) -> bool {
    matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

impl TryFrom<String> for Emoji {
    type Error = Invalid;

    fn try_from(raw: String) -> Result<Self, Self::Error> {
        Self::stored(&raw)
    }
}

impl From<Emoji> for String {
    fn from(emoji: Emoji) -> Self {
        emoji.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_accepted_and_what_is_not_seen_is_refused() {
        for emoji in [
            "👍",
            "👍🏽",
            "1️⃣",
            "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
            "👩\u{200D}🚀",
            "❤️",
            "🇩🇪",
        ] {
            assert!(Emoji::parse(emoji).is_ok(), "{emoji}");
        }
        for text in [
            "\u{200B}",
            "\u{202E}",
            "\u{200D}",
            "\u{FE0F}",
            "\u{301}\u{301}",
            "\u{202E}👍",
            "👍\u{2066}",
        ] {
            assert!(Emoji::parse(text).is_err(), "{text:?}");
            assert!(Emoji::stored(text).is_ok(), "{text:?} of an earlier release");
        }
        for text in ["", "x", "👍 👍", "👍\n", "<👍"] {
            assert!(Emoji::parse(text).is_err() && Emoji::stored(text).is_err(), "{text:?}");
        }
    }
}
