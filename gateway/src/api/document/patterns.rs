//! Patterns of the OpenAPI document: which characters texts may have, as regular expressions that all tools read alike
//! (ECMA-262).

/// The pattern of a room's name and of a `public_id`: these characters, and neither `.` nor `..`.
pub(super) const NAME: &str = r"^(\.{0,2}[A-Za-z0-9_-]|\.{3})[A-Za-z0-9._-]*$";

/// The pattern of a room's name in a call that creates none: it can be that of a direct room.
pub(super) const ROOM_NAME: &str = r"^((\.{0,2}[A-Za-z0-9_-]|\.{3})[A-Za-z0-9._-]*|~[a-z2-7]{26})$";

/// No space, no control character, and none of the marks that reorder text or are invisible. Marks that a script or an emoji
/// needs, such as U+200D, are left to the gateway: the rules for them follow tables that no expression holds.
const EMAIL: &str =
    r"^[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200B\u200E\u200F\u2028-\u202F\u205F-\u206F\u3000\uFEFF]+$";

/// The same with spaces between.
const USERNAME: &str = concat!(
    r"^[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200B\u200E\u200F\u2028-\u202F\u205F-\u206F\u3000\uFEFF]",
    r"([^\u0000-\u001F\u007F-\u009F\u200B\u200E\u200F\u2028-\u202E\u2060-\u206F\uFEFF]*",
    r"[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200B\u200E\u200F\u2028-\u202F\u205F-\u206F\u3000\uFEFF])?$",
);

const MESSAGE: &str = r"^[^\u0000]+$";

/// No space, control character or character of markup, and one character beyond ASCII at least.
pub(super) const EMOJI: &str = concat!(
    r#"^[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000/\\<>"]*"#,
    r#"[^\u0000-\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]"#,
    r#"[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000/\\<>"]*$"#,
);

/// The pattern of a position among one's rooms: two numbers below 2⁶³, in hexadecimal digits without leading zeros.
pub(super) const ACTIVITY: &str =
    "^(0|[1-9a-f][0-9a-f]{0,14}|[1-7][0-9a-f]{15})-(0|[1-9a-f][0-9a-f]{0,14}|[1-7][0-9a-f]{15})$";

/// Patterns of fields: schema, field, pattern.
pub(super) const PATTERNS: [(&str, &str, &str); 6] = [
    ("Registration", "email", EMAIL),
    ("Registration", "username", USERNAME),
    ("Registration", "public_id", NAME),
    ("MessageDraft", "message", MESSAGE),
    ("MessageEdit", "message", MESSAGE),
    ("NotifySetting", "level", "^(all|mentions|none)$"),
];

#[cfg(test)]
mod tests {
    use regex::Regex;
    use shared::domain::{Email, Emoji, MessageText, PublicId, RoomName, Username};

    use super::*;

    type IsTaken = fn(&str) -> bool;

    #[test]
    fn the_patterns_allow_all_that_the_gateway_accepts() {
        let is_taken: [(&str, IsTaken); 7] = [
            (EMAIL, |text| Email::parse_new(text, false).is_ok()),
            (USERNAME, |text| Username::parse_new(text).is_ok()),
            (NAME, |text| PublicId::parse_new(text).is_ok()),
            (NAME, |text| RoomName::parse_new(text).is_ok()),
            (ROOM_NAME, |text| RoomName::parse(text).is_ok()),
            (EMOJI, |text| Emoji::parse(text).is_ok()),
            (MESSAGE, |text| MessageText::parse(text).is_ok()),
        ];
        for (pattern, is_taken) in is_taken {
            let allowed = Regex::new(pattern).unwrap();
            let mut taken = 0;
            let mut compare = |text: &str| {
                assert!(allowed.is_match(text) || !is_taken(text), "{text:?} by {pattern}");
                taken += u32::from(is_taken(text));
            };
            for one in '\0'..=char::MAX {
                compare(one.encode_utf8(&mut [0; 4]));
            }
            for one in ('\0'..='\u{3100}').chain(['\u{FEFF}']) {
                for text in [
                    format!("{one}a"),
                    format!("a{one}"),
                    format!("a{one}b"),
                    format!("a{one}{one}b"),
                ] {
                    compare(&text);
                }
            }
            for text in ["", "..", "...", "..a", ".a", "a..", "....", ". .", "  ", "a  b"] {
                compare(text);
            }
            compare(RoomName::fresh_direct().as_str());
            assert!(taken > 64, "{pattern} allows {taken} texts");
            assert!(!allowed.is_match("a\0b"), "{pattern} allows what no text may have");
        }
    }
}
