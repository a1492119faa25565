//! Reads the bodies of requests, within their size limit, their byte budget and a deadline.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use poem::http::{HeaderMap, HeaderValue, header};
use poem::{Body, Request};
use tokio::time::timeout;

use crate::api::MAX_BODY_BYTES;
use crate::api::admission::BodyBudget;
use crate::api::error::ApiError;

/// How long a client may take to send its body.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Reads the body, up to the allowed size.
pub(super) async fn read_body(request: &mut Request) -> Result<Bytes, ApiError> {
    if is_encoded(request.headers()) {
        return Err(ApiError::EncodedBody);
    }
    let budget = BodyBudget::of(request)?;
    let body = request.take_body();
    let bytes = if body.is_empty() {
        Bytes::new()
    } else {
        timeout(BODY_TIME, collect(body, &budget)).await.unwrap_or(Err(ApiError::BodyTimeout))?
    };
    if bytes.is_empty() {
        // A body without a byte stands for no JSON value, whatever the headers say or leave out.
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    Ok(bytes)
}

/// Whether the body is compressed or the like. It is refused, because what a short body unpacks to would have to be bounded too.
fn is_encoded(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.into_iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The bytes of a body, each charged when it arrives. Nearly every body comes in one piece, which is not copied.
async fn collect(body: Body, budget: &BodyBudget) -> Result<Bytes, ApiError> {
    let mut pieces = body.into_bytes_stream();
    let mut whole = Bytes::new();
    loop {
        let piece = next_piece(&mut pieces, whole.len()).await?;
        if piece.is_empty() {
            return Ok(whole);
        }
        budget.charge(piece.len())?;
        if whole.is_empty() {
            whole = piece;
            continue;
        }
        let mut longer = BytesMut::from(whole);
        longer.extend_from_slice(&piece);
        whole = longer.freeze();
    }
}

/// The next piece that is not empty; an empty one at the end. Together with what came `before` it must not be too large.
async fn next_piece(
    pieces: &mut (impl Stream<Item = std::io::Result<Bytes>> + Unpin),
    before: usize,
) -> Result<Bytes, ApiError> {
    loop {
        match pieces.next().await {
            None => return Ok(Bytes::new()),
            Some(Ok(piece)) if piece.len() > MAX_BODY_BYTES - before => return Err(ApiError::PayloadTooLarge),
            Some(Ok(piece)) if piece.is_empty() => {}
            Some(Ok(piece)) => return Ok(piece),
            Some(Err(_)) => return Err(ApiError::InvalidBody("The body cannot be read.".to_owned())),
        }
    }
}
