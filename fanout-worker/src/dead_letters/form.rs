//! The form in which a dead letter keeps the entry it was made of.
//!
//! It is JSON, and the entry can be put back from it byte by byte: an array of pairs of field and value, in which what is
//! not UTF-8 is an object with its bytes in hexadecimal. A message that only the database refused is kept as an object of
//! its fields.

use serde_json::{Map, Value, json};

/// A field of an entry and its value.
pub type Field = (Vec<u8>, Vec<u8>);

/// The stored form of an entry with these fields.
#[must_use]
pub fn encode(fields: &[Field]) -> String {
    let pairs: Vec<Value> = fields.iter().map(|(name, value)| json!([part(name), part(value)])).collect();
    Value::from(pairs).to_string()
}

/// The fields that were encoded; `None` if `stored` has neither form.
#[must_use]
pub fn decode(stored: &str) -> Option<Vec<Field>> {
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

    proptest! {
        #[test]
        fn every_entry_can_be_put_back_byte_by_byte(fields: Vec<Field>) {
            prop_assert_eq!(decode(&encode(&fields)), Some(fields));
        }

        #[test]
        fn text_stays_readable(name in "[a-z]{1,9}", text in "\\PC{0,50}") {
            let stored = encode(&[(name.clone().into_bytes(), text.clone().into_bytes())]);
            prop_assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), json!([[name, text]]));
        }

        #[test]
        fn anything_else_is_no_entry_and_never_a_panic(stored: String) {
            let _ = decode(&stored);
        }
    }

    #[test]
    fn a_message_that_the_database_refused_becomes_an_entry_again() {
        let fields = decode(r#"{"id":"x","room":7,"text":"hi"}"#).unwrap();
        let expected = [("id", "x"), ("room", "7"), ("text", "hi")];
        assert_eq!(fields, expected.map(|(name, value)| (name.into(), value.into())));
        for other in ["7", "[[1]]", r#"[["a",null]]"#, r#"{"a":[]}"#, r#"[["a",{"hex":"x"}]]"#] {
            assert_eq!(decode(other), None, "{other}");
        }
    }
}
