//! `/chat/{room}/message/{id}`: one message, and what can be done with it.

use std::sync::Arc;

use bytes::Bytes;
use poem::web::Data;
use poem::{IntoResponse, Response};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type as _;
use poem_openapi::{ApiResponse, OpenApi};
use shared::domain::{Emoji, IdempotencyKey, Invalid, MessageId, MessageText, Seq, parse_uuid};

use super::access::Authenticated;
use super::body::JsonBody;
use super::edge::Arrived;
use super::error::ApiError;
use super::messages::HISTORY_MAX;
use super::models::MessageEdit;
use super::pages::{parse_count, parse_seq};
use super::params::Integer;
use super::rooms::NoContent;
use super::{ApiContext, Tag};
use crate::history::Page;
use crate::message_json::Message;
use crate::messages::{ChangeOf, RoomHistory};

/// A message object that is encoded already.
pub struct MessageBody(Bytes);

impl MessageBody {
    /// The only message of a page.
    fn of(page: &Page) -> Self {
        // Without the brackets of the array.
        Self(page.json.slice(1..page.json.len() - 1))
    }
}

impl Payload for MessageBody {
    const CONTENT_TYPE: &'static str = Json::<Message>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        Message::schema_ref()
    }

    fn register(registry: &mut Registry) {
        Message::register(registry);
    }
}

impl IntoResponse for MessageBody {
    fn into_response(self) -> Response {
        Response::builder().content_type(Self::CONTENT_TYPE).body(self.0)
    }
}

/// A message.
#[derive(ApiResponse)]
pub enum OneMessage {
    /// The message as it is now. A deleted one has `deleted` and no text.
    #[oai(status = 200)]
    Found(MessageBody),
}

impl From<RoomHistory> for OneMessage {
    fn from(read: RoomHistory) -> Self {
        Self::Found(MessageBody::of(&read.page))
    }
}

/// Replies to a message.
#[derive(ApiResponse)]
pub enum Replies {
    /// Messages, the oldest first.
    #[oai(status = 200)]
    Page(
        super::messages::MessagePage,
        /// The next page, as `<path>; rel="next"`.
        #[oai(header = "Link")]
        Option<String>,
    ),
}

/// Reads the id of a message in a path.
fn parse_id(raw: &str) -> Result<MessageId, Invalid> {
    let not_an_id = || Invalid::new("id", "invalid", "Must be a UUID, in lower case with hyphens.");
    parse_uuid(raw).map(MessageId).ok_or_else(not_an_id)
}

/// The message that a request changes.
fn change_of(
    room: Path<String>,
    id: &Path<String>,
    key: &Header<Option<String>>,
    arrived: &Arrived,
) -> Result<ChangeOf, Invalid> {
    Ok(ChangeOf {
        room: room.0,
        id: parse_id(&id.0)?,
        key: key.0.as_deref().map(IdempotencyKey::parse).transpose()?,
        deadline: arrived.prompt_deadline(),
    })
}

/// Operations on a message.
pub struct MessageChangesApi;

#[OpenApi(tag = "Tag::Messages")]
impl MessageChangesApi {
    /// Read one message
    ///
    /// As it is now: a deleted one has `deleted` and no text.
    #[oai(path = "/chat/:room/message/:id", method = "get", operation_id = "getMessage")]
    async fn get(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        /// Id of the message.
        id: Path<String>,
    ) -> Result<OneMessage, ApiError> {
        Ok(context.messages.get(&caller.0.session.user, &room.0, parse_id(&id.0)?).await?.into())
    }

    /// Edit a message
    ///
    /// Replaces the text of a message of yours, for everybody: history has the new one, streams get the event `edit`. Repeat it
    /// after a time-out: that changes nothing more.
    #[oai(path = "/chat/:room/message/:id", method = "patch", operation_id = "editMessage")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter of the operation")]
    async fn edit(
        &self,
        context: Data<&Arc<ApiContext>>,
        arrived: Data<&Arrived>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        /// Id of the message.
        id: Path<String>,
        /// 1–64 visible ASCII characters that name this request among yours for this message: a try that arrives late, after you have
        /// repeated it and gone on, then changes nothing more.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: JsonBody<MessageEdit>,
    ) -> Result<OneMessage, ApiError> {
        let text = MessageText::parse_new(&body.0.message)?;
        let of = change_of(room, &id, &key, &arrived)?;
        Ok(context.messages.edit(&caller.0.session.user, of, text).await?.into())
    }

    /// Delete a message
    ///
    /// One of yours; the owner of the room and admins may delete those of others. The text is gone when this answers. The message
    /// stays in history with `deleted` and without text, so that numbers keep their meaning; streams get the event `delete`.
    #[oai(path = "/chat/:room/message/:id", method = "delete", operation_id = "deleteMessage")]
    async fn delete(
        &self,
        context: Data<&Arc<ApiContext>>,
        arrived: Data<&Arrived>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        /// Id of the message.
        id: Path<String>,
        /// 1–64 visible ASCII characters that name this request among yours for this message: a try that arrives late, after you have
        /// repeated it and gone on, then changes nothing more.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
    ) -> Result<NoContent, ApiError> {
        let of = change_of(room, &id, &key, &arrived)?;
        context.messages.delete(&caller.0.session.user, of).await?;
        Ok(NoContent::Done)
    }

    /// React to a message
    ///
    /// Joins a public room. A message has at most 20 kinds of reactions. Streams get the event `reaction`.
    #[oai(
        path = "/chat/:room/message/:id/reactions/:emoji",
        method = "put",
        operation_id = "addReaction"
    )]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter of the operation")]
    async fn react(
        &self,
        context: Data<&Arc<ApiContext>>,
        arrived: Data<&Arrived>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        /// Id of the message.
        id: Path<String>,
        /// One emoji.
        emoji: Path<String>,
        /// 1–64 visible ASCII characters that name this request among yours for this message: a try that arrives late, after you have
        /// repeated it and gone on, then changes nothing more.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
    ) -> Result<NoContent, ApiError> {
        let emoji = Emoji::parse(&emoji.0)?;
        let of = change_of(room, &id, &key, &arrived)?;
        context.messages.react(&caller.0.session.user, of, emoji, true).await?;
        Ok(NoContent::Done)
    }

    /// Take a reaction back
    ///
    /// It is no error if there is none.
    #[oai(
        path = "/chat/:room/message/:id/reactions/:emoji",
        method = "delete",
        operation_id = "removeReaction"
    )]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter of the operation")]
    async fn take_back(
        &self,
        context: Data<&Arc<ApiContext>>,
        arrived: Data<&Arrived>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        /// Id of the message.
        id: Path<String>,
        /// One emoji.
        emoji: Path<String>,
        /// 1–64 visible ASCII characters that name this request among yours for this message: a try that arrives late, after you have
        /// repeated it and gone on, then changes nothing more.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
    ) -> Result<NoContent, ApiError> {
        let emoji = Emoji::parse(&emoji.0)?;
        let of = change_of(room, &id, &key, &arrived)?;
        context.messages.react(&caller.0.session.user, of, emoji, false).await?;
        Ok(NoContent::Done)
    }

    /// Read the replies to a message
    ///
    /// The oldest first, in pages.
    #[oai(
        path = "/chat/:room/message/:id/replies",
        method = "get",
        operation_id = "listReplies"
    )]
    async fn replies(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        /// Id of the message.
        id: Path<String>,
        /// Only messages with a higher seq.
        after: Query<Option<Integer>>,
        /// How many at most: 1–100.
        limit: Query<Option<Integer>>,
    ) -> Result<Replies, ApiError> {
        let limit = parse_count("limit", limit.0, HISTORY_MAX)?.unwrap_or(HISTORY_MAX);
        let after = after.0.map(|after| parse_seq("after", after)).transpose()?.unwrap_or(Seq::ZERO);
        let (reader, id) = (&caller.0.session.user, parse_id(&id.0)?);
        let (room, page, is_full) = context.messages.replies(reader, &room.0, id, (after, limit)).await?;
        let last = page.seqs.map(|(_, last)| last.0).filter(|_| is_full);
        let link = last
            .map(|last| format!("</chat/{}/message/{id}/replies?after={last}&limit={limit}>; rel=\"next\"", room.name));
        Ok(Replies::Page(super::messages::MessagePage::new(page), link))
    }
}
