//! Preferences of clients that read: which copies they have, and whether they accept gzip.

use poem::Response;
use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::web::headers::{ETag, HeaderMapExt as _, IfNoneMatch};

use crate::encoding::{accepts_gzip, compress, is_compressible};

/// The copies that a reading client has, and the encodings that it accepts.
pub(super) struct ReadPreferences {
    /// The copies it has.
    known: Option<IfNoneMatch>,
    accepts_gzip: bool,
}

impl ReadPreferences {
    /// `None` for calls that do not read.
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Option<Self> {
        (method == Method::GET || method == Method::HEAD).then(|| Self {
            known: headers.typed_get(),
            // A client that wants the headers alone gets those of the plain form.
            accepts_gzip: method == Method::GET && accepts_gzip(headers),
        })
    }

    /// Turns an answer into the form that the client prefers.
    pub(super) async fn apply(self, mut response: Response) -> Response {
        if let (Some(known), Some(tag)) = (self.known, response.headers().typed_get::<ETag>())
            && response.status() == StatusCode::OK
            && !known.precondition_passes(&tag)
        {
            response.set_status(StatusCode::NOT_MODIFIED);
            response.set_body(());
            response.headers_mut().remove(header::CONTENT_TYPE);
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        if is_compressible(&response) {
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            if self.accepts_gzip {
                // Boxed: otherwise every request moves the memory for it about.
                return Box::pin(compress(response)).await;
            }
        }
        response
    }
}
