//! Errors of the framework as errors of the API, and what the framework needs to know of them.

use poem::error::ResponseError;
use poem::http::StatusCode;
use poem_openapi::registry::{MetaResponses, Registry};
use poem_openapi::{ApiResponse, error as framework};
use shared::domain::Invalid;
use tracing::error;

use super::ApiError;

impl ApiError {
    /// The error for a failure of the framework.
    #[must_use]
    pub fn from_poem(failure: &poem::Error) -> Self {
        if let Some(invalid) = failure.downcast_ref::<framework::ParseParamError>() {
            return Invalid::new(invalid.name, "invalid", expectation(&invalid.reason)).into();
        }
        if let Some(invalid) = failure.downcast_ref::<framework::ParsePathError>() {
            return Invalid::new(invalid.name, "invalid", expectation(&invalid.reason)).into();
        }
        match failure.status() {
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Self::PayloadTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            status if status.is_client_error() => Self::InvalidBody("The request cannot be read.".to_owned()),
            status => {
                error!(error = %failure, "a request failed with {status}: {failure}");
                Self::Internal
            }
        }
    }
}

/// What a parameter must be, by the reason for which the framework refused it; the framework's own text names Rust types.
fn expectation(reason: &str) -> &'static str {
    if reason.contains("expects an input value") {
        "Is needed."
    } else if reason.contains("\"integer") {
        "Must be a whole number."
    } else if reason.contains("uuid") {
        "Must be a UUID."
    } else {
        "Must be UTF-8, percent-encoded."
    }
}

impl ResponseError for ApiError {
    fn status(&self) -> StatusCode {
        self.kind().0
    }
}

/// The document lists the errors of each operation by a table, see [`mod@crate::api::document`].
impl ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        MetaResponses { responses: Vec::new() }
    }

    fn register(_registry: &mut Registry) {}
}
