//! `/chat`: rooms and who is in them.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use shared::bus::ControlEvent;
use shared::domain::{Invalid, RoomName, Timestamp, UserId, Username};
use shared::storage::{CreateRoom, JoinMode, Room};

use super::Tag;
use super::access::Authenticated;
use super::body::JsonBody;
use super::error::{ApiError, FORBIDDEN};
use super::models::{Done, RoomEntry, RoomList, RoomOptions};
use super::params::Integer;
use crate::app::App;
use crate::rooms::{Joined, NotJoined};

/// Entries of a list at most, and if nothing else is asked for.
const PAGE_MAX: u32 = 1_000;

/// How often a room is looked up that somebody else deletes in the same moment.
const LOOKED_UP_AT_MOST: u32 = 3;

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
        app: Data<&Arc<App>>,
        caller: Authenticated,
        /// Start behind this name.
        after: Query<Option<String>>,
        /// How many at most: 1–1,000.
        limit: Query<Option<Integer>>,
    ) -> Result<RoomPage, ApiError> {
        let page = Page::parse(after.0, limit.0, RoomName::MAX_LEN)?;
        let names = app.store.list_rooms(caller.0.session.user.id, &page.after, page.limit).await?;
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
        app: Data<&Arc<App>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        body: JsonBody<Option<RoomOptions>>,
    ) -> Result<RoomCreated, ApiError> {
        let name = RoomName::parse(&room.0)?;
        let is_private = body.0.unwrap_or_default().private.unwrap_or_default();
        let (creator, now) = (&caller.0.session.user, Timestamp::now());
        app.limits.create_room(creator.id).await?;
        let new = CreateRoom {
            name: name.clone(),
            owner: creator.id,
            is_private,
            // An admin may create it, and so free the name.
            reserved_since: (!creator.is_admin).then(|| now.minus(app.config.room_name_kept())),
        };
        let most = match app.config.limits.rooms_per_user {
            0 => u32::MAX,
            most => most,
        };
        let room = app.store.create_room_within(most, new, now).await?;
        if room.has_predecessor() {
            // From this answer on every gateway means this room by the name.
            app.change(async move { Ok(Some(ControlEvent::RoomReplaced { name })) }).await?;
        }
        Ok(RoomCreated::Created(Json(Done::new("Chat created."))))
    }

    /// Look a room up
    ///
    /// Tells whether there is a room of this name for you. It does not join.
    #[oai(path = "/chat/:room", method = "get", operation_id = "getRoom", tag = "Tag::Rooms")]
    async fn get(
        &self,
        app: Data<&Arc<App>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
    ) -> Result<FoundRoom, ApiError> {
        let room = visible(&app, &room.0, caller.0.session.user.id).await?;
        Ok(FoundRoom::Ok(Json(RoomEntry {
            name: room.name.clone(),
        })))
    }

    /// Delete a room
    ///
    /// For its owner and admins. Its streams end.
    #[oai(
        path = "/chat/:room",
        method = "delete",
        operation_id = "deleteRoom",
        tag = "Tag::Leave"
    )]
    async fn delete(
        &self,
        app: Data<&Arc<App>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
    ) -> Result<NoContent, ApiError> {
        let user = &caller.0.session.user;
        let not_found = || ApiError::RoomNotFound(shown(&room.0));
        let name = RoomName::parse(&room.0).map_err(|_| not_found())?;
        app.ensure_fresh().await?;
        for _ in 0..LOOKED_UP_AT_MOST {
            let room = app.rooms.known_to(&name, user).await?.ok_or_else(not_found)?;
            if room.owner_id != user.id && !user.is_admin {
                FORBIDDEN.report(format_args!("user:{}", user.id.0), "delete a room");
                return Err(ApiError::Forbidden);
            }
            let (store, id, name_of_it, now) = (app.store.clone(), room.id, name.clone(), Timestamp::now());
            let delete = async move {
                let deleted = store.delete_room(id, now).await?;
                Ok(deleted.then_some(ControlEvent::RoomDeleted {
                    room: id,
                    name: name_of_it,
                }))
            };
            if app.change(delete).await? {
                return Ok(NoContent::Done);
            }
            // Somebody else was first. There may be another room of this name since.
            app.rooms.forget_room(&name);
        }
        Err(not_found())
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
        app: Data<&Arc<App>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        /// Start behind this username.
        after: Query<Option<String>>,
        /// How many at most: 1–1,000.
        limit: Query<Option<Integer>>,
    ) -> Result<MemberPage, ApiError> {
        let page = Page::parse(after.0, limit.0, Username::MAX_LEN)?;
        let user = caller.0.session.user.id;
        let mut room = visible(&app, &room.0, user).await?;
        let mut names = app.store.list_members(room.id, user, &page.after, page.limit).await?;
        if names.is_empty() {
            // It may be gone since it was looked up.
            room = visible_by_sql(&app, &room.name, user).await?;
            names = app.store.list_members(room.id, user, &page.after, page.limit).await?;
        }
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
        app: Data<&Arc<App>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
    ) -> Result<NoContent, ApiError> {
        joined(&app, &room.0, caller.0.session.user.id, JoinMode::Explicit).await?;
        Ok(NoContent::Done)
    }

    /// Leave a room
    ///
    /// Your streams of the room end. You join again by reading or posting.
    #[oai(
        path = "/chat/:room/message",
        method = "delete",
        operation_id = "leaveRoom",
        tag = "Tag::Leave"
    )]
    async fn leave(
        &self,
        app: Data<&Arc<App>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
    ) -> Result<NoContent, ApiError> {
        let user = caller.0.session.user.id;
        app.limits.join(user).await?;
        let room = visible(&app, &room.0, user).await?;
        let (store, room) = (app.store.clone(), room.id);
        let leave = async move {
            let membership = store.leave(room, user).await?;
            Ok(Some(ControlEvent::MemberRemoved { room, user, membership }))
        };
        app.change(leave).await?;
        Ok(NoContent::Done)
    }
}

/// The room of this name if `user` may see it.
pub(super) async fn visible(app: &App, name: &str, user: UserId) -> Result<Arc<Room>, ApiError> {
    let not_found = || ApiError::RoomNotFound(shown(name));
    let parsed = RoomName::parse(name).map_err(|_| not_found())?;
    app.ensure_fresh().await?;
    app.rooms.visible(&parsed, user).await?.ok_or_else(not_found)
}

/// The same, whatever is remembered of the name.
pub(super) async fn visible_by_sql(app: &App, name: &str, user: UserId) -> Result<Arc<Room>, ApiError> {
    if let Ok(parsed) = RoomName::parse(name) {
        app.rooms.forget_room(&parsed);
    }
    visible(app, name, user).await
}

/// The room of this name with `user` as a member.
pub(super) async fn joined(app: &App, name: &str, user: UserId, mode: JoinMode) -> Result<Joined, ApiError> {
    let parsed = RoomName::parse(name).map_err(|_| ApiError::RoomNotFound(shown(name)))?;
    app.ensure_fresh().await?;
    let joined = app.rooms.joined(&parsed, user, mode, Timestamp::now()).await;
    joined.map_err(|cause| match cause {
        NotJoined::NoRoom => ApiError::RoomNotFound(shown(name)),
        NotJoined::Replaced => ApiError::RoomReplaced(shown(name)),
        NotJoined::Limited(cause) => cause.into(),
        NotJoined::Store(cause) => cause.into(),
    })
}

/// As much of a name as fits an error message.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(RoomName::MAX_LEN).collect()
}

/// Which part of a list is wanted.
pub(super) struct Page {
    /// The entry before the first one wanted.
    pub(super) after: String,
    /// Entries at most.
    pub(super) limit: u32,
}

impl Page {
    /// Reads the two parameters of a list whose entries have up to `longest` characters. The first one need not be an entry: the
    /// one that it was may be gone.
    pub(super) fn parse(after: Option<String>, limit: Option<Integer>, longest: usize) -> Result<Self, ApiError> {
        let limit = parse_count("limit", limit, PAGE_MAX)?.unwrap_or(PAGE_MAX);
        let after = after.unwrap_or_default();
        if after.chars().count() > longest {
            let message = format!("Must have at most {longest} characters.");
            return Err(Invalid::new("after", "too_long", message).into());
        }
        if after.contains('\0') {
            return Err(Invalid::new("after", "bad_characters", "Must not contain the character U+0000.").into());
        }
        Ok(Self { after, limit })
    }

    /// The header `Link` to the next page, if this one is full.
    pub(super) fn link(&self, path: &str, count: usize, last: Option<&str>) -> Option<String> {
        let full = count >= self.limit as usize;
        let after = last.filter(|_| full)?;
        let after = percent_encoding::utf8_percent_encode(after, percent_encoding::NON_ALPHANUMERIC);
        Some(format!("<{path}?after={after}&limit={}>; rel=\"next\"", self.limit))
    }
}

/// Reads a parameter that counts something: from 1 to `max`.
pub(super) fn parse_count(field: &'static str, value: Option<Integer>, max: u32) -> Result<Option<u32>, Invalid> {
    let Some(Integer(value)) = value else {
        return Ok(None);
    };
    match u32::try_from(value) {
        Ok(count) if (1..=max).contains(&count) => Ok(Some(count)),
        _ => Err(Invalid::new(field, "out_of_range", format!("Must be from 1 to {max}."))),
    }
}
