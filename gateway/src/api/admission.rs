//! Whether a request may be worked on: that it is what HTTP allows, and that there is room for it in memory.

use std::sync::Arc;

use poem::Request;
use poem::http::{HeaderMap, Version, header};

use super::MAX_BODY_BYTES;
use super::error::ApiError;
use crate::server::RequestBudget;

/// Refuses a request that two readers could understand in two ways, and one for whose head there is no room.
pub(super) fn check(request: &Request) -> Result<(), ApiError> {
    if let Some(excess) = request.extensions().get::<Arc<RequestBudget>>().and_then(|budget| budget.refused()) {
        return Err(excess.into());
    }
    let headers = request.headers();
    // RFC 9112, section 3.2. Over HTTP/2 `:authority` stands for it, and HTTP/1.0 did not know it.
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Err(ApiError::MalformedRequest("Send one header Host."));
    }
    if headers.get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
        return Err(ApiError::MalformedRequest("Send one header Authorization."));
    }
    check_coding(headers)
}

/// RFC 9112, section 6.1: whoever does not know a transfer coding answers with 501.
fn check_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_known = codings.all(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    is_known.then_some(()).ok_or(ApiError::UnknownTransferCoding)
}

/// What takes the pieces of a request's body in hand.
pub(super) struct BodyBudget(Option<Arc<RequestBudget>>);

impl BodyBudget {
    /// The budget of `request`, from which the length that its body is said to have is taken before any of it is read.
    pub(super) fn of(request: &Request) -> Result<(Self, usize), ApiError> {
        let budget = Self(request.extensions().get().cloned());
        let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let length: usize = length.unwrap_or(0);
        if length > MAX_BODY_BYTES {
            return Err(ApiError::PayloadTooLarge);
        }
        budget.grow(length)?;
        Ok((budget, length))
    }

    /// Takes `bytes` more in hand.
    pub(super) fn grow(&self, bytes: usize) -> Result<(), ApiError> {
        self.0.as_ref().map_or(Ok(()), |budget| budget.grow(bytes)).map_err(ApiError::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(request: poem::RequestBuilder) -> Result<(), &'static str> {
        check(&request.finish()).map_err(|problem| problem.code())
    }

    #[test]
    fn a_request_names_one_host_one_caller_and_no_strange_coding() {
        let request = || Request::builder().header("host", "chat");
        assert_eq!(checked(request()), Ok(()));
        assert_eq!(checked(Request::builder()), Err("malformed_request"));
        assert_eq!(checked(Request::builder().version(Version::HTTP_10)), Ok(()));
        assert_eq!(checked(Request::builder().version(Version::HTTP_2)), Ok(()));
        let twice = |name: &str| request().header(name, "a").header(name, "a");
        assert_eq!(checked(twice("host")), Err("malformed_request"));
        assert_eq!(checked(twice("authorization")), Err("malformed_request"));
        assert_eq!(checked(request().header("transfer-encoding", "Chunked")), Ok(()));
        assert_eq!(checked(request().header("transfer-encoding", "gzip, chunked")), Err("unknown_transfer_coding"));
    }
}
