//! `GET /chat/{room}/message`: following a room.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};

use super::access::{Authenticated, ClientAddress};
use super::edge::IsHeadRequest;
use super::error::ApiError;
use super::event_stream::{EventStream, Offered, RequestEndpoints, last_id, parse_bounds, parse_client};
use super::pages::parse_number;
use super::params::Integer;
use super::{ApiContext, Tag};
use crate::live::{LeaseRequest, OpenStream};
use crate::streams::StreamRequest;

/// Largest `max_replay`.
const REPLAY_MAX: u32 = 1_000_000_000;

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
        let bounds = parse_bounds(limit.0, wait_s.0)?;
        let max_replay = parse_number("max_replay", max_replay.0, 0..=REPLAY_MAX)?;
        let client = client.0.as_deref().map(parse_client).transpose()?;
        let caller = caller.0;
        if is_head_request.0 {
            context.streams.check(&room.0, &caller.session.user).await?;
            return Ok(EventStream::empty());
        }
        let request = StreamRequest {
            lease: LeaseRequest {
                client,
                address: address.0,
                endpoints: endpoints.0,
            },
            cursor: last_id(last_event_id.0, last_event_id_query.0),
            max_replay,
            bounds,
            framing: offer.framing(),
        };
        let (stream, opening) = context.streams.open(&caller, &room.0, request).await?;
        Ok(offer.begin(&context, OpenStream::Room(Box::new(stream)), opening))
    }
}
