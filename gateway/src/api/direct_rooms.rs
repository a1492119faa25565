//! `/direct`: the rooms of two.

use std::sync::Arc;

use bytes::Bytes;
use poem::web::Data;
use poem::{IntoResponse, Response};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type as _;
use poem_openapi::{ApiResponse, OpenApi};
use shared::domain::{Timestamp, Username};
use shared::storage::RoomState;

use super::access::Authenticated;
use super::error::ApiError;
use super::pages::PageQuery;
use super::params::Integer;
use super::user_rooms::{EncodedRooms, UserRoomPage};
use super::{ApiContext, Tag};
use crate::room_state_json::{self, UserRoom};

/// A state object that is encoded already.
pub struct EncodedRoom(Bytes);

impl EncodedRoom {
    fn of(state: &RoomState) -> Self {
        let mut json = Vec::new();
        room_state_json::write(&mut json, state, Timestamp::now(), None);
        Self(json.into())
    }
}

impl Payload for EncodedRoom {
    const CONTENT_TYPE: &'static str = Json::<UserRoom>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        UserRoom::schema_ref()
    }

    fn register(registry: &mut Registry) {
        UserRoom::register(registry);
    }
}

impl IntoResponse for EncodedRoom {
    fn into_response(self) -> Response {
        Response::builder().content_type(Self::CONTENT_TYPE).body(self.0)
    }
}

/// Answers to opening a direct room.
#[derive(ApiResponse)]
pub enum DirectRoom {
    /// You two had it before.
    #[oai(status = 200)]
    Known(EncodedRoom),
    /// It is new.
    #[oai(status = 201)]
    Created(EncodedRoom),
}

/// Operations on direct rooms.
pub struct DirectRoomsApi;

#[OpenApi(tag = "Tag::Rooms")]
impl DirectRoomsApi {
    /// Open a direct room
    ///
    /// The one room of you and another user, whoever of you asks first. All calls of rooms work with its name, and nobody else sees it. If
    /// you have left it, you see it again.
    #[oai(path = "/direct/:username", method = "put", operation_id = "openDirectRoom")]
    async fn open(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Username or public id of the other one.
        username: Path<String>,
    ) -> Result<DirectRoom, ApiError> {
        let (state, created) = context.user_rooms.open_direct(&caller.0.session.user, &username.0).await?;
        let room = EncodedRoom::of(&state);
        Ok(if created {
            DirectRoom::Created(room)
        } else {
            DirectRoom::Known(room)
        })
    }

    /// List your direct rooms
    ///
    /// Sorted by the username of the other one, in pages. Those that you have left come back with their next message.
    #[oai(path = "/direct", method = "get", operation_id = "listDirectRooms")]
    async fn list(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Start behind this username.
        after: Query<Option<String>>,
        /// How many at most: 1–1,000.
        limit: Query<Option<Integer>>,
    ) -> Result<UserRoomPage, ApiError> {
        let page = PageQuery::parse(after.0, limit.0, Username::MAX_LEN)?;
        let states = context.user_rooms.direct(&caller.0.session.user, &page.after, page.limit).await?;
        let link = page.link("/direct", states.len(), states.last().and_then(|state| state.with.as_deref()));
        let (mut json, now) = (br#"{"data":["#.to_vec(), Timestamp::now());
        for (index, state) in states.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            room_state_json::write(&mut json, state, now, None);
        }
        json.extend_from_slice(b"]}");
        Ok(UserRoomPage::Ok(EncodedRooms(json.into()), link))
    }
}
