//! The outermost endpoint: checks every request before a handler gets it, and finishes every answer.
//!
//! Every answer is made here: whatever goes wrong inside, a panic included, leaves in the one error shape with a request id.
//! What depends on the client alone is added last, to every answer alike: `304` for a copy that is still good, compression,
//! and the headers that let its browser show it to a page.

mod read_preferences;
mod request_body;

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, FromRequest, IntoResponse as _, Request, RequestBody, Response};
use poem_openapi::OperationId;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};
use uuid::Uuid;

use self::read_preferences::ReadPreferences;
use self::request_body::read_body;
use super::admission;
use super::cors::Cors;
use super::documented_paths::DocumentedPaths;
use super::error::ApiError;

/// How long a handler may take to begin its answer.
const HANDLER_TIME: Duration = Duration::from_secs(10);

/// How long a call may take that is promised a quick answer, from the end of its body: a post, and authentication.
const PROMPT_TIME: Duration = Duration::from_millis(4_500);

/// When a request was complete; handlers find it among its data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived(Instant);

impl Arrived {
    /// Until when a quick answer must be given.
    pub(super) fn prompt_deadline(self) -> tokio::time::Instant {
        (self.0 + PROMPT_TIME).into()
    }
}

/// Whether only the headers of the answer are wanted: HEAD, which the framework routes like GET. It must have none of the
/// effects that GET has beside its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct IsHeadRequest(pub(super) bool);

impl<'a> FromRequest<'a> for IsHeadRequest {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(request.extensions().get().copied().unwrap_or(Self(false)))
    }
}

/// Requests that handlers work on at once, open streams not counted; one more is refused as busy. It bounds what piles up
/// while something hangs that all of them wait for, at some 20 KiB each. Posts, which are the most, have a lower bound of
/// their own, so that they leave room for reading.
const REQUESTS_AT_ONCE: usize = 8_192;

/// Longest request id that is adopted from a client, in characters.
const MAX_REQUEST_ID: usize = 64;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost endpoint.
pub struct Edge<E> {
    inner: E,
    paths: DocumentedPaths,
    cors: Cors,
    permits: Semaphore,
}

impl<E> Edge<E> {
    /// Wraps `inner`, which serves what `document` describes, also to pages of the origins that `cors` lists.
    #[must_use]
    pub fn new(inner: E, document: &str, cors: Cors) -> Self {
        Self {
            inner,
            cors,
            paths: DocumentedPaths::of(document),
            permits: Semaphore::new(REQUESTS_AT_ONCE),
        }
    }
}

impl<E: Endpoint> Endpoint for Edge<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let began = Instant::now();
        make_readable(request.headers_mut());
        let request_id = request_id(request.headers());
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let asked = self.cors.asked(&method, request.headers());
        let preferences = ReadPreferences::of(&method, request.headers());
        let mut response = match admission::check(&request) {
            Err(problem) => refuse_and_close(&problem, &request_id),
            Ok(()) if method == Method::OPTIONS => {
                StatusCode::NO_CONTENT.with_header(header::ALLOW, self.paths.allowed_at(&path)).into_response()
            }
            Ok(()) => self.respond(request, &path, &request_id).await,
        };
        if let Some(preferences) = preferences {
            response = preferences.apply(response).await;
        }
        if method == Method::HEAD {
            // Refusals have a body, and hyper would send it over HTTP/2, which breaks the request.
            response.set_body(());
        }
        finish(response.headers_mut(), &request_id);
        self.cors.finish(asked, response.headers_mut());
        log(&method, &response, &request_id, began.elapsed());
        Ok(response)
    }
}

impl<E: Endpoint> Edge<E> {
    async fn respond(&self, mut request: Request, path: &str, request_id: &str) -> Response {
        match read_body(&mut request).await {
            Ok(body) => {
                request.set_body(body);
                let is_head_request = IsHeadRequest(request.method() == Method::HEAD);
                request.extensions_mut().insert(is_head_request);
                request.extensions_mut().insert(Arrived(Instant::now()));
                self.answer(request, path).await.unwrap_or_else(|problem| self.refuse(&problem, path, request_id))
            }
            Err(problem) => refuse_and_close(&problem, request_id),
        }
    }

    fn refuse(&self, problem: &ApiError, path: &str, request_id: &str) -> Response {
        let mut response = problem.response(request_id);
        if matches!(problem, ApiError::MethodNotAllowed) {
            response.headers_mut().insert(header::ALLOW, self.paths.allowed_at(path));
        }
        response
    }

    async fn answer(&self, request: Request, path: &str) -> Result<Response, ApiError> {
        let _permit = self.permits.try_acquire().map_err(|_| ApiError::Busy)?;
        let handled = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        match timeout(HANDLER_TIME, handled).await {
            Ok(Ok(Ok(output))) => Ok(output.into_response()),
            Ok(Ok(Err(failure))) => Err(match failure.downcast::<ApiError>() {
                Ok(problem) => problem,
                Err(failure) => ApiError::from_poem(&failure, |index| self.paths.parameter_at(path, index)),
            }),
            // The panic hook has logged it.
            Ok(Err(_)) => Err(ApiError::Internal),
            Err(_) => Err(ApiError::Unavailable),
        }
    }
}

/// The answer to a request whose body was not read. The rest of the body is still to come, so the server closes the connection,
/// and says so: otherwise the client would send its next request into the closing connection.
fn refuse_and_close(problem: &ApiError, request_id: &str) -> Response {
    let mut response = problem.response(request_id);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Replaces header values that are not visible ASCII by one that no parser of them accepts.
///
/// The framework treats such a header as absent. With an `Idempotency-Key` that is ignored a retry would post a second
/// message, and with such a `Last-Event-ID` a stream would skip what the client wanted to have.
fn make_readable(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        if value.to_str().is_err() {
            *value = HeaderValue::from_static("(not ASCII)");
        }
    }
}

/// The client's own id of the request if it is harmless in a log line, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let harmless = |id: &&str| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    given.filter(harmless).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// Headers that every answer has.
pub(super) fn finish(headers: &mut HeaderMap, request_id: &str) {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// One line a request, by operation: paths hold names of rooms and users, and queries may hold anything.
fn log(method: &Method, response: &Response, request_id: &str, took: Duration) {
    let status = response.status();
    let operation = response.data::<OperationId>().map_or("none", |operation| operation.0);
    let duration_ms = took.as_millis();
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        warn!(request.id = request_id, http.method = %method, http.operation = operation, http.status = status.as_u16(), duration_ms, "{method} {operation} {status}");
    } else {
        debug!(request.id = request_id, http.method = %method, http.operation = operation, http.status = status.as_u16(), duration_ms, "{method} {operation} {status}");
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::{IdempotencyKey, StreamCursor};

    use super::*;

    #[tokio::test]
    async fn a_request_beyond_the_limit_is_refused_as_busy() {
        let hanging = poem::endpoint::make(|_| std::future::pending::<poem::Result<Response>>());
        let edge = Edge::new(hanging, "{}", Cors::default());
        let request = || Request::builder().header("host", "chat").finish();
        let mut waiting: Vec<_> = (0..REQUESTS_AT_ONCE).map(|_| Box::pin(edge.call(request()))).collect();
        for request in &mut waiting {
            assert!(request.now_or_never().is_none());
        }
        let refused = edge.call(request()).await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        waiting.pop();
        assert!(edge.call(request()).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_panic_is_answered_with_internal_and_cors_headers() {
        let panics = poem::endpoint::make(|_| async { panic!("on purpose") as poem::Result<Response> });
        let edge = Edge::new(panics, "{}", Cors::new(&["https://chat.example.org".to_owned()]));
        for origin in [None, Some("https://chat.example.org"), Some("https://evil.example.org")] {
            let request = Request::builder().header(header::HOST, "chat");
            let request = origin.into_iter().fold(request, |request, origin| request.header(header::ORIGIN, origin));
            let answer = edge.call(request.finish()).await.unwrap();
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(answer.headers()[header::VARY], "Origin");
            let allowed = answer.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(allowed, origin == Some("https://chat.example.org"), "{origin:?}");
            let body = answer.into_body().into_string().await.unwrap();
            assert!(body.contains(r#""code":"internal""#) && !body.contains("on purpose"), "{body}");
        }
    }

    #[test]
    fn an_unreadable_header_is_invalid_and_not_absent() {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", HeaderValue::from_bytes("ä".as_bytes()).unwrap());
        headers.insert("accept", HeaderValue::from_static("*/*"));
        make_readable(&mut headers);
        let value = headers["idempotency-key"].to_str().unwrap();
        assert!(IdempotencyKey::parse(value).is_err());
        assert!(StreamCursor::parse(value).is_err());
        assert_eq!(headers["accept"], "*/*");
    }
}
