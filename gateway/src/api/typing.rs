//! `POST /chat/{room}/typing`: telling the others that one is typing.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;

use super::access::Authenticated;
use super::body::JsonBody;
use super::error::ApiError;
use super::{ApiContext, Tag};

/// Whether the caller is typing.
#[derive(Object, Deserialize)]
#[oai(example)]
pub struct TypingState {
    /// True while typing: say it again every few seconds. False when you stop.
    pub typing: bool,
}

impl poem_openapi::types::Example for TypingState {
    fn example() -> Self {
        Self { typing: true }
    }
}

/// Answers to the announcement that one is typing.
#[derive(ApiResponse)]
pub enum TypingNoted {
    /// Those who are there may be told.
    #[oai(status = 204)]
    Noted,
}

/// The operation of typing.
pub struct TypingApi;

#[OpenApi(tag = "Tag::Stream")]
impl TypingApi {
    /// Say that you are typing
    ///
    /// You must be in the room. Who follows all their rooms gets `typing`, which is forgotten after 8 seconds. It is told once a second at most, never waited for and never
    /// repeated: where many type at once only the latest few are shown.
    #[oai(path = "/chat/:room/typing", method = "post", operation_id = "setTyping")]
    async fn set_typing(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Name of the room.
        room: Path<String>,
        body: JsonBody<TypingState>,
    ) -> Result<TypingNoted, ApiError> {
        context.typing.announce(&caller.0.session.user, &room.0, body.0.typing).await?;
        Ok(TypingNoted::Noted)
    }
}
