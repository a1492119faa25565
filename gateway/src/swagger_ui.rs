//! The Swagger UI page at `/`, its files under `/docs/`, and the OpenAPI document at `/openapi.json`.
//!
//! Everything is in the binary and compressed before the first request, so the page works offline
//! and an answer costs no copy. This module does not know the content of the document; only the page's
//! script knows the names of three calls and of the security scheme.

use std::{collections::HashMap, sync::OnceLock};

use bytes::Bytes;
use flate2::Compression;
use poem::{
    Endpoint, IntoEndpoint, IntoResponse, Request, Response, Result, RouteMethod, get,
    http::{StatusCode, header},
    web::headers::{ETag, HeaderMapExt, IfNoneMatch},
};
use sha2::{Digest, Sha256};

use crate::encoding::{accepts_gzip, pack, unpack};

/// The page runs only what this server sends. Swagger UI sets style attributes and draws its icons from `data:` addresses.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// For files whose address changes with their content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// For fixed addresses: cached, but validated each time, which an ETag answers in one empty response.
const REVALIDATE: &str = "no-cache";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// A file that `build.rs` compressed: name, media type, content.
macro_rules! packed {
    ($name:literal, $content_type:expr) => {
        (
            $name,
            $content_type,
            Bytes::from_static(include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz"))),
        )
    };
}

/// The page and its files, answered before the API is asked.
///
/// Not routes beside a nested API: in poem's router a catch-all wins over an exact `/`, which would
/// then be a 404.
pub(crate) struct Docs<A> {
    files: HashMap<String, RouteMethod>,
    api: A,
}

impl<A: Endpoint> Docs<A> {
    /// Serves the page at `/` and `document` at `/openapi.json`; every other path goes to `api`.
    pub(crate) fn in_front_of(api: impl IntoEndpoint<Endpoint = A>, document: &str) -> Self {
        let assets = [
            ("start.js", JAVASCRIPT, pack(include_str!("swagger_ui/start.js").as_bytes(), Compression::best())),
            packed!("swagger-ui-bundle.js", JAVASCRIPT),
            packed!("swagger-ui.css", "text/css; charset=utf-8"),
            packed!("favicon-32x32.png", "image/png"),
        ];
        // With the version alone, an edited start.js would stay in browsers for a year.
        let mut digest = Sha256::new();
        for (_, _, gzip) in &assets {
            digest.update(gzip);
        }
        let version = env!("SWAGGER_UI_VERSION");
        let directory = format!("docs/{version}-{}", short(&digest.finalize()));
        let page = include_str!("swagger_ui/index.html").replace("{directory}", &directory);

        let mut page =
            StaticFile::new("text/html; charset=utf-8", REVALIDATE, pack(page.as_bytes(), Compression::best()));
        page.is_page = true;
        let document = StaticFile::new("application/json", REVALIDATE, pack(document.as_bytes(), Compression::best()));
        let mut files = HashMap::from([("/".to_owned(), get(page)), ("/openapi.json".to_owned(), get(document))]);
        for (name, content_type, gzip) in assets {
            let file = StaticFile::new(content_type, IMMUTABLE, gzip);
            files.insert(format!("/{directory}/{name}"), get(file));
        }
        let api = api.into_endpoint();
        Self { files, api }
    }
}

impl<A: Endpoint> Endpoint for Docs<A> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        match self.files.get(request.uri().path()) {
            Some(file) => file.call(request).await,
            None => Ok(self.api.call(request).await?.into_response()),
        }
    }
}

/// One file in memory, kept compressed.
struct StaticFile {
    content_type: &'static str,
    cache_control: &'static str,
    is_page: bool,
    etag: ETag,
    gzip: Bytes,
    /// Unpacked for the first client that does not accept gzip, which nearly every client does.
    plain: OnceLock<Bytes>,
}

impl StaticFile {
    fn new(content_type: &'static str, cache_control: &'static str, gzip: Bytes) -> Self {
        // Weak, because the compressed and the plain form share it.
        let etag = format!("W/\"{}\"", short(&Sha256::digest(&gzip)));
        let etag = etag.parse().expect("hexadecimal digits between quotes are an entity tag");
        Self {
            content_type,
            cache_control,
            is_page: false,
            etag,
            gzip,
            plain: OnceLock::new(),
        }
    }
}

impl Endpoint for StaticFile {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let mut response = Response::builder()
            .header(header::CACHE_CONTROL, self.cache_control)
            .header(header::VARY, "Accept-Encoding")
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .header(header::REFERRER_POLICY, "no-referrer")
            .typed_header(self.etag.clone());
        if self.is_page {
            response = response
                .header(header::CONTENT_SECURITY_POLICY, PAGE_POLICY)
                .header(header::X_FRAME_OPTIONS, "DENY");
        }
        let known = request.headers().typed_get::<IfNoneMatch>();
        if known.is_some_and(|known| !known.precondition_passes(&self.etag)) {
            return Ok(response.status(StatusCode::NOT_MODIFIED).finish());
        }
        let body = if accepts_gzip(request.headers()) {
            response = response.header(header::CONTENT_ENCODING, "gzip");
            &self.gzip
        } else {
            self.plain.get_or_init(|| unpack(&self.gzip))
        };
        // Set explicitly, because a HEAD answer has no body to count.
        response = response.header(header::CONTENT_LENGTH, body.len());
        Ok(response.content_type(self.content_type).body(body.clone()))
    }
}

/// The first 64 bits of a digest in hexadecimal: enough to tell our own files apart.
fn short(digest: &[u8]) -> String {
    let start = digest.first_chunk().expect("SHA-256 has 32 bytes");
    format!("{:016x}", u64::from_be_bytes(*start))
}

#[cfg(test)]
mod tests;
