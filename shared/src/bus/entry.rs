//! The form of an accepted message in the accept log: named fields, readable with `XRANGE`.
//!
//! What is read back is not trusted: anybody with access to Redis could have written it.

use std::borrow::Cow;

use uuid::Uuid;

use super::Keys;
use crate::domain::{
    Accepted, GatewayId, Invalid, MessageId, MessageText, PublicId, RoomId, Timestamp, UserId, Username,
};

/// The field that names the installation.
const INSTALLATION: &str = "installation";

/// An entry that is not an accepted message.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEntry {
    /// A field is not there.
    #[error("field '{0}' is missing")]
    Missing(&'static str),
    /// A field has no valid value.
    #[error("field '{0}' is not valid")]
    Malformed(&'static str),
    /// It was accepted by a gateway of another installation, whose rooms and users have the same numbers as ours.
    #[error("it belongs to installation '{0}'")]
    Foreign(String),
    /// The message breaks a rule of the domain.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// The fields of `message` in the installation of `keys`, in the order in which they are appended.
#[must_use]
pub fn encode_entry<'a>(message: &'a Accepted, keys: &'a Keys) -> Vec<(&'static str, Cow<'a, str>)> {
    let mut fields = Vec::with_capacity(9);
    fields.extend([
        (INSTALLATION, keys.installation().into()),
        ("id", message.id.to_string().into()),
        ("room", message.room.0.to_string().into()),
        ("sender", message.sender.0.to_string().into()),
        ("username", message.username.as_str().into()),
        ("at", message.created_on.0.to_string().into()),
        ("text", message.text.as_str().into()),
    ]);
    fields.extend(message.public_id.as_deref().map(|public_id| ("public_id", public_id.into())));
    fields.extend(message.reply_to.map(|gateway| ("reply_to", gateway.to_string().into())));
    fields
}

/// Reads the fields of an entry in the installation of `keys`; unknown ones are ignored, so that a newer gateway may add
/// some. One that names no installation is of an earlier version.
pub fn decode_entry(fields: &[(Vec<u8>, Vec<u8>)], keys: &Keys) -> Result<Accepted, InvalidEntry> {
    match field(fields, INSTALLATION) {
        Ok(named) if named == keys.installation() => {}
        Ok(named) => return Err(InvalidEntry::Foreign(named.to_owned())),
        Err(InvalidEntry::Missing(_)) => {}
        Err(error) => return Err(error),
    }
    let text = MessageText::parse(field(fields, "text")?)?;
    Ok(Accepted {
        id: MessageId(number(fields, "id", |raw| Uuid::parse_str(raw).ok())?),
        room: RoomId(number(fields, "room", |raw| raw.parse().ok())?),
        sender: UserId(number(fields, "sender", |raw| raw.parse().ok())?),
        username: Username::parse(field(fields, "username")?)?.as_str().to_owned(),
        public_id: match field(fields, "public_id") {
            Err(InvalidEntry::Missing(_)) => None,
            found => Some(PublicId::parse(found?)?.as_str().to_owned()),
        },
        text,
        created_on: Timestamp(number(fields, "at", |raw| raw.parse().ok())?),
        reply_to: match field(fields, "reply_to") {
            Err(InvalidEntry::Missing(_)) => None,
            _ => Some(GatewayId(number(fields, "reply_to", |raw| Uuid::parse_str(raw).ok())?)),
        },
    })
}

fn field<'a>(fields: &'a [(Vec<u8>, Vec<u8>)], name: &'static str) -> Result<&'a str, InvalidEntry> {
    let (_, value) = fields.iter().find(|(key, _)| key == name.as_bytes()).ok_or(InvalidEntry::Missing(name))?;
    std::str::from_utf8(value).map_err(|_| InvalidEntry::Malformed(name))
}

fn number<T>(
    fields: &[(Vec<u8>, Vec<u8>)],
    name: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, InvalidEntry> {
    parse(field(fields, name)?).ok_or(InvalidEntry::Malformed(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> Keys {
        Keys::new("00a1b2c3d4e5".parse().unwrap(), 1)
    }

    fn raw(fields: &[(&'static str, Cow<'_, str>)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    proptest! {
        #[test]
        fn a_message_survives_the_accept_log(
            text in "[^\0]{1,200}",
            room in 1..i64::MAX,
            at in 0..i64::MAX,
            public_id in proptest::option::of("[a-zA-Z0-9_-]{1,64}"),
            reply_to: Option<u128>,
        ) {
            let message = Accepted {
                id: MessageId::fresh(),
                room: RoomId(room),
                sender: UserId(3),
                username: "ann".to_owned(),
                public_id,
                text: MessageText::parse(&text).unwrap(),
                created_on: Timestamp(at),
                reply_to: reply_to.map(|id| GatewayId(Uuid::from_u128(id))),
            };
            prop_assert_eq!(decode_entry(&raw(&encode_entry(&message, &keys())), &keys()).unwrap(), message);
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(fields: Vec<(Vec<u8>, Vec<u8>)>) {
            prop_assert!(decode_entry(&fields, &keys()).is_err());
        }
    }

    #[test]
    fn a_broken_field_is_named() {
        let fields = raw(&[("text", "hi".into()), ("id", "7".into())]);
        assert_eq!(decode_entry(&fields, &keys()).unwrap_err().to_string(), "field 'id' is not valid");
        let fields = raw(&[("text", "a\0b".into())]);
        assert!(matches!(decode_entry(&fields, &keys()), Err(InvalidEntry::Invalid(_))));
        let fields = raw(&[("public_id", "a b".into())]);
        assert!(decode_entry(&fields, &keys()).is_err());
    }

    #[test]
    fn an_entry_of_another_installation_is_refused_by_name() {
        let message = Accepted {
            id: MessageId::fresh(),
            room: RoomId(1),
            sender: UserId(1),
            username: "ann".to_owned(),
            public_id: None,
            text: MessageText::parse("hi").unwrap(),
            created_on: Timestamp(1),
            reply_to: None,
        };
        let others = Keys::new("00a1b2c3d4e6".parse().unwrap(), 1);
        let mut fields = raw(&encode_entry(&message, &others));
        let refused = decode_entry(&fields, &keys()).unwrap_err();
        assert_eq!(refused.to_string(), "it belongs to installation '00a1b2c3d4e6'");
        fields.retain(|(name, _)| name != INSTALLATION.as_bytes());
        assert_eq!(decode_entry(&fields, &keys()).unwrap(), message, "earlier versions name none");
    }
}
