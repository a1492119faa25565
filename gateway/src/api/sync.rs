//! `GET /user/sync`: catching up with all rooms in one call.

use std::sync::Arc;

use bytes::Bytes;
use poem::web::Data;
use poem::{IntoResponse, Response};
use poem_openapi::param::Query;
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type as _;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::access::Authenticated;
use super::error::ApiError;
use super::pages::{parse_count, parse_number};
use super::params::Integer;
use super::{ApiContext, Tag};
use crate::digest::short_digest;
use crate::room_state_json::UserRoomState;
use crate::sync::SyncRequest;

/// Rooms of an answer at most, and if nothing else is asked for.
const ROOMS: (u32, u32) = (100, 50);

/// Messages of each room in a first answer at most, and if nothing else is asked for.
const PREVIEW: (u32, u32) = (20, 1);

/// What a client has missed in all its rooms.
#[derive(Object)]
pub struct SyncAnswer {
    /// Send it as `since` next time, or as `Last-Event-ID` to `/user/events`.
    pub cursor: String,
    /// True if more is there at once.
    pub more: bool,
    /// Why `since` could not be used, if it was not: `malformed`, `foreign`, `ahead` or `too_many`; more may come. What you have may be
    /// outdated, and the answer begins anew.
    #[oai(skip_serializing_if_is_none)]
    pub reset: Option<String>,
    /// Rooms that you no longer have, at most 1,000 in an answer. Drop them before you add those of `rooms`: another room may have the name.
    pub gone: Vec<String>,
    /// Rooms in which something happened, or that are another thing to you.
    pub rooms: Vec<SyncRoom>,
}

/// A room in an answer: what it is to you, and what happened in it.
#[derive(Object)]
pub struct SyncRoom {
    /// What it is to you.
    #[oai(flatten)]
    pub state: UserRoomState,
    /// What was missed, in order; in a first answer the last messages.
    pub entries: Vec<SyncEntry>,
    /// The numbers between what you have and the first entry, if more was missed than comes here: load the room's history.
    #[oai(skip_serializing_if_is_none)]
    pub gap: Option<SyncGap>,
}

/// An entry of a room.
#[derive(Object)]
pub struct SyncEntry {
    /// `message`, or the name of the event on the stream.
    pub event: String,
    /// The data of that event.
    pub data: poem_openapi::types::Any<serde_json::Value>,
}

/// Numbers of entries that are not in the answer.
#[derive(Object)]
pub struct SyncGap {
    /// The first one.
    pub from: i64,
    /// The last one.
    pub to: i64,
}

/// An answer that is encoded already.
pub struct EncodedSync(Bytes);

impl Payload for EncodedSync {
    const CONTENT_TYPE: &'static str = Json::<SyncAnswer>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        SyncAnswer::schema_ref()
    }

    fn register(registry: &mut Registry) {
        SyncAnswer::register(registry);
    }
}

impl IntoResponse for EncodedSync {
    fn into_response(self) -> Response {
        Response::builder().content_type(Self::CONTENT_TYPE).body(self.0)
    }
}

/// Answers to catching up.
#[derive(ApiResponse)]
pub enum Synced {
    /// What was missed.
    #[oai(status = 200)]
    Answer(
        EncodedSync,
        /// Sent back as `If-None-Match`, the same answer is 304 and no body.
        #[oai(header = "ETag")]
        String,
    ),
}

/// The operation of catching up.
pub struct SyncApi;

#[OpenApi(tag = "Tag::Stream")]
impl SyncApi {
    /// Catch up with all your rooms
    ///
    /// What the stream of all your rooms would bring, without holding a connection: for an app that wakes up. Without `since` your rooms
    /// come by latest activity, each with its last messages. While `more` is true, ask again with the new `cursor`. An answer has at most
    /// 1 MiB.
    #[oai(path = "/user/sync", method = "get", operation_id = "syncRooms")]
    async fn sync(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// The cursor of the last answer, or the last id of `/user/events`.
        since: Query<Option<String>>,
        /// Rooms of an answer at most: 1–100, 50 if it is left out.
        limit: Query<Option<Integer>>,
        /// Messages of each room in a first answer: 0–20, 1 if it is left out.
        preview: Query<Option<Integer>>,
    ) -> Result<Synced, ApiError> {
        let (most, usual) = ROOMS;
        let (most_shown, usually_shown) = PREVIEW;
        let request = SyncRequest {
            since: since.0.filter(|raw| !raw.is_empty()),
            rooms: parse_count("limit", limit.0, most)?.unwrap_or(usual),
            preview: parse_number("preview", preview.0, 0..=most_shown)?.unwrap_or(usually_shown),
        };
        let answer = context.syncs.read(caller.0.session.user.id, &request).await?;
        let tag = format!("W/\"{}\"", short_digest(&[&answer]));
        Ok(Synced::Answer(EncodedSync(answer), tag))
    }
}
