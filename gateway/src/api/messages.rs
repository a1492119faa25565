//! `/chat/{room}/message` and `/chat/{room}/messagehistory`: saying something and reading what was said.

use std::sync::Arc;

use poem::web::Data;
use poem::{IntoResponse, Response};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type as _;
use poem_openapi::{ApiResponse, OpenApi};
use shared::domain::{IdempotencyKey, Invalid, MessageExtra, MessageId, MessageText, Seq, StreamCursor, parse_uuid};
use shared::storage::{Room, Window};

use super::access::Authenticated;
use super::body::JsonBody;
use super::edge::Arrived;
use super::error::ApiError;
use super::models::MessageDraft;
use super::pages::{parse_count, parse_seq};
use super::params::{CanonicalUuid, Integer};
use super::{ApiContext, Tag};
use crate::history::Page;
use crate::message_json::Message;
use crate::messages::{Draft, PostedMessage, RoomHistory};

/// Messages of a page of history at most, and if nothing else is asked for.
pub(super) const HISTORY_MAX: u32 = 100;

/// Answers to posting a message.
#[derive(ApiResponse)]
pub enum Posted {
    /// The message is recorded: it appears exactly once in the history, after everything acknowledged before it.
    #[oai(status = 204)]
    Accepted(
        /// Id of the message.
        #[oai(header = "Message-Id")]
        String,
        /// URL of the message once it is stored, which takes milliseconds.
        #[oai(header = "Location")]
        String,
        /// Its `seq` in the room if it is stored already: always with `--ack stored`, of a reply, and when the post repeats
        /// a message that was stored before.
        #[oai(header = "Message-Seq")]
        Option<i64>,
    ),
}

/// An array of message objects that is encoded already: what many read is encoded once.
pub struct MessagePage(Arc<Page>);

impl MessagePage {
    /// The payload of `page`, which nobody else reads.
    pub(super) fn new(page: Page) -> Self {
        Self(Arc::new(page))
    }
}

impl Payload for MessagePage {
    const CONTENT_TYPE: &'static str = Json::<Vec<Message>>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        Vec::<Message>::schema_ref()
    }

    fn register(registry: &mut Registry) {
        Vec::<Message>::register(registry);
    }
}

impl IntoResponse for MessagePage {
    fn into_response(self) -> Response {
        let mut response = Response::builder().content_type(Self::CONTENT_TYPE).body(self.0.json.clone());
        response.set_data(self.0.packed.clone());
        response
    }
}

/// Answers to reading history.
#[derive(ApiResponse)]
pub enum HistoryRead {
    /// Messages, newest first.
    #[oai(status = 200)]
    Page(
        MessagePage,
        /// Position at which the answer was read: a stream opened with it goes on exactly from here.
        #[oai(header = "Last-Event-ID")]
        String,
        /// Changes whenever the room does. Sent back as `If-None-Match`, the same page is answered with 304 and no body.
        #[oai(header = "ETag")]
        String,
        /// Lowest seq of the page.
        #[oai(header = "X-First-Seq")]
        Option<i64>,
        /// Highest seq of the page.
        #[oai(header = "X-Last-Seq")]
        Option<i64>,
        /// The next page, as `<path>; rel="next"`.
        #[oai(header = "Link")]
        Option<String>,
    ),
}

/// Operations on messages.
pub struct MessagesApi;

#[OpenApi(tag = "Tag::Messages")]
impl MessagesApi {
    /// Post a message
    ///
    /// Joins a public room. With an `Idempotency-Key` a repetition is the same message, however often and through
    /// whichever gateway it is sent: repeat after a time-out until you get an answer.
    #[oai(path = "/chat/:room/message", method = "post", operation_id = "postMessage")]
    async fn post(
        &self,
        context: Data<&Arc<ApiContext>>,
        arrived: Data<&Arrived>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        /// 1–64 visible ASCII characters that name this message among all of yours. A UUIDv7 is stored with the least work.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: JsonBody<MessageDraft>,
    ) -> Result<Posted, ApiError> {
        let sender = &caller.0.session.user;
        let draft = draft(body.0, key.0.as_deref())?;
        let deadline = arrived.prompt_deadline();
        let PostedMessage { room, acknowledged } = context.messages.post(sender, &room.0, draft, deadline).await?;
        Ok(Posted::Accepted(
            acknowledged.id.to_string(),
            format!("/chat/{}/messagehistory?message_id={}", room.name, acknowledged.id),
            acknowledged.seq.map(|seq| seq.0),
        ))
    }

    /// Read history
    ///
    /// The newest 100 messages, newest first. Pages: `before` goes back, `after` goes forward. A page has about 1 MiB at most:
    /// one that is shorter than asked for has a `Link` to the rest.
    #[oai(path = "/chat/:room/messagehistory", method = "get", operation_id = "readHistory")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter of the operation")]
    async fn history(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        /// How many at most: 1–100.
        limit: Query<Option<Integer>>,
        /// Only messages with a lower seq.
        before: Query<Option<Integer>>,
        /// Only messages with a higher seq, beginning with the lowest.
        after: Query<Option<Integer>>,
        /// The messages around this seq, half of them below it; `before` and `after` do not count then.
        around: Query<Option<Integer>>,
        /// Only the message of this id; none if it is not stored (yet).
        message_id: Query<Option<CanonicalUuid>>,
    ) -> Result<HistoryRead, ApiError> {
        let limit = parse_count("limit", limit.0, HISTORY_MAX)?.unwrap_or(HISTORY_MAX);
        let window = match message_id.0 {
            Some(CanonicalUuid(id)) => Window::Only(MessageId(id)),
            None => window(before.0, after.0, around.0)?,
        };
        let reader = &caller.0.session.user;
        let RoomHistory { room, head, page } = context.messages.history(reader, &room.0, window, limit).await?;
        let (first, last) = page.seqs.unzip();
        let link = page.seqs.and_then(|seqs| next_page(&room, seqs, head.seq, window, limit));
        let tag = entity_tag(head);
        let (first, last) = (first.map(|seq| seq.0), last.map(|seq| seq.0));
        Ok(HistoryRead::Page(MessagePage(page), head.to_string(), tag, first, last, link))
    }
}

/// Names what a page of a room shows at `position`: any page, since nothing is in a room's history that did not move its
/// head. It is weak, because the compressed page is the same page; an upgrade may change the objects.
fn entity_tag(position: StreamCursor) -> String {
    format!("W/\"{}-{position}\"", env!("CARGO_PKG_VERSION"))
}

/// What a client wants to post, under `key`.
fn draft(draft: MessageDraft, key: Option<&str>) -> Result<Draft, Invalid> {
    let mentions: Vec<String> = draft.mentions.into_iter().flatten().map(|name| name.0).collect();
    if mentions.len() > MessageExtra::MAX_MENTIONS {
        let message = format!("Must have at most {} names.", MessageExtra::MAX_MENTIONS);
        return Err(Invalid::new("mentions", "too_long", message));
    }
    let not_an_id = || Invalid::new("reply_to", "bad_id", "Give the id of a message, in lower case with hyphens.");
    let reply_to = draft.reply_to.map(|raw| parse_uuid(&raw).map(MessageId).ok_or_else(not_an_id)).transpose()?;
    Ok(Draft {
        text: MessageText::parse_new(&draft.message)?,
        reply_to,
        mentions,
        key: key.map(IdempotencyKey::parse).transpose()?,
    })
}

fn window(before: Option<Integer>, after: Option<Integer>, around: Option<Integer>) -> Result<Window, Invalid> {
    if let Some(middle) = around {
        return Ok(Window::Around(parse_seq("around", middle)?));
    }
    Ok(match (before, after) {
        (None, None) => Window::Before(Seq(i64::MAX)),
        (Some(before), None) => Window::Before(parse_seq("before", before)?),
        (None, Some(after)) => Window::After(parse_seq("after", after)?),
        (Some(before), Some(after)) => Window::Between(parse_seq("after", after)?, parse_seq("before", before)?),
    })
}

/// The header `Link` to what follows a page from `first` to `last` in its direction, if there is more.
fn next_page(room: &Room, (first, last): (Seq, Seq), head: Seq, window: Window, limit: u32) -> Option<String> {
    let query = match window {
        Window::After(_) if last < head => format!("after={}", last.0),
        Window::Before(_) if first.0 > 1 => format!("before={}", first.0),
        Window::Between(after, _) if first > after.next() => {
            format!("after={}&before={}", after.0, first.0)
        }
        Window::After(_) | Window::Before(_) | Window::Between(..) | Window::Only(_) | Window::Around(_) => {
            return None;
        }
    };
    Some(format!("</chat/{}/messagehistory?{query}&limit={limit}>; rel=\"next\"", room.name))
}
