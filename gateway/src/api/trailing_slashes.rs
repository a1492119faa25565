//! Trailing slashes: every path works with and without a slash at its end.

use std::sync::Arc;

use poem::middleware::{NormalizePath, NormalizePathEndpoint, TrailingSlash};
use poem::{Endpoint, Middleware as _, Request, Response};

/// Passes requests on with normalized slashes.
///
/// The framework's own middleware builds every path anew, which costs as much as all routing; here only those paths go through
/// it that need it.
pub(super) struct TrailingSlashes<E> {
    plain: Arc<E>,
    normalizing: NormalizePathEndpoint<Arc<E>>,
}

impl<E: Endpoint<Output = Response>> TrailingSlashes<E> {
    /// Wraps `endpoint`, which knows paths without a slash at the end.
    pub(super) fn around(endpoint: E) -> Self {
        let plain = Arc::new(endpoint);
        Self {
            normalizing: NormalizePath::new(TrailingSlash::Trim).transform(Arc::clone(&plain)),
            plain,
        }
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for TrailingSlashes<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let path = request.uri().path();
        if path.ends_with('/') || path.contains("//") {
            // Boxed: otherwise every request moves the memory for both calls about.
            Box::pin(self.normalizing.call(request)).await
        } else {
            self.plain.call(request).await
        }
    }
}
