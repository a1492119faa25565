//! `GET /user/events`: following all rooms of the caller over one connection.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Query};

use super::access::{Authenticated, ClientAddress};
use super::edge::IsHeadRequest;
use super::error::ApiError;
use super::event_stream::{EventStream, Offered, RequestEndpoints, last_id, parse_bounds, parse_client};
use super::params::Integer;
use super::{ApiContext, Tag};
use crate::live::{LeaseRequest, OpenStream, StreamFilter};
use crate::streams::UserStreamRequest;

/// Operations on the stream of all rooms.
pub struct UserStreamApi;

#[OpenApi(tag = "Tag::Stream")]
impl UserStreamApi {
    /// Follow all your rooms
    ///
    /// Server-sent events of all rooms that you are in, over one connection: those of each room as its own stream has them, in order and
    /// complete; between rooms no order is promised. First comes `ready`, with what changed of your rooms since your last id, or without an id
    /// `rooms` with what they are. Rooms that you join, create or lose while the stream is open come and go with `rooms`; `read` says how far
    /// you have read, on whatever device. After a cut, send the last `id` you got as `Last-Event-ID`.
    ///
    /// Swagger UI shows a stream only when it ends, so try it with `limit` and `wait_s`, and post from another tab.
    #[oai(path = "/user/events", method = "get", operation_id = "followAllRooms")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter of the operation")]
    async fn follow_all(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        address: ClientAddress,
        endpoints: RequestEndpoints,
        offer: Offered,
        is_head_request: IsHeadRequest,
        /// The last id you got, or the cursor of `/user/sync`.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<String>>,
        /// The same for clients that cannot set headers; the header wins.
        #[oai(name = "last_event_id")]
        last_event_id_query: Query<Option<String>>,
        /// Only these rooms: names with commas between. Come back with the same ones: an id says what you got of these.
        rooms: Query<Option<String>>,
        /// Only these kinds of events: some of `message`, `edit`, `delete`, `reaction`, `member`, `room`, `rooms`, `read`, `typing` and
        /// `presence`, with commas between. `ready`, `reset`, `ping` and `bye` always come.
        types: Query<Option<String>>,
        /// End after this many messages: 1–10,000. Other events do not count.
        limit: Query<Option<Integer>>,
        /// End after this many seconds: 1–300.
        wait_s: Query<Option<Integer>>,
        /// Your name for this installation of the app, or for this tab: 1–64 of letters, digits, `-`, `_`. A newer stream of the
        /// same session and name ends the older one with `bye` `replaced`.
        client: Query<Option<String>>,
    ) -> Result<EventStream, ApiError> {
        let bounds = parse_bounds(limit.0, wait_s.0)?;
        let filter = StreamFilter::parse(rooms.0.as_deref(), types.0.as_deref())?;
        let client = client.0.as_deref().map(parse_client).transpose()?;
        if is_head_request.0 {
            return Ok(EventStream::empty());
        }
        let request = UserStreamRequest {
            lease: LeaseRequest {
                client,
                address: address.0,
                endpoints: endpoints.0,
            },
            cursor: last_id(last_event_id.0, last_event_id_query.0),
            filter,
            bounds,
            framing: offer.framing(),
        };
        let (stream, opening) = context.streams.open_all_rooms(&caller.0, request).await?;
        Ok(offer.begin(&context, OpenStream::User(Box::new(stream)), opening))
    }
}
