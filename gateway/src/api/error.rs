//! Errors of the API: status, stable code and message of each, as clients read them.

mod examples;
mod framework;
mod mapping;

use std::time::Duration;

use bytes::Bytes;
use poem::Response;
use poem::http::{self, HeaderValue, StatusCode, header};
use shared::domain::Invalid;

use super::models::{FieldProblem, Problem};
use crate::health::Reason;
use crate::json;

/// When to come back after 503.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(2);

/// When to come back where only the caller can make room.
const RETRY_ROOMS: Duration = Duration::from_mins(1);

/// Every way a call can fail.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The body is not what the operation accepts.
    #[error("{0}")]
    InvalidBody(String),
    /// Single fields are not valid.
    #[error("{}", .0.first().map_or("A field is not valid.", |invalid| invalid.message.as_str()))]
    InvalidFields(Vec<Invalid>),
    /// No token, or one that this installation did not sign.
    #[error("Send the token you got at login in the header Authorization.")]
    Unauthorized,
    /// The token's time is over.
    #[error("The token has expired: log in again.")]
    TokenExpired,
    /// The session was ended.
    #[error("The session was ended: log in again.")]
    SessionRevoked,
    /// E-mail or password is wrong; the answer does not say which one.
    #[error("The e-mail or the password is wrong.")]
    InvalidCredentials,
    /// The caller may not do this.
    #[error("You may not do this.")]
    Forbidden,
    /// There is no such room for the caller.
    #[error("There is no room named '{0}'.")]
    RoomNotFound(String),
    /// The repeated message was recorded in a room that is gone.
    #[error("This message was recorded in an earlier room of this name, which was deleted.")]
    RoomDeleted,
    /// Joining takes a call of its own, since the caller knew another room by this name.
    #[error("This is not the room of this name that you were in. Join it first: POST /chat/{0}/join.")]
    RoomReplaced(String),
    /// The name is reserved for the owner of a deleted room.
    #[error("This name belongs to the owner of a room that was deleted.")]
    RoomNameReserved,
    /// There is no such user.
    #[error("There is no user '{0}'.")]
    UserNotFound(String),
    /// A direct room would be with oneself.
    #[error("A direct room is for two: name somebody else.")]
    DirectWithOneself,
    /// There is no such message in the room.
    #[error("There is no such message in this room.")]
    MessageNotFound,
    /// The message is deleted.
    #[error("This message is deleted.")]
    MessageDeleted,
    /// The message is too old to be edited.
    #[error("This message is too old to be edited.")]
    EditWindowClosed,
    /// The message that is replied to is not in the room.
    #[error("The message that this replies to is not in this room, or was deleted.")]
    NoSuchReply,
    /// A user who is mentioned does not exist.
    #[error("There is no user '{0}' to be mentioned.")]
    NoSuchMention(String),
    /// The message has as many kinds of reactions as it may have.
    #[error(
        "This message has {} kinds of reactions already.",
        shared::domain::MessageExtra::MAX_REACTIONS
    )]
    TooManyReactions,
    /// There is no such path.
    #[error("There is nothing at this path.")]
    NotFound,
    /// The path does not allow this method.
    #[error("This path does not take this method.")]
    MethodNotAllowed,
    /// The body is not JSON by its content type.
    #[error("Send JSON, with the header Content-Type: application/json.")]
    UnsupportedMediaType,
    /// The body is compressed or encoded otherwise.
    #[error("Send the body as it is, without a Content-Encoding.")]
    EncodedBody,
    /// The body is too large.
    #[error("The body is larger than {} bytes.", super::MAX_BODY_BYTES)]
    PayloadTooLarge,
    /// The body did not come in time.
    #[error("The body did not come in time.")]
    BodyTimeout,
    /// Another user has this e-mail.
    #[error("This e-mail is taken.")]
    EmailTaken,
    /// Another user has this name.
    #[error("This username is taken.")]
    UsernameTaken,
    /// Another user has this public id.
    #[error("This public_id is taken.")]
    PublicIdTaken,
    /// There is a room of this name.
    #[error("There is a room of this name.")]
    RoomExists,
    /// The idempotency key was used for another message.
    #[error("This Idempotency-Key was used for another message.")]
    IdempotencyKeyReused,
    /// The caller does this too often.
    #[error("Too often: come back in {} s.", .0.as_secs().max(1))]
    RateLimited(Duration),
    /// Too many streams of one user or address.
    #[error("Too many streams are open: close one first.")]
    TooManyStreams,
    /// The caller owns as many rooms as allowed.
    #[error("You own as many rooms as one may: delete one first.")]
    TooManyRooms,
    /// Too many reads of one user wait.
    #[error("Too many reads of history wait, or too much was read: go on more slowly.")]
    TooManyReads,
    /// Searching all rooms of the caller takes too long.
    #[error("Searching all your rooms takes too long now: name a room.")]
    SearchTooSlow,
    /// Too many connections of one address. Only the server refuses for it, before there is a request.
    #[error("Too many connections are open from this address: close one first.")]
    TooManyConnections,
    /// Too many bytes of one client are under way.
    #[error("Too many bytes of requests and answers are under way: finish some first.")]
    TooMuchInFlight,
    /// The request is not what HTTP allows.
    #[error("{0}")]
    MalformedRequest(&'static str),
    /// The request line and the headers together are too large.
    #[error("The request line and the headers together are too large.")]
    HeadersTooLarge,
    /// The transfer coding of the body is unknown.
    #[error("Send the body as it is, or with Transfer-Encoding: chunked alone.")]
    UnknownTransferCoding,
    /// The service has as much of this to do as it may.
    #[error("The service is busy: come back soon.")]
    Busy,
    /// Something that the call needs is away; nothing was done.
    #[error("The service cannot do this now: come back soon.")]
    Unavailable,
    /// The service should get no calls now.
    #[error("Not ready: {}.", .0.iter().map(|reason| reason.name()).collect::<Vec<_>>().join(", "))]
    NotReady(Vec<Reason>),
    /// It may have been done or not.
    #[error("It is not known whether this was done: repeat it, a message with the same Idempotency-Key.")]
    OutcomeUnknown,
    /// A fault of ours.
    #[error("Something went wrong.")]
    Internal,
}

impl ApiError {
    /// Status and stable code.
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidBody(_) => (StatusCode::BAD_REQUEST, "invalid_body"),
            Self::InvalidFields(_) => (StatusCode::BAD_REQUEST, "invalid_field"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::TokenExpired => (StatusCode::UNAUTHORIZED, "token_expired"),
            Self::SessionRevoked => (StatusCode::UNAUTHORIZED, "session_revoked"),
            Self::InvalidCredentials => (StatusCode::UNAUTHORIZED, "invalid_credentials"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Self::RoomNotFound(_) => (StatusCode::NOT_FOUND, "room_not_found"),
            Self::RoomDeleted => (StatusCode::NOT_FOUND, "room_deleted"),
            Self::RoomReplaced(_) => (StatusCode::CONFLICT, "room_replaced"),
            Self::RoomNameReserved => (StatusCode::CONFLICT, "room_name_reserved"),
            Self::UserNotFound(_) => (StatusCode::NOT_FOUND, "user_not_found"),
            Self::DirectWithOneself => (StatusCode::UNPROCESSABLE_ENTITY, "direct_with_oneself"),
            Self::MessageNotFound => (StatusCode::NOT_FOUND, "message_not_found"),
            Self::MessageDeleted => (StatusCode::CONFLICT, "deleted"),
            Self::EditWindowClosed => (StatusCode::UNPROCESSABLE_ENTITY, "edit_window_closed"),
            Self::NoSuchReply => (StatusCode::UNPROCESSABLE_ENTITY, "no_such_reply"),
            Self::NoSuchMention(_) => (StatusCode::UNPROCESSABLE_ENTITY, "no_such_user"),
            Self::TooManyReactions => (StatusCode::UNPROCESSABLE_ENTITY, "too_many_reactions"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::EncodedBody => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding"),
            Self::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::EmailTaken => (StatusCode::CONFLICT, "email_taken"),
            Self::UsernameTaken => (StatusCode::CONFLICT, "username_taken"),
            Self::PublicIdTaken => (StatusCode::CONFLICT, "public_id_taken"),
            Self::RoomExists => (StatusCode::CONFLICT, "room_exists"),
            Self::IdempotencyKeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused"),
            Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::TooManyStreams => (StatusCode::TOO_MANY_REQUESTS, "too_many_streams"),
            Self::TooManyRooms => (StatusCode::TOO_MANY_REQUESTS, "too_many_rooms"),
            Self::TooManyReads => (StatusCode::TOO_MANY_REQUESTS, "too_many_reads"),
            Self::SearchTooSlow => (StatusCode::SERVICE_UNAVAILABLE, "search_too_slow"),
            Self::TooManyConnections => (StatusCode::TOO_MANY_REQUESTS, "too_many_connections"),
            Self::TooMuchInFlight => (StatusCode::TOO_MANY_REQUESTS, "too_much_in_flight"),
            Self::MalformedRequest(_) => (StatusCode::BAD_REQUEST, "malformed_request"),
            Self::HeadersTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large"),
            Self::UnknownTransferCoding => (StatusCode::NOT_IMPLEMENTED, "unknown_transfer_coding"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
            Self::OutcomeUnknown => (StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// The body of the answer to the request named `request_id`.
    pub(super) fn problem(&self, request_id: &str) -> Problem {
        Problem {
            status: "fail".to_owned(),
            code: self.code().to_owned(),
            message: self.to_string(),
            request_id: request_id.to_owned(),
            errors: self.fields(),
            reasons: self.reasons(),
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.kind().1
    }

    /// The response to the request named `request_id`.
    #[must_use]
    pub fn response(&self, request_id: &str) -> Response {
        let (parts, body) = self.answer(request_id).into_parts();
        let mut response = Response::from((parts.status, body));
        *response.headers_mut() = parts.headers;
        response
    }

    /// The response as the server sends it too, without the framework.
    pub(super) fn answer(&self, request_id: &str) -> http::Response<Bytes> {
        let (status, _) = self.kind();
        let mut response = http::Response::new(json::to_vec(&self.problem(request_id)).into());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(json::CONTENT_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"roomcast\""));
        }
        if matches!(self, Self::EncodedBody) {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(after) = self.retry_after() {
            // Whole seconds, and never earlier than it is worth it.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited(after) => Some(*after),
            Self::TooManyRooms => Some(RETRY_ROOMS),
            Self::TooManyStreams
            | Self::TooManyReads
            | Self::SearchTooSlow
            | Self::TooManyConnections
            | Self::TooMuchInFlight
            | Self::Busy
            | Self::Unavailable
            | Self::NotReady(_)
            | Self::OutcomeUnknown => Some(RETRY_UNAVAILABLE),
            Self::InvalidBody(_)
            | Self::InvalidFields(_)
            | Self::Unauthorized
            | Self::TokenExpired
            | Self::SessionRevoked
            | Self::InvalidCredentials
            | Self::Forbidden
            | Self::RoomNotFound(_)
            | Self::RoomDeleted
            | Self::RoomReplaced(_)
            | Self::RoomNameReserved
            | Self::UserNotFound(_)
            | Self::DirectWithOneself
            | Self::MessageNotFound
            | Self::MessageDeleted
            | Self::EditWindowClosed
            | Self::NoSuchReply
            | Self::NoSuchMention(_)
            | Self::TooManyReactions
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::UnsupportedMediaType
            | Self::EncodedBody
            | Self::PayloadTooLarge
            | Self::BodyTimeout
            | Self::EmailTaken
            | Self::UsernameTaken
            | Self::PublicIdTaken
            | Self::RoomExists
            | Self::IdempotencyKeyReused
            | Self::MalformedRequest(_)
            | Self::HeadersTooLarge
            | Self::UnknownTransferCoding
            | Self::Internal => None,
        }
    }

    fn reasons(&self) -> Option<Vec<String>> {
        let Self::NotReady(reasons) = self else {
            return None;
        };
        Some(reasons.iter().map(|reason| reason.name().to_owned()).collect())
    }

    fn fields(&self) -> Option<Vec<FieldProblem>> {
        let Self::InvalidFields(invalid) = self else {
            return None;
        };
        let problem = |invalid: &Invalid| FieldProblem {
            field: invalid.field.clone().into_owned(),
            code: invalid.code.to_owned(),
            message: invalid.message.clone(),
        };
        Some(invalid.iter().map(problem).collect())
    }
}
