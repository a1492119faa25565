//! CORS: which pages of other origins may read our answers (Fetch, section 3.2).
//!
//! Answers differ in these headers alone. A call of a foreign origin is answered like any other, without them: its browser
//! keeps the answer from the page and says why. To refuse it would protect nothing, since a page can send a token only
//! after a preflight that names its origin, and it would exclude programs that send an `Origin` of their own.

use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// Methods that pages may call.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// Headers that pages may send in addition to those that every page may: our own, those of polyfills for event streams, and
/// those that tracing adds to every call.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, cache-control, pragma, last-event-id, idempotency-key, if-none-match, \
     x-requested-with, x-request-id, x-csrf, x-session, traceparent, tracestate, baggage, sentry-trace, b3",
);

/// Headers that pages may read in addition to those that every page may.
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "message-id, message-seq, location, link, etag, x-first-seq, x-last-seq, last-event-id, x-request-id, retry-after, \
     www-authenticate, allow",
);

/// Seconds for which a browser caches the answer to a preflight: the longest that any browser does.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("7200");

/// The origins whose pages may read.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    listed: Vec<HeaderValue>,
}

/// What a request says about its origin.
#[derive(Debug, Default)]
pub struct Asked {
    /// The origin, if it is a listed one.
    origin: Option<HeaderValue>,
    is_preflight: bool,
}

impl Cors {
    /// Creates the rules for pages of `origins`, spelled as browsers spell them.
    #[must_use]
    pub fn new(origins: &[String]) -> Self {
        Self {
            listed: origins.iter().filter_map(|origin| origin.parse().ok()).collect(),
        }
    }

    /// Reads the headers of a request.
    #[must_use]
    pub fn asked(&self, method: &Method, headers: &HeaderMap) -> Asked {
        let origin = headers.get(header::ORIGIN).filter(|origin| self.listed.contains(origin));
        Asked {
            origin: origin.cloned(),
            is_preflight: method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD),
        }
    }

    /// Adds to the headers of an answer what the client's browser needs.
    pub fn finish(&self, asked: Asked, headers: &mut HeaderMap) {
        if self.listed.is_empty() {
            return;
        }
        // Also for requests without an origin: a cache must not give the answer for one origin to another.
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = asked.origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if asked.is_preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
        } else {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
        }
    }

    /// Reads the `beginning` of a request that is not parsed.
    #[must_use]
    pub fn asked_in(&self, beginning: &[u8]) -> Asked {
        Asked {
            origin: self.listed_in(beginning).cloned(),
            is_preflight: false,
        }
    }

    fn listed_in(&self, beginning: &[u8]) -> Option<&HeaderValue> {
        let lines = beginning.split(|byte| *byte == b'\n').skip(1);
        let mut named = lines.filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let is_origin = line[..colon].eq_ignore_ascii_case(HeaderName::as_str(&header::ORIGIN).as_bytes());
            is_origin.then(|| line[colon + 1..].trim_ascii())
        });
        let origin = named.next()?;
        self.listed.iter().find(|listed| listed.as_bytes() == origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_found_in_an_unparsed_request() {
        let cors = Cors::new(&["https://chat.example.org".to_owned()]);
        let found = |request: &str| cors.listed_in(request.as_bytes()).is_some();
        assert!(found("GET / HTTP/1.1\r\nHost: x\r\norigin:https://chat.example.org\r\n\r\n"));
        assert!(found("GET / HTTP/1.1\r\nOrigin: https://chat.example.org \r\nAcc"));
        assert!(!found("GET / HTTP/1.1\r\nOrigin: https://evil.example.org\r\n\r\n"));
        assert!(!found("GET / HTTP/1.1\r\nX-Origin: https://chat.example.org\r\n\r\n"));
        assert!(!found("origin: https://chat.example.org"), "that is the request line");
    }
}
