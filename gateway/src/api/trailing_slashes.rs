//! Every path works with and without a slash at its end.

use std::sync::Arc;

use poem::middleware::{NormalizePath, NormalizePathEndpoint, TrailingSlash};
use poem::{Endpoint, Middleware as _, Request, Response};

/// Hands requests on with their slashes in order.
///
/// The framework's own middleware builds every path anew, which costs as much as all routing; here only those go through it
/// that need it.
pub(super) struct TrailingSlashes<E> {
    plain: Arc<E>,
    tidying: NormalizePathEndpoint<Arc<E>>,
}

impl<E: Endpoint<Output = Response>> TrailingSlashes<E> {
    /// Puts itself around `endpoint`, which knows paths without a slash at the end.
    pub(super) fn around(endpoint: E) -> Self {
        let plain = Arc::new(endpoint);
        Self {
            tidying: NormalizePath::new(TrailingSlash::Trim).transform(Arc::clone(&plain)),
            plain,
        }
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for TrailingSlashes<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let path = request.uri().path();
        if path.ends_with('/') || path.contains("//") {
            // Boxed: else the place for both calls is moved about with every request.
            Box::pin(self.tidying.call(request)).await
        } else {
            self.plain.call(request).await
        }
    }
}
