//! `/search/messages`: finding what was said.

use std::sync::Arc;

use poem::web::Data;
use poem::{IntoResponse, Response};
use poem_openapi::param::Query;
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type as _;
use poem_openapi::{ApiResponse, Object, OpenApi};
use shared::domain::{Invalid, PublicId, SearchQuery};

use super::access::Authenticated;
use super::error::ApiError;
use super::pages::{parse_count, parse_seq};
use super::params::Integer;
use super::{ApiContext, Tag};
use crate::message_json::Message;
use crate::search::{SearchAnswer, Wanted};

/// Messages of an answer at most, and if nothing else is asked for.
pub(super) const LIMIT: (u32, u32) = (100, 20);

/// The longest name of a user, in characters.
pub(super) const FROM_MAX_LEN: usize = PublicId::MAX_LEN;

/// Messages that were found.
#[derive(Object)]
pub struct SearchResults {
    /// The messages, the newest first, each with a `snippet`.
    pub data: Vec<Message>,
}

/// The object of messages that is encoded already.
pub struct EncodedResults(SearchAnswer);

impl Payload for EncodedResults {
    const CONTENT_TYPE: &'static str = Json::<SearchResults>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        SearchResults::schema_ref()
    }

    fn register(registry: &mut Registry) {
        SearchResults::register(registry);
    }
}

impl IntoResponse for EncodedResults {
    fn into_response(self) -> Response {
        Response::builder().content_type(Self::CONTENT_TYPE).body(self.0.json)
    }
}

/// Answers to a search.
#[derive(ApiResponse)]
pub enum Found {
    /// What was found. A page can be shorter than asked for, even empty, and have a `Link` to go on.
    #[oai(status = 200)]
    Page(
        EncodedResults,
        /// The next page, as `<path>; rel="next"`.
        #[oai(header = "Link")]
        Option<String>,
    ),
}

/// Operations that search.
pub struct SearchApi;

#[OpenApi(tag = "Tag::Messages")]
impl SearchApi {
    /// Search messages
    ///
    /// Finds the messages that have all words of `q`, the newest first, in the rooms that you are in, or in `room`. Case and accents
    /// make no difference. `"two words"` in quotes must follow each other, and `wor*` is the beginning of a word. What was just
    /// posted is found at once, and what was edited or deleted is not found any more.
    #[oai(path = "/search/messages", method = "get", operation_id = "searchMessages")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter of the operation")]
    async fn search(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Words, phrases in quotes and beginnings of words: 1–200 characters.
        q: Query<String>,
        /// Only in this room, which need not be one that you are in if it is public.
        room: Query<Option<String>>,
        /// Only messages of this user: a username or a public id.
        from: Query<Option<String>>,
        /// Goes on where an earlier answer ended: the number in its `Link`.
        before: Query<Option<Integer>>,
        /// How many at most: 1–100, 20 if it is left out.
        limit: Query<Option<Integer>>,
    ) -> Result<Found, ApiError> {
        let (most, usual) = LIMIT;
        let limit = parse_count("limit", limit.0, most)?.unwrap_or(usual);
        let before = before.0.map(|before| parse_seq("before", before)).transpose()?;
        let wanted = Wanted {
            query: SearchQuery::parse(&q.0)?,
            room: room.0,
            from: from.0.map(parse_from).transpose()?,
            before: before.map(|before| before.0),
            limit,
        };
        let given = [
            ("q", Some(&q.0)),
            ("room", wanted.room.as_ref()),
            ("from", wanted.from.as_ref()),
        ];
        let this_search = repeated(&given);
        let answer = context.searches.search(&caller.0.session.user, wanted).await?;
        let next = |next| format!("</search/messages?{this_search}before={next}&limit={limit}>; rel=\"next\"");
        let link = answer.next.map(next);
        Ok(Found::Page(EncodedResults(answer), link))
    }
}

/// Reads the name of a user.
fn parse_from(name: String) -> Result<String, Invalid> {
    match name.chars().count() {
        0 => Err(Invalid::new("from", "too_short", "Must have at least 1 character(s).")),
        1..=FROM_MAX_LEN => Ok(name),
        _ => Err(Invalid::new("from", "too_long", format!("Must have at most {FROM_MAX_LEN} characters."))),
    }
}

/// Parameters as they are repeated in a link, each with the sign that follows it.
fn repeated(parameters: &[(&str, Option<&String>)]) -> String {
    let parameter = |(name, value): &(&str, Option<&String>)| {
        let value = percent_encoding::utf8_percent_encode(value.as_ref()?, percent_encoding::NON_ALPHANUMERIC);
        Some(format!("{name}={value}&"))
    };
    parameters.iter().filter_map(parameter).collect()
}
