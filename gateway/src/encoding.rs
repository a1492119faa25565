//! Gzip encoding of answers, for clients that accept it (RFC 9110, section 8.4).

use std::io::Read;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::{
    Compression,
    read::{GzDecoder, GzEncoder},
};
use poem::http::{HeaderMap, HeaderValue, StatusCode, header};
use poem::{Body, Response};
use tokio::task::spawn_blocking;

/// Shortest content that is compressed, in bytes: below it, headers are most of an answer.
const WORTH_BYTES: usize = 1024;

/// Longest content that is compressed on the thread of its request: about 1 ms of work. Longer ones would delay other requests.
const INLINE_BYTES: usize = 64 * 1024;

/// Whether `Accept-Encoding` names gzip and does not refuse it with `q=0` (RFC 9110, section
/// 12.5.3). A bare `*` gets the plain form, which is always allowed.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(|part| part.trim().to_ascii_lowercase());
        let weight = |part: String| part.strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        parts.next().as_deref() == Some("gzip") && parts.filter_map(weight).all(|weight| weight > 0.0)
    })
}

/// Compresses `content`.
pub(crate) fn pack(content: &[u8], level: Compression) -> Bytes {
    read_all(GzEncoder::new(content, level))
}

/// Decompresses what [`pack`] compressed.
pub(crate) fn unpack(gzip: &[u8]) -> Bytes {
    read_all(GzDecoder::new(gzip))
}

fn read_all(mut source: impl Read) -> Bytes {
    let mut content = Vec::new();
    source.read_to_end(&mut content).expect("the source is in memory and, if packed, was packed by us");
    content.into()
}

/// The compressed form of a content that many clients read, made for the first of them. It is attached to an answer as data.
///
/// It is kept only if it takes at most half the bytes of the content, so that a cache of both can rely on that; a content that
/// does not shrink to that is sent as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packed(Arc<OnceLock<Option<Bytes>>>);

impl Packed {
    async fn of(self, content: Bytes) -> Option<Bytes> {
        if let Some(packed) = self.0.get() {
            return packed.clone();
        }
        if content.len() <= INLINE_BYTES {
            return self.make(&content);
        }
        // If it panics, the plain form is as good.
        spawn_blocking(move || self.make(&content)).await.ok().flatten()
    }

    fn make(&self, content: &[u8]) -> Option<Bytes> {
        let pack = || Some(pack(content, Compression::fast())).filter(|packed| packed.len() <= content.len() / 2);
        self.0.get_or_init(pack).clone()
    }
}

/// Whether an answer to GET may be compressed: JSON may, and an event stream never.
pub(crate) fn is_compressible(response: &Response) -> bool {
    let headers = response.headers();
    let is_json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    response.status() == StatusCode::OK
        && headers.get(header::CONTENT_TYPE).is_some_and(is_json)
        && !headers.contains_key(header::CONTENT_ENCODING)
}

/// Compresses an answer where that is worth it, and sets the headers that say so.
pub(crate) async fn compress(mut response: Response) -> Response {
    let Ok(content) = response.take_body().into_bytes().await else {
        // The content of our JSON answers is in memory.
        return response;
    };
    let packed = match content.len() {
        ..WORTH_BYTES => None,
        _ => response.data::<Packed>().cloned().unwrap_or_default().of(content.clone()).await,
    };
    if packed.is_some() {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.remove(header::CONTENT_LENGTH);
    }
    response.set_body(Body::from(packed.unwrap_or(content)));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_ask_for_it() {
        let accepts = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            accepts_gzip(&headers)
        };
        for value in ["gzip", "br, GZIP", "gzip;q=0.5", "identity, gzip ; q=1"] {
            assert!(accepts(value), "{value}");
        }
        for value in ["", "br", "gzip;q=0", "gzip; q=0.000", "*", "gzipped", "identity"] {
            assert!(!accepts(value), "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn compressible_content_is_packed_once() {
        let answer = |content: &Bytes, packed: &Packed| {
            let mut response = Response::builder().content_type("application/json").body(content.clone());
            response.set_data(packed.clone());
            response
        };
        // Random bytes do not shrink.
        let mixed: Vec<u8> = (0..100_000).map(|_| rand::random()).collect();
        for (content, shrinks) in [
            (vec![b'x'; 1_023], false),
            (vec![b'x'; 1_024], true),
            (vec![b'x'; 300_000], true),
            (mixed, false),
        ] {
            let (content, packed) = (Bytes::from(content), Packed::default());
            for _ in 0..2 {
                let response = compress(answer(&content, &packed)).await;
                let is_gzip = response.headers().contains_key(header::CONTENT_ENCODING);
                let body = response.into_body().into_bytes().await.unwrap();
                assert_eq!(is_gzip, shrinks, "{} bytes", content.len());
                assert!(if is_gzip { unpack(&body) } else { body } == content);
            }
            let kept = packed.0.get().cloned().flatten();
            assert_eq!(kept.is_some(), shrinks);
            assert!(kept.is_none_or(|kept| kept.len() <= content.len() / 2));
        }
    }
}
