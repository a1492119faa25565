//! Message authentication codes: proof that a process of this installation wrote what comes from Redis.
//!
//! Redis asks for a password at most, and pub/sub not even that of everybody: anyone who reaches it could append entries in any
//! user's name, and publish messages that were never stored. So every entry of the accept log and every publication ends with a
//! message authentication code, whose key is stored in SQL and nowhere else. Without the right code nothing is trusted: an entry
//! becomes a dead letter, and a publication is at most a reason to ask SQL.
//!
//! A copy of a genuine message that is sent again passes. An entry is stored once all the same, an acknowledgement is meant for
//! one process that never gives two messages the same number, and every other publication describes what SQL holds; unless the
//! database was restored in between, so that a copied event describes what is lost.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, Context};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::telemetry::LogEvent;

/// Bytes of a code: half of the output of HMAC-SHA-256, the least that RFC 2104, section 5, advises.
pub(super) const CODE_BYTES: usize = 16;

/// Bytes that the fields of an ordinary entry take.
const ORDINARY_BYTES: usize = 512;

/// The key of an installation's authentication codes. `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MacKey([u8; 32]);

/// A text that is no [`MacKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key of authentication codes has 64 hexadecimal digits")]
pub struct InvalidMacKey;

impl MacKey {
    /// A new key of 244 random bits.
    #[must_use]
    pub fn fresh() -> Self {
        let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
        let mut key = [0; 32];
        key[..16].copy_from_slice(first.as_bytes());
        key[16..].copy_from_slice(second.as_bytes());
        Self(key)
    }

    /// The key as 64 hexadecimal digits, as SQL stores it.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for MacKey {
    type Err = InvalidMacKey;

    fn from_str(raw: &str) -> Result<Self, InvalidMacKey> {
        let mut key = [0; 32];
        hex::decode_to_slice(raw, &mut key).map_err(|_| InvalidMacKey)?;
        Ok(Self(key))
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MacKey(..)")
    }
}

/// The purpose of a code, which is not valid for another one. The numbers are part of the codes and never change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// An entry of the accept log.
    Entry = 0,
    /// The messages that were stored in a room.
    Room = 1,
    /// Receipts: messages that a gateway waits for are stored.
    Receipts = 2,
    /// A control event for all gateways.
    Control = 3,
    /// The acknowledgement of a control event.
    Acknowledgement = 4,
    /// The stored watermark.
    StoredWatermark = 5,
}

/// Something that does not end with the right code.
#[derive(Debug, thiserror::Error)]
#[error("it was not written by a process of this installation")]
pub struct NotAuthentic;

static NOT_AUTHENTIC: LogEvent =
    LogEvent::refusal("not_authentic", "unauthenticated data was found in Redis").warning();
static UNREADABLE: LogEvent =
    LogEvent::outage("unreadable", "what a process of this installation publishes cannot be read");

/// A publication that does not decode.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPublication {
    /// It does not end with the right code.
    #[error(transparent)]
    NotAuthentic(#[from] NotAuthentic),
    /// Its encoding is unknown.
    #[error("its form is unknown: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl NotAuthentic {
    /// Logs that this came as `what`.
    pub fn report(&self, what: &'static str) {
        NOT_AUTHENTIC.report(what, self);
    }
}

impl InvalidPublication {
    /// Logs that this came as `what`.
    pub fn report(&self, what: &'static str) {
        match self {
            Self::NotAuthentic(_) => NOT_AUTHENTIC.report(what, self),
            Self::Malformed(_) => UNREADABLE.report(what, self),
        }
    }
}

/// Computes and checks codes.
pub(super) struct Mac(hmac::Key);

impl Mac {
    pub(super) fn new(key: MacKey) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key.0))
    }

    /// The code of an entry with these `fields`, in their order.
    pub(super) fn code_of_entry<'a>(&self, fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> [u8; CODE_BYTES] {
        let mut bytes = Vec::with_capacity(ORDINARY_BYTES);
        for part in fields.into_iter().flat_map(|(name, value)| [name, value]) {
            // With its length, so that no two lists of fields are the same bytes.
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        self.code_of_payload(Purpose::Entry, &bytes)
    }

    /// Whether `code` is the one of an entry with these `fields`.
    pub(super) fn is_code_of_entry<'a>(
        &self,
        code: &[u8],
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> bool {
        verify_slices_are_equal(&self.code_of_entry(fields), code).is_ok()
    }

    /// `payload` with its code behind it.
    fn protect(&self, purpose: Purpose, mut payload: Vec<u8>) -> Vec<u8> {
        let code = self.code_of_payload(purpose, &payload);
        payload.extend_from_slice(&code);
        payload
    }

    /// `message` as JSON, with its code behind it.
    pub(super) fn encode(&self, purpose: Purpose, message: &impl Serialize) -> Vec<u8> {
        let json = serde_json::to_vec(message).expect("a message has string keys only and no failing parts");
        self.protect(purpose, json)
    }

    /// Decodes what [`Self::encode`] wrote.
    pub(super) fn decode<T: DeserializeOwned>(
        &self,
        purpose: Purpose,
        authentic: &[u8],
    ) -> Result<T, InvalidPublication> {
        Ok(serde_json::from_slice(self.verify(purpose, authentic)?)?)
    }

    /// The payload of `authentic`, which has its code behind it.
    fn verify<'a>(&self, purpose: Purpose, authentic: &'a [u8]) -> Result<&'a [u8], NotAuthentic> {
        let (payload, code) = authentic.split_last_chunk::<CODE_BYTES>().ok_or(NotAuthentic)?;
        verify_slices_are_equal(&self.code_of_payload(purpose, payload), code).map_err(|_| NotAuthentic)?;
        Ok(payload)
    }

    fn code_of_payload(&self, purpose: Purpose, payload: &[u8]) -> [u8; CODE_BYTES] {
        let mut context = Context::with_key(&self.0);
        context.update(&[purpose as u8]);
        context.update(payload);
        *context.sign().as_ref().first_chunk().expect("the code of SHA-256 has 32 bytes")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Mac(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac() -> Mac {
        Mac::new(MacKey([7; 32]))
    }

    #[test]
    fn code_is_valid_for_its_purpose_and_key_alone() {
        let authentic = mac().protect(Purpose::Room, b"hello".to_vec());
        assert_eq!(mac().verify(Purpose::Room, &authentic).unwrap(), b"hello");
        assert!(mac().verify(Purpose::Control, &authentic).is_err());
        assert!(Mac::new(MacKey([8; 32])).verify(Purpose::Room, &authentic).is_err());
        for index in 0..authentic.len() {
            let mut changed = authentic.clone();
            changed[index] ^= 1;
            assert!(mac().verify(Purpose::Room, &changed).is_err(), "{index}");
            assert!(mac().verify(Purpose::Room, &authentic[..index]).is_err(), "{index}");
        }
    }

    #[test]
    fn code_depends_on_where_each_field_ends() {
        let code = |fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            mac().code_of_entry(fields)
        };
        let first = code(&[("ab", "c"), ("d", "e")]);
        assert_eq!(first, code(&[("ab", "c"), ("d", "e")]));
        for other in [
            [("a", "bc"), ("d", "e")],
            [("ab", "cd"), ("", "e")],
            [("d", "e"), ("ab", "c")],
        ] {
            assert_ne!(first, code(&other));
        }
    }

    #[test]
    fn debug_hides_the_key() {
        assert_eq!(format!("{:?} {:?}", MacKey([7; 32]), mac()), "MacKey(..) Mac(..)");
    }
}
