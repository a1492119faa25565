//! Encodes JSON on one line for every reader: in events, in history and in errors, wherever text of users is in it.
//!
//! JSON allows U+0085, U+2028 and U+2029 in a string, and a server-sent event ends its lines at CR and LF alone. But some
//! readers of both split at whatever Unicode calls the end of a line, and the text of one user would then break the events of
//! all others. So these characters are escaped, as in `\u2028`, and with them DEL and the other C1 controls, which some tools
//! interpret. A JSON parser returns the same text.

use std::io::{self, Write};

use memchr::memchr3_iter;
use serde::Serialize;
use serde_json::ser::Formatter;

/// The media type, as the framework spells it.
pub(crate) const CONTENT_TYPE: &str = "application/json; charset=utf-8";

/// Adds `value` to `out` as JSON.
pub(crate) fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    let mut serializer = serde_json::Serializer::with_formatter(out, OneLine);
    value.serialize(&mut serializer).expect("what is sent has string keys only and no failing parts");
}

/// Encodes `value` into a new buffer.
pub(crate) fn to_vec(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

/// Formats compact JSON in which no reader finds the end of a line.
struct OneLine;

impl Formatter for OneLine {
    /// Writes a `fragment` in which the serializer found nothing to escape.
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let bytes = fragment.as_bytes();
        let mut written = 0;
        // The first bytes, in UTF-8, of all characters that are escaped here.
        for at in memchr3_iter(0x7f, 0xc2, 0xe2, bytes) {
            let escaped = match bytes[at..] {
                [0x7f, ..] => Some((0x7f, 1)),
                [0xc2, last @ 0x80..=0x9f, ..] => Some((u32::from(last), 2)),
                [0xe2, 0x80, 0xa8, ..] => Some((0x2028, 3)),
                [0xe2, 0x80, 0xa9, ..] => Some((0x2029, 3)),
                _ => None,
            };
            if let Some((character, length)) = escaped {
                writer.write_all(&bytes[written..at])?;
                write!(writer, "\\u{character:04x}")?;
                written = at + length;
            }
        }
        writer.write_all(&bytes[written..])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts of any characters, many of them from around those that end lines for some reader.
    pub(crate) const TEXT: &str = "(?s)(.|[\u{7f}-\u{a0}]|[\u{2020}-\u{2030}]|[\0-\u{1f}]|ä|€|🦀){0,60}";

    /// The lines of `text` for a reader that splits at every line end of Unicode: the mandatory breaks of UAX 14, and the
    /// separators of `str.splitlines` in Python.
    pub(crate) fn lines(text: &str) -> Vec<&str> {
        let ends = [
            '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}',
        ];
        text.split(ends).collect()
    }

    /// The text that a JSON string stands for, decoded by hand as RFC 8259 says (section 7).
    fn decode(json: &str) -> String {
        let mut units: Vec<u16> = Vec::new();
        let mut characters = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap().chars();
        while let Some(character) = characters.next() {
            let character = match character {
                '\\' => match characters.next().unwrap() {
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'u' => {
                        let digits: String = characters.by_ref().take(4).collect();
                        units.push(u16::from_str_radix(&digits, 16).unwrap());
                        continue;
                    }
                    itself @ ('"' | '\\' | '/') => itself,
                    other => panic!("\\{other} is not an escape"),
                },
                '"' => panic!("a quotation mark within"),
                other => other,
            };
            units.extend_from_slice(character.encode_utf16(&mut [0; 2]));
        }
        String::from_utf16(&units).unwrap()
    }

    proptest! {
        #[test]
        fn any_text_is_one_line_and_decodes_to_itself(text in TEXT) {
            let json = String::from_utf8(to_vec(&text)).unwrap();
            prop_assert_eq!(lines(&json).len(), 1);
            prop_assert!(!json.chars().any(char::is_control), "{}", json);
            prop_assert_eq!(&decode(&json), &text);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn ordinary_text_is_encoded_as_by_serde_json(text in "[ -~äöü€🦀–а-я名前]{0,60}") {
            prop_assert_eq!(to_vec(&text), serde_json::to_vec(&text).unwrap());
        }
    }

    #[test]
    fn line_ends_are_escaped_wherever_they_stand() {
        assert_eq!(to_vec(&"\u{2028}a\u{85}\u{2029}\u{7f}"), br#""\u2028a\u0085\u2029\u007f""#);
        // Their neighbours share their first bytes.
        assert_eq!(to_vec(&"\u{a0}\u{2027}\u{202a}£"), "\"\u{a0}\u{2027}\u{202a}£\"".as_bytes());
    }
}
