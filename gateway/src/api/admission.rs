//! Admission of requests: refuses what HTTP does not allow, and what the byte budgets have no room for.

use std::sync::Arc;

use poem::Request;
use poem::http::uri::Authority;
use poem::http::{HeaderMap, HeaderName, HeaderValue, Version, header};

use super::MAX_BODY_BYTES;
use super::error::ApiError;
use crate::server::RequestBudget;

/// Refuses a request that two readers could understand in two ways, and one for whose headers there is no room.
pub(super) fn check(request: &Request) -> Result<(), ApiError> {
    if let Some(excess) = request.extensions().get::<Arc<RequestBudget>>().and_then(|budget| budget.refused()) {
        return Err(excess.into());
    }
    let headers = request.headers();
    check_host(headers.get_all(header::HOST).iter(), request.version())?;
    for (name, problem) in &ONCE {
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(ApiError::MalformedRequest(problem));
        }
    }
    check_coding(headers)
}

/// Headers of which two would leave open which one counts.
static ONCE: [(HeaderName, &str); 5] = [
    (header::AUTHORIZATION, "Send one header Authorization."),
    (header::ORIGIN, "Send one header Origin."),
    (header::TRANSFER_ENCODING, "Send one header Transfer-Encoding."),
    (IDEMPOTENCY_KEY, "Send one header Idempotency-Key."),
    (LAST_EVENT_ID, "Send one header Last-Event-ID."),
];

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// RFC 9112, section 3.2. Over HTTP/2 `:authority` replaces the header, and HTTP/1.0 did not know it.
fn check_host<'a>(mut hosts: impl Iterator<Item = &'a HeaderValue>, version: Version) -> Result<(), ApiError> {
    match (hosts.next(), hosts.next()) {
        (None, _) if version != Version::HTTP_11 => Ok(()),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err(ApiError::MalformedRequest("Host is no name or address with an optional port.")),
        _ => Err(ApiError::MalformedRequest("Send one header Host.")),
    }
}

/// Whether `host` can be that of a URI without a user name. It may be empty, and so may its port.
fn is_host(host: &[u8]) -> bool {
    let has_port = |authority: &Authority| authority.port_u16().is_some() || authority.as_str().ends_with(':');
    let names = |authority: Authority| authority.host() == authority.as_str() || has_port(&authority);
    host.is_empty() || (!host.contains(&b'@') && Authority::try_from(host).is_ok_and(names))
}

/// RFC 9112, section 6.1: a server answers a transfer coding that it does not know with 501.
fn check_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_known = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    headers
        .get(header::TRANSFER_ENCODING)
        .is_none_or(is_known)
        .then_some(())
        .ok_or(ApiError::UnknownTransferCoding)
}

/// Charges the pieces of a request's body.
pub(super) struct BodyBudget(Option<Arc<RequestBudget>>);

impl BodyBudget {
    /// The budget of `request`. Before any of its body is read there must be room for the length that it announces.
    pub(super) fn of(request: &Request) -> Result<Self, ApiError> {
        let budget = Self(request.extensions().get().cloned());
        let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let length: usize = length.unwrap_or(0);
        if length > MAX_BODY_BYTES {
            return Err(ApiError::PayloadTooLarge);
        }
        budget.0.as_ref().map_or(Ok(()), |budget| budget.check_room(length))?;
        Ok(budget)
    }

    /// Charges `bytes` more.
    pub(super) fn charge(&self, bytes: usize) -> Result<(), ApiError> {
        self.0.as_ref().map_or(Ok(()), |budget| budget.charge(bytes)).map_err(ApiError::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(request: poem::RequestBuilder) -> Result<(), &'static str> {
        check(&request.finish()).map_err(|problem| problem.code())
    }

    #[test]
    fn ambiguous_heads_and_unknown_codings_are_refused() {
        let request = || Request::builder().header("host", "chat");
        assert_eq!(checked(request()), Ok(()));
        assert_eq!(checked(Request::builder()), Err("malformed_request"));
        assert_eq!(checked(Request::builder().version(Version::HTTP_10)), Ok(()));
        assert_eq!(checked(Request::builder().version(Version::HTTP_2)), Ok(()));
        let twice = |name: &str| request().header(name, "a").header(name, "a");
        assert_eq!(checked(twice("host")), Err("malformed_request"));
        for (name, _) in &ONCE {
            assert_eq!(checked(twice(name.as_str())), Err("malformed_request"), "{name}");
        }
        for host in [
            "chat.example:8080",
            "[::1]:5000",
            "10.0.0.1",
            "xn--mnchen-3ya.example",
            "chat:",
            "",
        ] {
            assert_eq!(checked(Request::builder().header("host", host)), Ok(()), "{host}");
        }
        for host in ["a b", "chat/@#", "user@chat", "chat?x", "chat:abc", "chat:99999"] {
            assert_eq!(checked(Request::builder().header("host", host)), Err("malformed_request"), "{host}");
        }
        assert_eq!(checked(request().header("transfer-encoding", "Chunked")), Ok(()));
        assert_eq!(checked(request().header("transfer-encoding", "gzip, chunked")), Err("unknown_transfer_coding"));
    }
}
