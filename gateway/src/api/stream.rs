//! `GET /chat/{room}/message`: following a room.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use poem::http::{HeaderValue, header};
use poem::web::{Data, LocalAddr, RemoteAddr};
use poem::{Addr, Body, FromRequest, IntoResponse, Request, RequestBody, Response};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::{ApiResponse, OpenApi};
use shared::domain::Invalid;

use super::access::{Authenticated, ClientAddress};
use super::edge::IsHeadRequest;
use super::error::ApiError;
use super::pages::parse_count;
use super::params::Integer;
use super::{ApiContext, Tag};
use crate::fanout::body;
use crate::live::{ClientName, Framing, LeaseRequest, LiveStream, StreamBounds, TcpEndpoints};
use crate::server::{HijackOffer, HijackedSocket};
use crate::streams::StreamRequest;

/// Largest `limit` of the bounded mode.
const BOUNDED_MESSAGES_MAX: u32 = 10_000;

/// Largest `wait_s` of the bounded mode.
const BOUNDED_SECONDS_MAX: u32 = 300;

/// Largest `max_replay`.
const REPLAY_MAX: u32 = 1_000_000_000;

/// An open stream of server-sent events.
///
/// The framework's own event stream encodes every event once per subscriber and documents an array.
pub struct EventStream {
    body: Body,
    /// The connection closes behind it.
    is_last: bool,
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
                    `PingEvent` or `ByeEvent`.",
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

/// Operations on streams.
pub struct StreamApi;

#[OpenApi(tag = "Tag::Stream")]
impl StreamApi {
    /// Follow a room
    ///
    /// Server-sent events: first `ready`, then every message without a name and every other entry by its kind (`edit`, `delete`,
    /// `reaction`, `member`, `room`), in one order, and `ping` in silence. Joins a public room. After a cut,
    /// send the last `id` you got as `Last-Event-ID`: everything you missed comes first, however long you were away.
    ///
    /// Swagger UI shows a stream only when it ends, so try it with `limit` and `wait_s`, and post from another tab.
    #[oai(path = "/chat/:room/message", method = "get", operation_id = "followRoom")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter of the operation")]
    async fn follow(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        address: ClientAddress,
        endpoints: RequestEndpoints,
        offer: Offered,
        is_head_request: IsHeadRequest,
        /// Name of the room.
        room: Path<String>,
        /// The last id you got.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<String>>,
        /// The same for clients that cannot set headers; the header wins.
        #[oai(name = "last_event_id")]
        last_event_id_query: Query<Option<String>>,
        /// If you missed more entries than this, get a `reset` instead of them.
        max_replay: Query<Option<Integer>>,
        /// End after this many messages: 1–10,000. Other entries do not count.
        limit: Query<Option<Integer>>,
        /// End after this many seconds: 1–300.
        wait_s: Query<Option<Integer>>,
        /// Your name for this installation of the app, or for this tab: 1–64 of letters, digits, `-`, `_`. A newer stream of the
        /// same session, room and name ends the older one with `bye` `replaced`, so that a client
        /// that reconnects never waits for its own dead connection.
        client: Query<Option<String>>,
    ) -> Result<EventStream, ApiError> {
        let bounds = StreamBounds {
            messages: parse_count("limit", limit.0, BOUNDED_MESSAGES_MAX)?,
            time: parse_count("wait_s", wait_s.0, BOUNDED_SECONDS_MAX)?.map(|s| Duration::from_secs(s.into())),
        };
        let max_replay = match max_replay.0 {
            Some(Integer(0)) => Some(0),
            more => parse_count("max_replay", more, REPLAY_MAX)?,
        };
        let client = client.0.as_deref().map(parse_client).transpose()?;
        let caller = caller.0;
        if is_head_request.0 {
            context.streams.check(&room.0, &caller.session.user).await?;
            return Ok(EventStream {
                body: Body::empty(),
                is_last: false,
            });
        }
        let request = StreamRequest {
            lease: LeaseRequest {
                client,
                address: address.0,
                endpoints: endpoints.0,
            },
            cursor: [last_event_id.0, last_event_id_query.0].into_iter().flatten().find(|raw| !raw.is_empty()),
            max_replay,
            bounds,
            framing: offer.framing(),
        };
        let (stream, opening) = context.streams.open(&caller, &room.0, request).await?;
        Ok(offer.begin(&context, stream, opening))
    }
}

fn parse_client(raw: &str) -> Result<ClientName, Invalid> {
    let message = format!("Must be 1 to {} of letters, digits, '-' and '_'.", ClientName::MAX_LEN);
    ClientName::parse(raw).ok_or_else(|| Invalid::new("client", "invalid", message))
}

/// The two ends of the request's connection.
struct RequestEndpoints(Option<TcpEndpoints>);

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
struct Offered(Option<HijackOffer>);

impl Offered {
    /// Whoever writes to the socket itself also writes the chunks of HTTP/1.1.
    fn framing(&self) -> Framing {
        if self.0.is_some() {
            Framing::Chunked
        } else {
            Framing::Library
        }
    }

    /// Begins the stream with `opening`: on the socket itself if that is offered, else through the HTTP library.
    fn begin(self, context: &Arc<ApiContext>, stream: LiveStream, opening: Bytes) -> EventStream {
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
