//! Refusals of the server in the form of the API: for clients whose request does not reach the endpoint, and in place of
//! answers beyond a byte budget. They have the same form and headers as all other answers.

use bytes::Bytes;
use poem::http::{HeaderMap, Response};
use uuid::Uuid;

use super::cors::Cors;
use super::edge::{REQUEST_ID, finish};
use super::error::ApiError;
use crate::server::{Refusal, RefusalRenderer};

/// Renders refusals.
pub struct RefusalResponses {
    cors: Cors,
}

impl RefusalResponses {
    /// Renders refusals also for pages of the origins that `cors` lists.
    #[must_use]
    pub fn new(cors: Cors) -> Self {
        Self { cors }
    }
}

impl RefusalRenderer for RefusalResponses {
    fn for_unparsed(&self, refusal: Refusal, beginning: &[u8]) -> Response<Bytes> {
        let request_id = Uuid::now_v7().to_string();
        let mut answer = ApiError::from(refusal).answer(&request_id);
        finish(answer.headers_mut(), &request_id);
        self.cors.finish(self.cors.asked_in(beginning), answer.headers_mut());
        answer
    }

    fn instead_of(&self, refusal: Refusal, headers: &HeaderMap) -> Response<Bytes> {
        let request_id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        let mut answer = ApiError::from(refusal).answer(request_id);
        finish(answer.headers_mut(), request_id);
        answer
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy => Self::Busy,
            Refusal::TooManyConnections => Self::TooManyConnections,
            Refusal::TooMuchInFlight => Self::TooMuchInFlight,
            Refusal::MalformedRequest => Self::MalformedRequest("The request line or a header is not valid HTTP."),
            Refusal::HeadersTooLarge => Self::HeadersTooLarge,
        }
    }
}
