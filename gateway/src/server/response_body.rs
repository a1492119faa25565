//! Response bodies on their way out: cut into pieces, charged for until they are sent, and bounded in time.
//!
//! Over HTTP/1.1 the socket notices a client that takes nothing ([`super::socket`]) and the connection's deadline one that
//! takes too little ([`super::connection_state`]). Over HTTP/2 the socket shows neither, because many responses share it;
//! there each response has a task of its own, which ends it ([`SendProgress`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection_state::ActiveRequest;
use super::refusal::{self, Refusal, RefusalRenderer};
use super::request_budget::{RequestBudget, ResponseCharge};

/// Bytes handed to hyper at once over HTTP/1.1, and over HTTP/2, where it is the largest frame that clients take unasked.
const PIECE: usize = 64 * 1024;
const HTTP2_PIECE: usize = 16 * 1024;

/// Bytes of the last piece of a longer response over HTTP/2. The library keeps it when everything else of the response is gone.
const HTTP2_LAST: usize = 2 * 1024;

/// Responses up to this are not charged for: over HTTP/1.1 there is one on a connection, over HTTP/2 there are many.
const FREE: usize = 16 * 1024;
const HTTP2_FREE: usize = 1024;

/// The least rate at which a response must be taken, in bytes a second on average, after [`PATIENCE`]: a third of what a
/// phone has on the slowest network that is still in use (GPRS, about 30 kbit/s).
const LEAST_RATE: u64 = 1_200;
const PATIENCE: Duration = Duration::from_secs(30);

tokio::task_local! {
    /// How the response proceeds that the present task sends over HTTP/2.
    pub(super) static SEND_PROGRESS: Arc<SendProgress>;
}

/// The progress of the response of the present task; `None` over HTTP/1.1.
pub(super) fn send_progress() -> Option<Arc<SendProgress>> {
    SEND_PROGRESS.try_with(Arc::clone).ok()
}

/// How a response proceeds over HTTP/2.
#[derive(Debug, Default)]
pub(super) struct SendProgress(Mutex<Progress>);

#[derive(Debug, Default)]
struct Progress {
    /// When the piece was handed over that the library has not taken yet.
    since: Option<Instant>,
    /// Until when all of it must be sent.
    by: Option<Instant>,
}

impl SendProgress {
    /// When the response is given up if nothing happens: a piece may wait for `stall`.
    pub(super) fn deadline(&self, stall: Duration) -> Option<Instant> {
        let progress = self.0.lock();
        let piece = progress.since? + stall;
        Some(progress.by.map_or(piece, |by| piece.min(by)))
    }

    fn set_waiting_since(&self, since: Option<Instant>) {
        self.0.lock().since = since;
    }

    fn set_deadline(&self, by: Instant) {
        self.0.lock().by = Some(by);
    }
}

/// How long a response of `bytes` may take.
fn longest(bytes: u64) -> Duration {
    PATIENCE + Duration::from_secs(bytes / LEAST_RATE)
}

/// Begins to send `response`, or a refusal if too much is unsent already.
pub(super) fn begin(
    response: Response<BoxBody<Bytes, io::Error>>,
    budget: &RequestBudget,
    refusals: &dyn RefusalRenderer,
    active: ActiveRequest,
    progress: Option<Arc<SendProgress>>,
) -> Response<ResponseBody> {
    let (mut parts, mut body) = response.into_parts();
    let mut charge = None;
    if let Some(size) = body.size_hint().exact() {
        let free = if progress.is_some() { HTTP2_FREE } else { FREE };
        match usize::try_from(size) {
            Ok(bytes) if bytes > free => match budget.charge_response(bytes) {
                Ok(charged) => charge = Some(charged),
                Err(over) => body = refusal::replace(&mut parts, Refusal::from(over), refusals),
            },
            _ => {}
        }
        let by = Instant::now() + longest(size);
        match &progress {
            Some(progress) => progress.set_deadline(by),
            None => active.send_by(by),
        }
    }
    let body = ResponseBody {
        body,
        rest: Bytes::new(),
        progress,
        _charge: charge,
        _active: active,
    };
    Response::from_parts(parts, body)
}

/// A response body that keeps its request counted as running until hyper drops it: at its end, or when the client leaves.
pub(super) struct ResponseBody {
    body: BoxBody<Bytes, io::Error>,
    /// What is left of the piece that came last.
    rest: Bytes,
    progress: Option<Arc<SendProgress>>,
    _charge: Option<ResponseCharge>,
    _active: ActiveRequest,
}

impl ResponseBody {
    /// The next piece of what is left.
    ///
    /// Pieces of a long response share its memory, and the last one would keep all of it when nothing is charged, so
    /// the last one is copied.
    fn cut(&mut self) -> Bytes {
        let (piece, last) = match self.progress {
            None => (PIECE, PIECE),
            Some(_) => (HTTP2_PIECE, HTTP2_LAST),
        };
        let left = self.rest.len();
        if left > piece {
            let rest = self.rest.split_off(piece);
            let cut = std::mem::replace(&mut self.rest, rest);
            if self.rest.len() <= last {
                self.rest = Bytes::copy_from_slice(&self.rest);
            }
            return cut;
        }
        if left > last {
            let rest = Bytes::copy_from_slice(&self.rest[left - last..]);
            let mut cut = std::mem::replace(&mut self.rest, rest);
            cut.truncate(left - last);
            return cut;
        }
        std::mem::take(&mut self.rest)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(progress) = &self.progress {
            // hyper asks for more when it has taken what came before.
            progress.set_waiting_since(None);
        }
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.cut();
        if let Some(progress) = &self.progress {
            progress.set_waiting_since(Some(Instant::now()));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(inner.lower() + rest);
        hint
    }
}
