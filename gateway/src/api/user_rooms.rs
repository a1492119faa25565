//! `/user/rooms`, and what a user sets for one of their rooms.

use std::sync::Arc;

use bytes::Bytes;
use poem::web::Data;
use poem::{IntoResponse, Response};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::{Example, Type as _};
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;
use shared::domain::{Invalid, Notify, NotifyLevel, Seq, Timestamp};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::access::Authenticated;
use super::body::JsonBody;
use super::error::ApiError;
use super::pages::parse_count;
use super::params::Integer;
use super::rooms::NoContent;
use super::text::Text;
use super::{ApiContext, Tag};
use crate::room_state_json::UserRoom;
use crate::user_rooms::ActivityCursor;

/// Rooms of a page at most, and if nothing else is asked for.
pub(super) const LIMIT: (u32, u32) = (100, 50);

/// Rooms that you are in.
#[derive(Object)]
pub struct UserRoomList {
    /// The rooms.
    pub data: Vec<UserRoom>,
}

/// A list of rooms that is encoded already.
pub struct EncodedRooms(pub(super) Bytes);

impl Payload for EncodedRooms {
    const CONTENT_TYPE: &'static str = Json::<UserRoomList>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        UserRoomList::schema_ref()
    }

    fn register(registry: &mut Registry) {
        UserRoomList::register(registry);
    }
}

impl IntoResponse for EncodedRooms {
    fn into_response(self) -> Response {
        Response::builder().content_type(Self::CONTENT_TYPE).body(self.0)
    }
}

/// Answers to listing one's rooms.
#[derive(ApiResponse)]
pub enum UserRoomPage {
    /// The rooms. A page can be shorter than asked for and have a `Link` to go on.
    #[oai(status = 200)]
    Ok(
        EncodedRooms,
        /// The next page, as `<path>; rel="next"`.
        #[oai(header = "Link")]
        Option<String>,
    ),
}

/// How far somebody has read.
#[derive(Clone, Object, Deserialize)]
#[oai(example)]
pub struct ReadMark {
    /// The last seq that you have read.
    pub seq: i64,
}

impl Example for ReadMark {
    fn example() -> Self {
        Self { seq: 1 }
    }
}

/// What somebody wants to be notified of.
#[derive(Clone, Object, Deserialize)]
#[oai(example)]
pub struct NotifySetting {
    /// `all`, `mentions` or `none`.
    pub level: Text,
    /// When the level ends, and is `all` again: RFC 3339. Never, if it is left out.
    #[oai(skip_serializing_if_is_none)]
    pub until: Option<Text>,
}

impl Example for NotifySetting {
    fn example() -> Self {
        Self {
            level: "mentions".into(),
            until: None,
        }
    }
}

impl TryFrom<NotifySetting> for Notify {
    type Error = Invalid;

    fn try_from(setting: NotifySetting) -> Result<Self, Invalid> {
        let level = NotifyLevel::parse(&setting.level)
            .map_err(|_| Invalid::new("level", "invalid", "Must be 'all', 'mentions' or 'none'."))?;
        let until = setting.until.map(|until| parse_time(&until)).transpose()?;
        Ok(Self { level, until })
    }
}

/// The last time that RFC 3339 can write, of the year 9999, in milliseconds.
const LAST_TIME_MS: i64 = 253_402_300_799_999;

/// Reads a point in time.
fn parse_time(raw: &str) -> Result<Timestamp, Invalid> {
    let at = OffsetDateTime::parse(raw, &Rfc3339).ok();
    let milliseconds = at.and_then(|at| i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
    let not_a_time = || Invalid::new("until", "invalid", "Must be a time such as 2021-08-30T01:58:15.856Z.");
    // One before the first that is kept has passed all the same, and nobody waits for one after the last.
    milliseconds.map(|at| Timestamp(at.clamp(0, LAST_TIME_MS))).ok_or_else(not_a_time)
}

/// Operations on the rooms of a user.
pub struct UserRoomsApi;

#[OpenApi(tag = "Tag::Rooms")]
impl UserRoomsApi {
    /// List your rooms
    ///
    /// The rooms that you are in with what is new in them, the one with the latest entry first, in pages. A direct room that you have
    /// left comes back with its next message.
    #[oai(path = "/user/rooms", method = "get", operation_id = "listUserRooms")]
    async fn list(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Goes on where an earlier page ended: the value in its `Link`.
        before: Query<Option<String>>,
        /// How many at most: 1–100, 50 if it is left out.
        limit: Query<Option<Integer>>,
    ) -> Result<UserRoomPage, ApiError> {
        let (most, usual) = LIMIT;
        let limit = parse_count("limit", limit.0, most)?.unwrap_or(usual);
        let before = before.0.map(|raw| {
            let not_a_cursor =
                || Invalid::new("before", "invalid", "Must be the value in the `Link` of an earlier page.");
            ActivityCursor::parse(&raw).ok_or_else(not_a_cursor)
        });
        let page = context.user_rooms.list(&caller.0.session.user, before.transpose()?, limit).await?;
        let link = page.next.map(|next| format!("</user/rooms?before={next}&limit={limit}>; rel=\"next\""));
        Ok(UserRoomPage::Ok(EncodedRooms(page.json), link))
    }

    /// Mark a room as read
    ///
    /// Up to a seq, on all your devices. The mark only moves forward, and ends at the last entry of the room. `unread` and `mentions`
    /// count what is behind it.
    #[oai(path = "/chat/:room/read", method = "put", operation_id = "setReadMark")]
    async fn set_read(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        body: JsonBody<ReadMark>,
    ) -> Result<NoContent, ApiError> {
        let ReadMark { seq } = body.0;
        if seq < 0 {
            return Err(Invalid::new("seq", "out_of_range", "Must not be negative.").into());
        }
        context.user_rooms.set_read(&caller.0.session.user, &room.0, Seq(seq)).await?;
        Ok(NoContent::Done)
    }

    /// Choose notifications
    ///
    /// Which messages of a room you want to be notified of, on all your devices, for ever or for some time.
    #[oai(path = "/chat/:room/notify", method = "put", operation_id = "setNotify")]
    async fn set_notify(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        body: JsonBody<NotifySetting>,
    ) -> Result<NoContent, ApiError> {
        let notify = Notify::try_from(body.0)?;
        context.user_rooms.set_notify(&caller.0.session.user, &room.0, notify).await?;
        Ok(NoContent::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_any_zone_and_precision() {
        for raw in [
            "2021-08-30T01:58:15.856Z",
            "2021-08-30T03:58:15.856999+02:00",
            "2021-08-30T01:58:15.856-00:00",
        ] {
            assert_eq!(parse_time(raw), Ok(Timestamp(1_630_288_695_856)), "{raw}");
        }
        for raw in ["", "tomorrow", "2021-08-30", "2021-08-30T01:58:15", "1630288695856"] {
            assert!(parse_time(raw).is_err(), "{raw:?}");
        }
        assert_eq!(parse_time("1969-12-31T23:59:59Z").ok(), Some(Timestamp(0)));
        assert_eq!(parse_time("9999-12-31T23:59:59-23:59").ok(), Some(Timestamp(LAST_TIME_MS)));
    }
}
