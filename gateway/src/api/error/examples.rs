//! Examples of errors for the OpenAPI document.

use std::time::Duration;

use shared::domain::Invalid;

use super::ApiError;
use crate::health::Reason;

impl ApiError {
    /// One of each kind, for the examples of the document.
    pub(in crate::api) fn examples() -> Vec<Self> {
        let too_long = Invalid::new("username", "too_long", "Must have at most 50 characters.");
        vec![
            Self::InvalidBody("The body must be a JSON object.".to_owned()),
            Self::InvalidFields(vec![too_long]),
            Self::Unauthorized,
            Self::TokenExpired,
            Self::SessionRevoked,
            Self::InvalidCredentials,
            Self::Forbidden,
            Self::RoomNotFound("testchat1".to_owned()),
            Self::RoomDeleted,
            Self::RoomReplaced("testchat1".to_owned()),
            Self::UserNotFound("test1".to_owned()),
            Self::DirectWithOneself,
            Self::MessageNotFound,
            Self::MessageDeleted,
            Self::EditWindowClosed,
            Self::NoSuchReply,
            Self::NoSuchMention("test2".to_owned()),
            Self::TooManyReactions,
            Self::NotFound,
            Self::MethodNotAllowed,
            Self::UnsupportedMediaType,
            Self::EncodedBody,
            Self::PayloadTooLarge,
            Self::BodyTimeout,
            Self::EmailTaken,
            Self::UsernameTaken,
            Self::PublicIdTaken,
            Self::RoomExists,
            Self::RoomNameReserved,
            Self::IdempotencyKeyReused,
            Self::RateLimited(Duration::from_secs(7)),
            Self::TooManyStreams,
            Self::TooManyRooms,
            Self::TooManyReads,
            Self::SearchTooSlow,
            Self::TooManyConnections,
            Self::TooMuchInFlight,
            Self::MalformedRequest("Send one header Host."),
            Self::HeadersTooLarge,
            Self::UnknownTransferCoding,
            Self::Busy,
            Self::Unavailable,
            Self::NotReady(vec![Reason::RedisFull]),
            Self::OutcomeUnknown,
            Self::Internal,
        ]
    }
}
