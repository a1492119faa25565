//! Errors of the framework as errors of the API, and what the framework needs to know of them.

use std::borrow::Cow;

use poem::error::ResponseError;
use poem::http::StatusCode;
use poem_openapi::registry::{MetaResponses, Registry};
use poem_openapi::{ApiResponse, error as framework};
use shared::domain::Invalid;
use tracing::error;

use super::ApiError;

impl ApiError {
    /// The error for a failure of the framework. The framework numbers the parameters of a path from 0, and `parameter_at` knows what the
    /// document calls them.
    #[must_use]
    pub fn from_poem<'a>(failure: &poem::Error, parameter_at: impl FnOnce(usize) -> Option<&'a str>) -> Self {
        if let Some(invalid) = failure.downcast_ref::<framework::ParseParamError>() {
            return Invalid::new(invalid.name, "invalid", expectation(&invalid.reason)).into();
        }
        if let Some(invalid) = failure.downcast_ref::<framework::ParsePathError>() {
            let index = invalid.name.strip_prefix("param").and_then(|index| index.parse().ok());
            let name = index.and_then(parameter_at).map_or(Cow::Borrowed(invalid.name), |name| name.to_owned().into());
            return Invalid::new(name, "invalid", expectation_in_path(&invalid.reason)).into();
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
    if is_absent(reason) {
        "Is needed."
    } else if reason.contains("\"integer") {
        "Must be a whole number."
    } else if reason.contains("uuid") {
        "Must be a UUID."
    } else {
        ENCODING
    }
}

/// The same of a parameter of the path, which is there: the framework takes one that it cannot decode for absent.
fn expectation_in_path(reason: &str) -> &'static str {
    if is_absent(reason) {
        ENCODING
    } else {
        expectation(reason)
    }
}

/// What every parameter must be.
const ENCODING: &str = "Must be UTF-8, percent-encoded.";

fn is_absent(reason: &str) -> bool {
    reason.contains("expects an input value")
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
