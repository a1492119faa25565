//! The objects apps see, spelled as the contract spells them.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};
use shared::storage::User;

use super::text::Text;
use crate::accounts::{self, Profile};

/// The answer to a call that did something.
#[derive(Debug, Clone, Object)]
pub struct Done {
    /// Always `success`.
    pub status: String,
    /// What was done, for people.
    pub message: String,
}

impl Done {
    /// Success, with a `message` for people.
    #[must_use]
    pub fn new(message: &str) -> Self {
        Self {
            status: "success".to_owned(),
            message: message.to_owned(),
        }
    }
}

/// The answer to registering or logging in.
#[derive(Debug, Clone, Object)]
pub struct SignedIn {
    /// Always `success`.
    pub status: String,
    /// What was done, for people.
    pub message: String,
    /// The access token. Send it in the header `Authorization` of every further call.
    #[oai(rename = "Authorization")]
    pub authorization: String,
}

impl SignedIn {
    /// Success, with a `message` for people and a token.
    #[must_use]
    pub fn new(message: &str, token: String) -> Self {
        Self {
            status: "success".to_owned(),
            message: message.to_owned(),
            authorization: token,
        }
    }
}

/// What registration needs.
#[derive(Clone, Object, Deserialize)]
#[oai(example)]
pub struct Registration {
    /// E-mail address; unique.
    pub email: Text,
    /// Name others see; unique.
    pub username: Text,
    /// Password.
    pub password: Text,
    /// Name in URLs; unique. One is made up if it is left out.
    #[oai(skip_serializing_if_is_none)]
    pub public_id: Option<Text>,
}

impl From<Registration> for accounts::Registration {
    fn from(registration: Registration) -> Self {
        Self {
            email: registration.email.0,
            username: registration.username.0,
            password: registration.password.0,
            public_id: registration.public_id.map(|given| given.0),
        }
    }
}

impl poem_openapi::types::Example for Registration {
    fn example() -> Self {
        Self {
            email: "test1".into(),
            username: "test1".into(),
            password: "test1".into(),
            public_id: Some("test1".into()),
        }
    }
}

/// What logging in needs.
#[derive(Clone, Object, Deserialize)]
#[oai(example)]
pub struct Credentials {
    /// E-mail address given at registration.
    pub email: Text,
    /// Password.
    pub password: Text,
}

impl poem_openapi::types::Example for Credentials {
    fn example() -> Self {
        Self {
            email: "test1".into(),
            password: "test1".into(),
        }
    }
}

/// A user as others see them.
#[derive(Debug, Clone, Object)]
pub struct UserProfile {
    /// Name others see.
    pub username: String,
    /// Name in URLs.
    pub public_id: String,
    /// E-mail address: only for the user and for admins.
    #[oai(skip_serializing_if_is_none)]
    pub email: Option<String>,
}

impl From<Profile> for UserProfile {
    fn from(profile: Profile) -> Self {
        let Profile {
            username,
            public_id,
            email,
        } = profile;
        Self {
            username,
            public_id,
            email,
        }
    }
}

/// A user as admins see them.
#[derive(Debug, Clone, Object)]
pub struct UserRecord {
    /// E-mail address.
    pub email: String,
    /// Name others see.
    pub username: String,
    /// Name in URLs.
    pub public_id: String,
}

impl From<User> for UserRecord {
    fn from(user: User) -> Self {
        Self {
            email: user.email,
            username: user.username,
            public_id: user.public_id,
        }
    }
}

/// A list of users.
#[derive(Debug, Clone, Object)]
pub struct UserList {
    /// Sorted by public id.
    pub data: Vec<UserRecord>,
}

/// A room.
#[derive(Debug, Clone, Object)]
pub struct RoomEntry {
    /// Name.
    pub name: String,
}

/// A list of rooms.
#[derive(Debug, Clone, Object)]
pub struct RoomList {
    /// Sorted by name.
    pub data: Vec<RoomEntry>,
}

/// Options for creating a room.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[oai(example)]
pub struct RoomOptions {
    /// True: only its owner sees the room, and nobody can join it; members cannot be added yet. For two people there are direct rooms.
    #[oai(skip_serializing_if_is_none)]
    pub private: Option<bool>,
}

impl poem_openapi::types::Example for RoomOptions {
    fn example() -> Self {
        Self { private: Some(false) }
    }
}

/// A message to be posted.
#[derive(Clone, Object, Deserialize)]
#[oai(example)]
pub struct MessageDraft {
    /// The text.
    pub message: Text,
    /// Id of the message of this room that it replies to.
    #[oai(skip_serializing_if_is_none)]
    pub reply_to: Option<Text>,
    /// Names of the users that it mentions.
    #[oai(skip_serializing_if_is_none)]
    pub mentions: Option<Vec<Text>>,
}

/// The new text of a message.
#[derive(Clone, Object, Deserialize)]
#[oai(example)]
pub struct MessageEdit {
    /// The text.
    pub message: Text,
}

impl poem_openapi::types::Example for MessageEdit {
    fn example() -> Self {
        Self {
            message: "test message 1, edited".into(),
        }
    }
}

impl poem_openapi::types::Example for MessageDraft {
    fn example() -> Self {
        Self {
            message: "test message 1".into(),
            reply_to: None,
            mentions: None,
        }
    }
}

/// What is wrong with a call. Programs test `code`.
#[derive(Debug, Clone, Object, Serialize)]
pub struct Problem {
    /// Always `fail`.
    pub status: String,
    /// Stable reason in snake_case.
    pub code: String,
    /// One English sentence for people.
    pub message: String,
    /// Names this call in the server's log.
    pub request_id: String,
    /// What is wrong with single fields.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<FieldProblem>>,
    /// Why the service is not ready, for `not_ready`; see `Health`.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasons: Option<Vec<String>>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
pub struct FieldProblem {
    /// Name of the field.
    pub field: String,
    /// Stable reason in snake_case.
    pub code: String,
    /// One English sentence for people.
    pub message: String,
}

/// What this installation is and what it accepts.
#[derive(Debug, Clone, Object)]
pub struct Info {
    /// Name of the product.
    pub name: String,
    /// Version of the product.
    pub version: String,
    /// What single inputs may be.
    pub limits: InputLimits,
}

/// What single inputs may be, in characters unless the name says otherwise.
#[derive(Debug, Clone, Object)]
pub struct InputLimits {
    /// Longest message.
    pub message_max: u32,
    /// Longest room name.
    pub room_name_max: u32,
    /// Longest username.
    pub username_max: u32,
    /// Longest e-mail address.
    pub email_max: u32,
    /// Shortest password.
    pub password_min: u32,
    /// Longest password.
    pub password_max: u32,
    /// Largest request body.
    pub body_max_bytes: u32,
    /// Messages a user may post a second, on average; 0 for any number.
    pub post_per_s: u32,
    /// Messages a user may post at once.
    pub post_burst: u32,
    /// Streams a user may have open; 0 for any number.
    pub streams_per_user: u32,
    /// Rooms a user may own; 0 for any number.
    pub rooms_per_user: u32,
    /// Rooms a user may create in an hour; 0 for any number.
    pub create_room_per_hour: u32,
    /// Rooms a user may join or leave in a minute; 0 for any number.
    pub join_per_min: u32,
    /// Connections one address may have; 0 for any number. One more gets 429 `too_many_connections`.
    pub connections_per_address: u32,
    /// Bytes of a page of history, about: where more was asked for it is shorter, and `Link` leads to the rest.
    pub history_page_max_bytes: u32,
    /// Reads of history of one user that may wait. One more gets 429 `too_many_reads`.
    pub history_reads_waiting: u32,
    /// KiB of history that a user may read a second, in pages (uncompressed) and as replay on streams, beyond a burst of twice as
    /// much; 0 for any number.
    pub replay_kib_per_s: u32,
    /// Bytes of unfinished requests on one connection. More get 429 `too_much_in_flight`.
    pub in_flight_max_bytes: u32,
}

/// Whether the service can work.
#[derive(Debug, Clone, Object)]
pub struct Health {
    /// `live` or `ready`.
    pub status: String,
    /// `alive` or `absent`: whether a worker stores messages now.
    #[oai(skip_serializing_if_is_none)]
    pub worker: Option<String>,
    /// What is wrong, such as `no_worker`, although calls can be served; further reasons may come.
    #[oai(skip_serializing_if_is_none)]
    pub reasons: Option<Vec<String>>,
}
