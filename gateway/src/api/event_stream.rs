//! What streams of a room and of all rooms have in common: the answer, the end that a client asks for, its last id.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use poem::http::{HeaderValue, header};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Body, FromRequest, IntoResponse, Request, RequestBody, Response};
use poem_openapi::ApiResponse;
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry};
use shared::domain::Invalid;

use super::ApiContext;
use super::pages::parse_count;
use super::params::Integer;
use crate::fanout::body;
use crate::live::{ClientName, Framing, OpenStream, StreamBounds, TcpEndpoints};
use crate::server::{HijackOffer, HijackedSocket};

/// Largest `limit` of the bounded mode.
const BOUNDED_MESSAGES_MAX: u32 = 10_000;

/// Largest `wait_s` of the bounded mode.
const BOUNDED_SECONDS_MAX: u32 = 300;

/// An open stream of server-sent events.
///
/// The framework's own event stream encodes every event once per subscriber and documents an array.
pub struct EventStream {
    body: Body,
    /// The connection closes behind it.
    is_last: bool,
}

impl EventStream {
    /// What is answered where no body is wanted.
    pub(super) fn empty() -> Self {
        Self {
            body: Body::empty(),
            is_last: false,
        }
    }
}

impl Payload for EventStream {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")))
    }
}

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        let mut response = Response::builder().content_type(Self::CONTENT_TYPE).body(self.body);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
        headers.insert("X-Accel-Buffering", HeaderValue::from_static("no"));
        if self.is_last {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl ApiResponse for EventStream {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The stream is open. The data of an event is one line of JSON: a `Message` where the event has no name, else \
                    an `EditEvent`, `DeleteEvent`, `ReactionEvent`, `MemberEvent`, `RoomChangeEvent`, `ReadyEvent`, `ResetEvent`, \
                    `PingEvent` or `ByeEvent`; on the stream of all your rooms \
                    also `UserReadyEvent`, `RoomsEvent`, `ReadEvent`, `TypingEvent`, `PresenceEvent` or `UserResetEvent`.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: Self::CONTENT_TYPE,
                    schema: Self::schema_ref(),
                }],
                headers: vec![],
            }],
        }
    }

    fn register(_registry: &mut Registry) {}
}

/// The end that a client asks for.
pub(super) fn parse_bounds(limit: Option<Integer>, wait_s: Option<Integer>) -> Result<StreamBounds, Invalid> {
    Ok(StreamBounds {
        messages: parse_count("limit", limit, BOUNDED_MESSAGES_MAX)?,
        time: parse_count("wait_s", wait_s, BOUNDED_SECONDS_MAX)?.map(|s| Duration::from_secs(s.into())),
    })
}

/// The last id that a client got: that of the header wins.
pub(super) fn last_id(header: Option<String>, query: Option<String>) -> Option<String> {
    [header, query].into_iter().flatten().find(|raw| !raw.is_empty())
}

/// The name that a client gave itself.
pub(super) fn parse_client(raw: &str) -> Result<ClientName, Invalid> {
    let message = format!("Must be 1 to {} of letters, digits, '-' and '_'.", ClientName::MAX_LEN);
    ClientName::parse(raw).ok_or_else(|| Invalid::new("client", "invalid", message))
}

/// The two ends of the request's connection.
pub(super) struct RequestEndpoints(pub(super) Option<TcpEndpoints>);

impl<'a> FromRequest<'a> for RequestEndpoints {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let (LocalAddr(local), RemoteAddr(peer)) = (request.local_addr(), request.remote_addr());
        Ok(Self(match (local, peer) {
            (Addr::SocketAddr(local), Addr::SocketAddr(peer)) => Some(TcpEndpoints {
                local: *local,
                peer: *peer,
            }),
            (_, _) => None,
        }))
    }
}

/// The socket of the request's connection, if it can be hijacked.
pub(super) struct Offered(Option<HijackOffer>);

impl Offered {
    /// Whoever writes to the socket itself also writes the chunks of HTTP/1.1.
    pub(super) fn framing(&self) -> Framing {
        if self.0.is_some() {
            Framing::Chunked
        } else {
            Framing::Library
        }
    }

    /// Begins the stream with `opening`: on the socket itself if that is offered, else through the HTTP library.
    pub(super) fn begin(self, context: &Arc<ApiContext>, stream: OpenStream, opening: Bytes) -> EventStream {
        let is_last = self.0.is_some();
        let body = match self.0 {
            Some(offer) => {
                let context = Arc::clone(context);
                offer.accept(opening, move |HijackedSocket { socket, permit }| {
                    context.streams.adopt(socket, permit, stream);
                })
            }
            None => Body::from_bytes_stream(body(stream, opening)),
        };
        EventStream { body, is_last }
    }
}

impl<'a> FromRequest<'a> for Offered {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(request.extensions().get().cloned()))
    }
}
