//! Encodes what is accepted as an entry of the accept log: named fields, readable with `XRANGE`.
//!
//! All but messages have a field `kind`; see [`AcceptedChange::fields`].
//!
//! Entries are not trusted: anybody with access to Redis could have written them. So an entry ends with a message authentication
//! code of its other fields.

use std::borrow::Cow;

use uuid::Uuid;

use super::KeySpace;
use super::mac::{CODE_BYTES, NotAuthentic};
use crate::domain::{
    Accepted, AcceptedChange, ChangeRequest, Command, Emoji, GatewayId, Invalid, MessageId, MessageText, OutboxHint,
    RoomId, Timestamp, UserId,
};

/// Named fields of an entry, in their order.
type Fields<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// The field that says which kind of entry it is. A message has none.
const KIND: &str = "kind";

/// The value of that field for a hint that the outbox has rows of the room.
const OUTBOX: &str = "outbox";

/// The last field. It names the installation and holds the code, in hexadecimal digits, with [`BEFORE_CODE`] between.
const MAC: &str = "mac";
const BEFORE_CODE: char = '-';

/// The field that named the installation before there were codes.
const FORMER_INSTALLATION: &str = "installation";

/// An entry that is not an accepted message.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEntry {
    /// A field is missing.
    #[error("field '{0}' is missing")]
    Missing(&'static str),
    /// A field has no valid value.
    #[error("field '{0}' is not valid")]
    Malformed(&'static str),
    /// A gateway of another installation accepted it, whose rooms and users have the same numbers as ours.
    #[error("it belongs to installation '{0}'")]
    Foreign(String),
    /// No gateway of the installation wrote it.
    #[error(transparent)]
    NotAuthentic(#[from] NotAuthentic),
    /// The message breaks a rule of the domain.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// The fields of `message` in the installation of `keys`, in the order in which they are appended.
#[must_use]
pub fn encode_message<'a>(message: &'a Accepted, keys: &'a KeySpace) -> Fields<'a> {
    let mut fields: Fields<'a> = Vec::with_capacity(9);
    fields.extend([
        ("id", message.id.to_string().into()),
        ("room", message.room.0.to_string().into()),
        ("sender", message.sender.0.to_string().into()),
        ("at", message.created_on.0.to_string().into()),
        ("text", message.text.as_str().into()),
    ]);
    fields.extend(message.in_reply_to.map(|id| ("in_reply_to", id.to_string().into())));
    if !message.mentions.is_empty() {
        let ids: Vec<String> = message.mentions.iter().map(|user| user.0.to_string()).collect();
        fields.push(("mentions", ids.join(",").into()));
    }
    fields.extend(message.reply_to.map(|gateway| ("reply_to", gateway.to_string().into())));
    sign(&mut fields, keys);
    fields
}

/// The fields of `change` in the installation of `keys`, in the order in which they are appended.
#[must_use]
pub fn encode_change<'a>(change: &'a AcceptedChange, keys: &'a KeySpace) -> Fields<'a> {
    let mut fields = change.fields();
    fields.extend(change.receipt_to.map(|gateway| ("reply_to", gateway.to_string().into())));
    sign(&mut fields, keys);
    fields
}

/// The fields of `command` in the installation of `keys`, in the order in which they are appended.
#[must_use]
pub fn encode_command<'a>(command: &'a Command, keys: &'a KeySpace) -> Fields<'a> {
    match command {
        Command::Message(message) => encode_message(message, keys),
        Command::Change(change) => encode_change(change, keys),
        Command::Outbox(hint) => encode_outbox_hint(*hint, keys),
    }
}

/// The fields of a hint that the outbox has rows. Like a change it has no field `text`: see [`AcceptedChange::fields`].
#[must_use]
pub fn encode_outbox_hint(hint: OutboxHint, keys: &KeySpace) -> Fields<'static> {
    let mut fields: Fields<'static> = vec![
        ("room", hint.room.0.to_string().into()),
        ("upto", hint.upto.to_string().into()),
        (KIND, OUTBOX.into()),
    ];
    sign(&mut fields, keys);
    fields
}

/// Adds the name of the installation and the code of all other fields.
fn sign(fields: &mut Fields<'_>, keys: &KeySpace) {
    let code = keys.mac().code_of_entry(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let mut mac = String::with_capacity(keys.installation().len() + 1 + 2 * CODE_BYTES);
    mac.push_str(keys.installation());
    mac.push(BEFORE_CODE);
    let mut digits = [0; 2 * CODE_BYTES];
    hex::encode_to_slice(code, &mut digits).expect("two digits a byte");
    mac.push_str(std::str::from_utf8(&digits).expect("digits are ASCII"));
    fields.push((MAC, mac.into()));
}

/// Decodes the fields of an entry that a gateway of the installation of `keys` wrote. Unknown fields are ignored, so that a newer
/// gateway may add some. Whether an entry needs a code depends on `now`: see [`KeySpace::accepting_unsigned`].
pub fn decode_entry(fields: &[(Vec<u8>, Vec<u8>)], keys: &KeySpace, now: Timestamp) -> Result<Command, InvalidEntry> {
    let command = decode_unverified_entry(fields, keys)?;
    let is_authentic = match fields.split_last() {
        Some(((name, mac), others)) if name == MAC.as_bytes() => {
            let others = others.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
            let digits = mac.get(keys.installation().len() + 1..).unwrap_or_default();
            let mut code = [0; CODE_BYTES];
            hex::decode_to_slice(digits, &mut code).is_ok() && keys.mac().is_code_of_entry(&code, others)
        }
        // It is unknown what a code covers that is not the last field.
        _ if field(fields, MAC).is_ok() => false,
        _ => keys.accepts_unsigned(installation_of(fields)?.is_some(), now),
    };
    if is_authentic {
        Ok(command)
    } else {
        Err(NotAuthentic.into())
    }
}

/// The same without checking the code, for an entry that an operator has approved. An entry of another installation is refused
/// all the same.
pub fn decode_unverified_entry(fields: &[(Vec<u8>, Vec<u8>)], keys: &KeySpace) -> Result<Command, InvalidEntry> {
    match installation_of(fields)? {
        Some(installation) if installation != keys.installation() => {
            return Err(InvalidEntry::Foreign(installation.to_owned()));
        }
        Some(_) | None => {}
    }
    match optional(field(fields, KIND))? {
        None => decode_message(fields).map(Command::Message),
        Some(OUTBOX) => Ok(Command::Outbox(OutboxHint {
            room: RoomId(number(fields, "room", |raw| raw.parse().ok())?),
            upto: number(fields, "upto", |raw| raw.parse().ok())?,
        })),
        Some(kind) => decode_change(fields, kind).map(Command::Change),
    }
}

fn decode_message(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Accepted, InvalidEntry> {
    let user = |raw: &str| raw.parse().map(UserId).map_err(|_| InvalidEntry::Malformed("mentions"));
    let mentions = optional(field(fields, "mentions"))?.map(|ids| ids.split(',').map(user).collect()).transpose()?;
    let text = MessageText::parse(field(fields, "text")?)?;
    Ok(Accepted {
        id: MessageId(number(fields, "id", |raw| Uuid::parse_str(raw).ok())?),
        room: RoomId(number(fields, "room", |raw| raw.parse().ok())?),
        sender: UserId(number(fields, "sender", |raw| raw.parse().ok())?),
        text,
        in_reply_to: optional(number(fields, "in_reply_to", |raw| Uuid::parse_str(raw).ok()))?.map(MessageId),
        mentions: mentions.unwrap_or_default(),
        created_on: Timestamp(number(fields, "at", |raw| raw.parse().ok())?),
        reply_to: optional(number(fields, "reply_to", |raw| Uuid::parse_str(raw).ok()))?.map(GatewayId),
    })
}

fn decode_change(fields: &[(Vec<u8>, Vec<u8>)], kind: &str) -> Result<AcceptedChange, InvalidEntry> {
    let flag = |name| {
        number(fields, name, |raw| match raw {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        })
    };
    let request = match kind {
        ChangeRequest::EDIT => ChangeRequest::Edit {
            text: MessageText::parse(field(fields, "new_text")?)?,
            oldest: Timestamp(number(fields, "oldest", |raw| raw.parse().ok())?),
        },
        ChangeRequest::DELETE => ChangeRequest::Delete {
            as_moderator: flag("as_moderator")?,
        },
        ChangeRequest::REACT => ChangeRequest::React {
            emoji: Emoji::stored(field(fields, "emoji")?)?,
            on: flag("on")?,
        },
        // Of a newer gateway.
        _ => return Err(InvalidEntry::Malformed(KIND)),
    };
    Ok(AcceptedChange {
        id: MessageId(number(fields, "id", |raw| Uuid::parse_str(raw).ok())?),
        room: RoomId(number(fields, "room", |raw| raw.parse().ok())?),
        sender: UserId(number(fields, "sender", |raw| raw.parse().ok())?),
        created_on: Timestamp(number(fields, "at", |raw| raw.parse().ok())?),
        receipt_to: optional(number(fields, "reply_to", |raw| Uuid::parse_str(raw).ok()))?.map(GatewayId),
        target: MessageId(number(fields, "target", |raw| Uuid::parse_str(raw).ok())?),
        request,
    })
}

/// What a field holds that may be missing.
fn optional<T>(field: Result<T, InvalidEntry>) -> Result<Option<T>, InvalidEntry> {
    match field {
        Err(InvalidEntry::Missing(_)) => Ok(None),
        field => field.map(Some),
    }
}

/// The installation that an entry names, if it does. Before there were codes it had a field of its own.
fn installation_of(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Option<&str>, InvalidEntry> {
    let named = match field(fields, MAC) {
        Err(InvalidEntry::Missing(_)) => field(fields, FORMER_INSTALLATION),
        mac => mac.map(|mac| mac.split_once(BEFORE_CODE).map_or(mac, |(installation, _)| installation)),
    };
    optional(named)
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

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn keys() -> KeySpace {
        KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 1, "07".repeat(32).parse().unwrap())
    }

    fn message() -> Accepted {
        Accepted {
            id: MessageId::fresh(),
            room: RoomId(1),
            sender: UserId(1),
            text: MessageText::parse("hi").unwrap(),
            in_reply_to: None,
            mentions: Vec::new(),
            created_on: Timestamp(1),
            reply_to: None,
        }
    }

    fn raw(fields: &[(&'static str, Cow<'_, str>)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    fn requests() -> impl Strategy<Value = ChangeRequest> {
        prop_oneof![
            ("[^\0]{1,200}", any::<i64>()).prop_map(|(text, oldest)| ChangeRequest::Edit {
                text: MessageText::parse(&text).unwrap(),
                oldest: Timestamp(oldest),
            }),
            any::<bool>().prop_map(|as_moderator| ChangeRequest::Delete { as_moderator }),
            any::<bool>().prop_map(|on| ChangeRequest::React {
                emoji: Emoji::parse("👍🏽").unwrap(),
                on
            }),
        ]
    }

    proptest! {
        #[test]
        fn message_survives_the_accept_log(
            text in "[^\0]{1,200}",
            room in 1..i64::MAX,
            at in 0..i64::MAX,
            reply_to: Option<u128>,
            in_reply_to: Option<u128>,
            mentions in proptest::collection::vec(1..i64::MAX, 0..4),
        ) {
            let message = Accepted {
                id: MessageId::fresh(),
                room: RoomId(room),
                sender: UserId(3),
                text: MessageText::parse(&text).unwrap(),
                in_reply_to: in_reply_to.map(|id| MessageId(Uuid::from_u128(id))),
                mentions: mentions.into_iter().map(UserId).collect(),
                created_on: Timestamp(at),
                reply_to: reply_to.map(|id| GatewayId(Uuid::from_u128(id))),
            };
            let fields = raw(&encode_message(&message, &keys()));
            prop_assert_eq!(decode_entry(&fields, &keys(), NOW).unwrap(), Command::Message(message));
        }

        #[test]
        fn change_survives_the_accept_log(
            request in requests(),
            room in 1..i64::MAX,
            at in 0..i64::MAX,
            receipt_to: Option<u128>,
        ) {
            let change = AcceptedChange {
                id: MessageId::fresh(),
                room: RoomId(room),
                sender: UserId(3),
                created_on: Timestamp(at),
                receipt_to: receipt_to.map(|id| GatewayId(Uuid::from_u128(id))),
                target: MessageId::fresh(),
                request,
            };
            let fields = raw(&encode_change(&change, &keys()));
            prop_assert!(fields.iter().all(|(name, _)| name != b"text"), "an older worker takes it for a message");
            prop_assert_eq!(decode_entry(&fields, &keys(), NOW).unwrap(), Command::Change(change));
        }

        #[test]
        fn hint_survives_the_accept_log(room in 1..i64::MAX, upto: i64) {
            let hint = OutboxHint { room: RoomId(room), upto };
            let fields = raw(&encode_outbox_hint(hint, &keys()));
            prop_assert_eq!(decode_entry(&fields, &keys(), NOW).unwrap(), Command::Outbox(hint));
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(fields: Vec<(Vec<u8>, Vec<u8>)>) {
            prop_assert!(decode_entry(&fields, &keys(), NOW).is_err());
        }
    }

    #[test]
    fn malformed_field_is_named() {
        let fields = raw(&[("text", "hi".into()), ("id", "7".into())]);
        assert_eq!(decode_entry(&fields, &keys(), NOW).unwrap_err().to_string(), "field 'id' is not valid");
        let fields = raw(&[("text", "a\0b".into())]);
        assert!(matches!(decode_entry(&fields, &keys(), NOW), Err(InvalidEntry::Invalid(_))));
    }

    #[test]
    fn entry_of_another_installation_is_refused_by_name() {
        let message = message();
        let others = KeySpace::new("00a1b2c3d4e6".parse().unwrap(), 1, "07".repeat(32).parse().unwrap());
        let mut fields = raw(&encode_message(&message, &others));
        let refused = decode_entry(&fields, &keys(), NOW).unwrap_err();
        assert_eq!(refused.to_string(), "it belongs to installation '00a1b2c3d4e6'");
        fields.pop();
        assert!(matches!(decode_entry(&fields, &keys(), NOW), Err(InvalidEntry::NotAuthentic(_))));
        // As gateways of earlier versions wrote it, the latest with a name.
        let end = Timestamp(NOW.0 + 60_000);
        let upgraded = |end, carries_over| keys().accepting_unsigned(end, carries_over);
        assert_eq!(decode_entry(&fields, &upgraded(end, true), NOW).unwrap(), Command::Message(message.clone()));
        assert!(decode_entry(&fields, &upgraded(end, false), NOW).is_err());
        assert!(decode_entry(&fields, &upgraded(Timestamp(1), true), NOW).is_err());
        fields.push((b"installation".to_vec(), b"00a1b2c3d4e5".to_vec()));
        assert_eq!(decode_entry(&fields, &upgraded(end, false), NOW).unwrap(), Command::Message(message.clone()));
        assert!(decode_entry(&fields, &upgraded(Timestamp(1), false), NOW).is_err());
        fields.last_mut().unwrap().1 = b"00a1b2c3d4e6".to_vec();
        assert!(matches!(decode_entry(&fields, &upgraded(end, true), NOW), Err(InvalidEntry::Foreign(_))));
    }

    #[test]
    fn entry_without_the_right_code_is_refused() {
        let message = message();
        let genuine = raw(&encode_message(&message, &keys()));
        assert_eq!(decode_entry(&genuine, &keys(), NOW).unwrap(), Command::Message(message));
        let other_key = KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 1, "08".repeat(32).parse().unwrap());
        assert!(decode_entry(&genuine, &other_key, NOW).is_err());
        for index in 0..genuine.len() {
            let mut without = genuine.clone();
            without.remove(index);
            assert!(decode_entry(&without, &keys(), NOW).is_err(), "{index}");
        }
        let mut of_another = genuine.clone();
        of_another[2].1 = b"2".to_vec();
        assert!(matches!(decode_entry(&of_another, &keys(), NOW), Err(InvalidEntry::NotAuthentic(_))));
        // The first of two fields of a name counts.
        let mut twice = genuine;
        twice.insert(0, (b"sender".to_vec(), b"2".to_vec()));
        assert!(matches!(decode_entry(&twice, &keys(), NOW), Err(InvalidEntry::NotAuthentic(_))));
    }
}
