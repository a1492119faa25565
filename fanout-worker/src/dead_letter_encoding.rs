//! Encodes the entry that a dead letter keeps.
//!
//! The encoding is JSON, and decoding gives the entry back byte by byte: an array of pairs of field and value, in which bytes that
//! are not UTF-8 are an object with their hexadecimal digits. A message that only the database refused is an object of its
//! fields. An entry that is too large is encoded as its size and its hash.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Bytes of an entry that are kept at most. No gateway writes a hundredth of that; another party could write more than a
/// database can hold in one value.
const MAX_KEPT: usize = 8 * 1024 * 1024;

/// The beginning of the encoding of an entry that is not kept.
const ABRIDGED: &str = r#"{"bytes":"#;

/// A field of an entry and its value.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

/// The encoding of an entry with these fields.
#[must_use]
pub(crate) fn encode(fields: &[Field]) -> String {
    let parts = || fields.iter().flat_map(|(name, value)| [name, value]);
    if parts().map(Vec::len).sum::<usize>() > MAX_KEPT {
        return abridge(parts());
    }
    let pairs: Vec<Value> = fields.iter().map(|(name, value)| json!([part(name), part(value)])).collect();
    Value::from(pairs).to_string()
}

/// The encoding of an entry that cannot be kept: how many bytes its parts have, and their SHA-256.
#[must_use]
pub(crate) fn abridge<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> String {
    let (mut bytes, mut hash) = (0, Sha256::new());
    for part in parts {
        bytes += part.as_ref().len();
        hash.update(part);
    }
    json!({ "bytes": bytes, "sha256": hex::encode(hash.finalize()) }).to_string()
}

/// Whether `stored` is the encoding of an entry that is not kept.
#[must_use]
pub(crate) fn is_abridged(stored: &str) -> bool {
    stored.starts_with(ABRIDGED)
}

/// The fields that were encoded; `None` if `stored` is not an encoding of fields.
#[must_use]
pub(crate) fn decode(stored: &str) -> Option<Vec<Field>> {
    match serde_json::from_str(stored).ok()? {
        Value::Array(pairs) => pairs.iter().map(pair).collect(),
        Value::Object(message) => {
            message.iter().map(|(name, value)| Some((name.clone().into_bytes(), bytes(value)?))).collect()
        }
        _ => None,
    }
}

fn part(raw: &[u8]) -> Value {
    match std::str::from_utf8(raw) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "hex": hex::encode(raw) }),
    }
}

fn pair(pair: &Value) -> Option<Field> {
    match pair.as_array()?.as_slice() {
        [name, value] => Some((bytes(name)?, bytes(value)?)),
        _ => None,
    }
}

fn bytes(part: &Value) -> Option<Vec<u8>> {
    match part {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Number(number) => Some(number.to_string().into_bytes()),
        Value::Object(raw) => from_hex(raw),
        Value::Null | Value::Bool(_) | Value::Array(_) => None,
    }
}

fn from_hex(raw: &Map<String, Value>) -> Option<Vec<u8>> {
    hex::decode(raw.get("hex")?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// JSON like that of an entry, of which some is not valid: parts of every type, pairs of every length, broken ends.
    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            4 => "[a-z]{0,5}".prop_map(Value::from),
            1 => any::<i64>().prop_map(Value::from),
            2 => "([0-9a-f]{2}){0,4}".prop_map(|digits| json!({ "hex": digits })),
            1 => "[0-9a-g]{0,4}".prop_map(|digits| json!({ "hex": digits })),
            1 => Just(Value::Null),
        ];
        let pair = prop::collection::vec(leaf.clone(), 1..4).prop_map(Value::from);
        let pairs = prop::collection::vec(
            prop_oneof![8 => (leaf.clone(), leaf.clone()).prop_map(|(a, b)| json!([a, b])), 1 => pair],
            0..4,
        );
        let object = prop::collection::btree_map("[a-z]{1,4}", leaf, 0..4);
        let whole = prop_oneof![
            3 => pairs.prop_map(|pairs| Value::from(pairs).to_string()),
            1 => object.prop_map(|fields| json!(fields).to_string()),
        ];
        (whole, prop::bool::weighted(0.1)).prop_map(|(mut whole, is_cut)| {
            if is_cut {
                whole.pop();
            }
            whole
        })
    }

    proptest! {
        #[test]
        fn entry_is_decoded_byte_by_byte(fields: Vec<Field>) {
            prop_assert_eq!(decode(&encode(&fields)), Some(fields));
        }

        #[test]
        fn text_stays_readable(name in "[a-z]{1,9}", text in "\\PC{0,50}") {
            let stored = encode(&[(name.clone().into_bytes(), text.clone().into_bytes())]);
            prop_assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), json!([[name, text]]));
        }

        #[test]
        fn what_is_decoded_encodes_to_the_same_fields(stored in json()) {
            if let Some(fields) = decode(&stored) {
                prop_assert_eq!(decode(&encode(&fields)), Some(fields));
            }
        }
    }

    #[test]
    fn too_large_entry_is_abridged_to_size_and_hash() {
        let fields = [(b"text".to_vec(), vec![0xff; MAX_KEPT])];
        let stored = encode(&fields);
        assert!(is_abridged(&stored) && stored.len() < 200, "{stored}");
        assert_eq!(serde_json::from_str::<Value>(&stored).unwrap()["bytes"], MAX_KEPT + 4);
        assert!(!is_abridged(&encode(&[(b"bytes".to_vec(), b"7".to_vec())])));
    }

    #[test]
    fn refused_message_becomes_an_entry_again() {
        let fields = decode(r#"{"id":"x","room":7,"text":"hi"}"#).unwrap();
        let expected = [("id", "x"), ("room", "7"), ("text", "hi")];
        assert_eq!(fields, expected.map(|(name, value)| (name.into(), value.into())));
        for other in ["7", "[[1]]", r#"[["a",null]]"#, r#"{"a":[]}"#, r#"[["a",{"hex":"x"}]]"#] {
            assert_eq!(decode(other), None, "{other}");
        }
    }
}
