//! `/chat`: rooms and who is in them.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use shared::domain::{RoomName, Username};

use super::access::Authenticated;
use super::body::JsonBody;
use super::error::ApiError;
use super::models::{Done, RoomEntry, RoomList, RoomOptions};
use super::pages::PageQuery;
use super::params::Integer;
use super::{ApiContext, Tag};

/// Answers to listing rooms.
#[derive(ApiResponse)]
pub enum RoomPage {
    /// The rooms.
    #[oai(status = 200)]
    Ok(
        Json<RoomList>,
        /// The next page, as `<path>; rel="next"`.
        #[oai(header = "Link")]
        Option<String>,
    ),
}

/// Answers to creating a room.
#[derive(ApiResponse)]
pub enum RoomCreated {
    /// The room exists, and you are in it.
    #[oai(status = 201)]
    Created(Json<Done>),
}

/// Answers to looking a room up.
#[derive(ApiResponse)]
pub enum FoundRoom {
    /// The room.
    #[oai(status = 200)]
    Ok(Json<RoomEntry>),
}

/// Answers to listing the members of a room.
#[derive(ApiResponse)]
pub enum MemberPage {
    /// Their usernames.
    #[oai(status = 200)]
    Ok(
        Json<Vec<String>>,
        /// The next page, as `<path>; rel="next"`.
        #[oai(header = "Link")]
        Option<String>,
    ),
}

/// Answers to what leaves nothing to say.
#[derive(ApiResponse)]
pub enum NoContent {
    /// It is done.
    #[oai(status = 204)]
    Done,
}

/// Operations on rooms.
pub struct RoomsApi;

#[OpenApi]
impl RoomsApi {
    /// List rooms
    ///
    /// Public rooms and the private ones you are in, sorted by name, in pages.
    #[oai(path = "/chat", method = "get", operation_id = "listRooms", tag = "Tag::Rooms")]
    async fn list(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Start behind this name.
        after: Query<Option<String>>,
        /// How many at most: 1–1,000.
        limit: Query<Option<Integer>>,
    ) -> Result<RoomPage, ApiError> {
        let page = PageQuery::parse(after.0, limit.0, RoomName::MAX_LEN)?;
        let names = context.rooms.list(&caller.0.session.user, &page.after, page.limit).await?;
        let link = page.link("/chat", names.len(), names.last().map(String::as_str));
        let data = names.into_iter().map(|name| RoomEntry { name }).collect();
        Ok(RoomPage::Ok(Json(RoomList { data }), link))
    }

    /// Create a room
    ///
    /// You become its owner and first member. No body is needed. The name of a deleted room stays with its owner for some
    /// time; an admin can take it.
    #[oai(
        path = "/chat/:room",
        method = "post",
        operation_id = "createRoom",
        tag = "Tag::Rooms"
    )]
    async fn create(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        body: JsonBody<Option<RoomOptions>>,
    ) -> Result<RoomCreated, ApiError> {
        let name = RoomName::parse_new(&room.0)?;
        let is_private = body.0.unwrap_or_default().private.unwrap_or_default();
        context.rooms.create(&caller.0.session.user, name, is_private).await?;
        Ok(RoomCreated::Created(Json(Done::new("Chat created."))))
    }

    /// Look a room up
    ///
    /// Tells whether there is a room of this name for you. It does not join.
    #[oai(path = "/chat/:room", method = "get", operation_id = "getRoom", tag = "Tag::Rooms")]
    async fn get(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
    ) -> Result<FoundRoom, ApiError> {
        let room = context.rooms.get(&room.0, &caller.0.session.user).await?;
        Ok(FoundRoom::Ok(Json(RoomEntry {
            name: room.name.clone(),
        })))
    }

    /// Delete a room
    ///
    /// For its owner and admins; nobody can delete a direct room. Its streams end.
    #[oai(
        path = "/chat/:room",
        method = "delete",
        operation_id = "deleteRoom",
        tag = "Tag::Leave"
    )]
    async fn delete(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
    ) -> Result<NoContent, ApiError> {
        context.rooms.delete(&room.0, &caller.0.session.user).await?;
        Ok(NoContent::Done)
    }

    /// List the users of a room
    ///
    /// Their usernames, sorted, in pages.
    #[oai(
        path = "/chat/:room/users",
        method = "get",
        operation_id = "listMembers",
        tag = "Tag::Rooms"
    )]
    async fn members(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        /// Start behind this username.
        after: Query<Option<String>>,
        /// How many at most: 1–1,000.
        limit: Query<Option<Integer>>,
    ) -> Result<MemberPage, ApiError> {
        let page = PageQuery::parse(after.0, limit.0, Username::MAX_LEN)?;
        let user = &caller.0.session.user;
        let (room, names) = context.rooms.members(&room.0, user, &page.after, page.limit).await?;
        let path = format!("/chat/{}/users", room.name);
        let link = page.link(&path, names.len(), names.last().map(String::as_str));
        Ok(MemberPage::Ok(Json(names), link))
    }

    /// Join a room
    ///
    /// Posting to a public room and following it join it as well, unless you were in an earlier room of this name, which
    /// belonged to somebody else or was private: then this call is needed first.
    #[oai(
        path = "/chat/:room/join",
        method = "post",
        operation_id = "joinRoom",
        tag = "Tag::Rooms"
    )]
    async fn join(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
    ) -> Result<NoContent, ApiError> {
        context.rooms.join(&room.0, &caller.0.session.user).await?;
        Ok(NoContent::Done)
    }

    /// Leave a room
    ///
    /// Your streams of the room end. You join again by reading or posting. A direct room is hidden instead, until its next
    /// message.
    #[oai(
        path = "/chat/:room/message",
        method = "delete",
        operation_id = "leaveRoom",
        tag = "Tag::Leave"
    )]
    async fn leave(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
    ) -> Result<NoContent, ApiError> {
        context.rooms.leave(&room.0, &caller.0.session.user).await?;
        Ok(NoContent::Done)
    }
}
