//! `GET /chat/{room}/message`: following a room.

use std::sync::Arc;
use std::time::Duration;

use poem::http::{HeaderValue, header};
use poem::web::{Data, LocalAddr, RemoteAddr};
use poem::{Addr, Body, FromRequest, IntoResponse, Request, RequestBody, Response};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::{ApiResponse, OpenApi};
use shared::bus::ControlEvent;
use shared::domain::{Epoch, Invalid, StreamCursor, Timestamp};
use shared::storage::{JoinMode, Room};
use shared::telemetry::Event;
use tokio::time::sleep;

use super::Tag;
use super::access::{Authenticated, ClientAddress};
use super::edge::HeadOnly;
use super::error::ApiError;
use super::params::Integer;
use super::rooms::{joined, parse_count, shown, visible};
use crate::app::App;
use crate::auth::sessions::Caller;
use crate::live::{
    ClientName, Framing, LeaseRequest, LiveStream, OpenFeed, Opened, QuotaError, RegisteredStream, StreamBounds,
    StreamLease, StreamStart, TcpEndpoints, chunks,
};
use crate::server::{HijackOffer, HijackedSocket};

static REFUSED: Event = Event::refusal("too_many_streams", "a stream is refused, since as many are open as may be");

/// Largest `limit` of the bounded mode.
const BOUNDED_MESSAGES_MAX: u32 = 10_000;

/// Largest `wait_s` of the bounded mode.
const BOUNDED_SECONDS_MAX: u32 = 300;

/// How often a room is joined for one stream. More than twice is needed only while somebody leaves and joins all the time.
const JOINED_AT_MOST: u32 = 5;

/// How long a stream at the limit waits for others to end before it is refused.
const ROOM_WITHIN: Duration = Duration::from_millis(500);

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
                    a `ReadyEvent`, `ResetEvent`, `PingEvent` or `ByeEvent`.",
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
    /// Server-sent events: first `ready`, then every message, and `ping` in silence. Joins a public room. After a cut,
    /// send the last `id` you got as `Last-Event-ID`: everything you missed comes first, however long you were away.
    ///
    /// Swagger UI shows a stream only when it ends, so try it with `limit` and `wait_s`, and post from another tab.
    #[oai(path = "/chat/:room/message", method = "get", operation_id = "followRoom")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter of the operation")]
    async fn follow(
        &self,
        app: Data<&Arc<App>>,
        caller: Authenticated,
        address: ClientAddress,
        endpoints: RequestEndpoints,
        offer: Offered,
        head_only: HeadOnly,
        /// Name of the room.
        room: Path<String>,
        /// The last id you got.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<String>>,
        /// The same for clients that cannot set headers; the header wins.
        #[oai(name = "last_event_id")]
        last_event_id_query: Query<Option<String>>,
        /// If you missed more messages than this, get a `reset` instead of them.
        max_replay: Query<Option<Integer>>,
        /// End after this many messages: 1–10,000.
        limit: Query<Option<Integer>>,
        /// End after this many seconds: 1–300.
        wait_s: Query<Option<Integer>>,
        /// Your app's name for this installation or tab, made by you: 1–64 of letters, digits, `-`, `_`. A newer stream of the
        /// same session, room and name ends the older one with `bye` `replaced`, so that nobody waits for a place that a
        /// connection holds which is gone.
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
        let user = caller.session.user.id;
        if head_only.0 {
            // Nobody joins a room or takes a place by looking whether a stream could be opened.
            visible(&app, &room.0, user).await?;
            return Ok(EventStream {
                body: Body::empty(),
                is_last: false,
            });
        }
        let (room, connection) = enter(&app, &room.0, &caller).await?;
        let request = LeaseRequest {
            user,
            session: caller.session_id,
            room: room.id,
            client,
            address: address.0,
            endpoints: endpoints.0,
        };
        let lease = lease(&app, &request, &connection).await?;
        let feed = app.hub.open(&room).await?;
        let cursor = [last_event_id.0, last_event_id_query.0].into_iter().flatten().find(|raw| !raw.is_empty());
        let epochs = [feed.epoch, room.former_epoch(app.hub.epoch())];
        let start = start(&app, &feed, (cursor.as_deref(), epochs), max_replay).await?;
        let opened = Opened {
            hub: app.hub.clone(),
            feed,
            connection,
            lease,
            start,
            bounds,
            expires_on: caller.session.expires_on,
            replay: app.history_rates.of(user),
        };
        Ok(begin(&app, opened, offer))
    }
}

/// Joins the room of this name, with an entry in the register of streams that is good by SQL.
///
/// The membership may end while it is entered, on another device or at another gateway: then the room is joined anew.
async fn enter(app: &App, name: &str, caller: &Caller) -> Result<(Arc<Room>, Arc<RegisteredStream>), ApiError> {
    let user = caller.session.user.id;
    for _ in 0..JOINED_AT_MOST {
        let joined = joined(app, name, user, JoinMode::ByName).await?;
        let connection = app.stream_registry.register(user, caller.session_id, joined.room.id, joined.membership);
        // Whoever was shut out before this line was not found in the register; whoever is from now on, will be.
        app.sessions.check(caller.session_id).await?;
        if app.rooms.is_current(&joined, user).await? {
            return Ok((joined.room, connection));
        }
    }
    Err(ApiError::RoomNotFound(shown(name)))
}

/// A lease for the stream of `connection`. At the limit it is asked for once more a moment later, when streams that have
/// just ended are released and those behind which there is nobody any more had to make room.
async fn lease(
    app: &Arc<App>,
    request: &LeaseRequest,
    connection: &Arc<RegisteredStream>,
) -> Result<StreamLease, ApiError> {
    let mut granted = app.quota.acquire(request, connection).await;
    if matches!(granted, Err(QuotaError::TooMany)) {
        if app.quota.should_ask(request.user) {
            app.tell(ControlEvent::StreamQuotaReached { user: request.user });
        }
        sleep(ROOM_WITHIN).await;
        granted = app.quota.acquire(request, connection).await;
    }
    if matches!(granted, Err(QuotaError::TooMany)) {
        REFUSED.report(format_args!("user:{}", request.user.0), "");
    }
    let (lease, older) = granted?;
    if let Some(stream) = older {
        let replaced = ControlEvent::StreamReplaced { stream };
        app.act_on(&replaced);
        app.tell(replaced);
    }
    Ok(lease)
}

fn parse_client(raw: &str) -> Result<ClientName, Invalid> {
    let message = format!("Must be 1 to {} of letters, digits, '-' and '_'.", ClientName::MAX_LEN);
    ClientName::parse(raw).ok_or_else(|| Invalid::new("client", "invalid", message))
}

/// Begins the stream: on the socket itself if that is offered, else through the HTTP library.
fn begin(app: &App, opened: Opened, Offered(offer): Offered) -> EventStream {
    let framing = if offer.is_some() {
        Framing::Chunked
    } else {
        Framing::Library
    };
    let (stream, opening) = LiveStream::new(opened, app.config.streams.settings(), Timestamp::now(), framing);
    let is_last = offer.is_some();
    let body = match offer {
        Some(offer) => {
            let fanout = app.fanout.clone();
            offer.accept(opening, move |HijackedSocket { socket, permit }| fanout.adopt(socket, permit, stream))
        }
        None => Body::from_bytes_stream(chunks(stream, opening)),
    };
    EventStream { body, is_last }
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

/// The socket of the request's connection, if it can be had.
struct Offered(Option<HijackOffer>);

impl<'a> FromRequest<'a> for Offered {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(request.extensions().get().cloned()))
    }
}

/// Where the stream begins. A client may have heard from another gateway what this one has not yet: SQL knows.
async fn start(
    app: &App,
    feed: &OpenFeed,
    (cursor, epochs): (Option<&str>, [Epoch; 2]),
    max_replay: Option<u32>,
) -> Result<StreamStart, ApiError> {
    let mut head = feed.head();
    let claimed = cursor.and_then(|raw| StreamCursor::parse(raw).ok());
    if claimed.is_some_and(|cursor| cursor.seq > head) {
        head = app.hub.refresh(feed).await?;
    }
    Ok(StreamStart::decide(cursor, epochs, head, max_replay))
}
