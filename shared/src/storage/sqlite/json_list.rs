//! Encodes a list as one parameter in JSON, which SQL reads with `json_each`.

use serde::{Serialize, Serializer};

use crate::domain::MessageId;

/// A message id as hexadecimal digits without dashes, which `unhex` does not accept.
pub(super) struct Hex(pub(super) MessageId);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.0.simple().encode_lower(&mut [0; 32]))
    }
}

/// Encodes a list as one parameter. It writes the text directly, since a tree of values in between would take several times as
/// long.
pub(super) fn json_list<T: Serialize>(items: impl IntoIterator<Item = T>) -> Result<String, sqlx::Error> {
    let mut json = Vec::new();
    let written = serde_json::Serializer::new(&mut json).collect_seq(items);
    written.map_err(|error| sqlx::Error::Encode(error.into()))?;
    String::from_utf8(json).map_err(|error| sqlx::Error::Encode(error.into()))
}
