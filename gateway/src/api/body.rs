//! JSON bodies of requests: one object each.
//!
//! The framework's own payload is not used: it builds a tree first, accepts `null` and arrays against the document that it
//! generates, and shows clients the names of its types.
//!
//! `null` is accepted where a body or a field may be left out, and means that: many generated clients write it for what
//! their caller did not give. The document says so.

use poem::{Request, RequestBody};
use poem_openapi::payload::{Json, ParsePayload, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::error::ApiError;

/// Some writers of text begin a file with this; it has no meaning (RFC 8259, section 8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A parsed body. `JsonBody<Option<T>>` may be left out.
pub struct JsonBody<T>(pub T);

impl<T: Type> Payload for JsonBody<T> {
    const CONTENT_TYPE: &'static str = Json::<T>::CONTENT_TYPE;

    fn check_content_type(content_type: &str) -> bool {
        Json::<T>::check_content_type(content_type)
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Type + DeserializeOwned> ParsePayload for JsonBody<T> {
    const IS_REQUIRED: bool = T::IS_REQUIRED;

    async fn from_request(_request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        let bytes = body.take()?.into_bytes().await?;
        Ok(Self(parse(&bytes, T::IS_REQUIRED)?))
    }
}

impl<'a, T: Type + DeserializeOwned> ApiExtractor<'a> for JsonBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: Self::CONTENT_TYPE,
                schema: Self::schema_ref(),
            }],
            required: Self::IS_REQUIRED,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        match request.content_type() {
            Some(content_type) if Self::check_content_type(content_type) => {
                <Self as ParsePayload>::from_request(request, body).await
            }
            Some(_) | None => Err(ApiError::UnsupportedMediaType.into()),
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], is_required: bool) -> Result<T, ApiError> {
    let json = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let json = match json.trim_ascii_start().first() {
        Some(b'{') => json,
        Some(b'n') if !is_required && json.trim_ascii() == b"null" => json,
        None if !is_required => b"null",
        None => return Err(ApiError::InvalidBody("The body is missing: send a JSON object.".to_owned())),
        Some(_) => return Err(ApiError::InvalidBody("The body must be a JSON object.".to_owned())),
    };
    serde_json::from_slice(json).map_err(|wrong| {
        ApiError::InvalidBody(match wrong.classify() {
            Category::Data => format!("The body is not what this call takes: {wrong}."),
            Category::Syntax | Category::Eof | Category::Io => format!("The body is not JSON: {wrong}."),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::models::{MessageDraft, RoomOptions};

    #[test]
    fn a_body_is_one_object_and_errors_say_why() {
        let draft = |body: &str| parse::<MessageDraft>(body.as_bytes(), true).map(|draft| draft.message.0);
        assert_eq!(draft(r#" {"message":"hello","later":[1]}"#).unwrap(), "hello");
        assert_eq!(draft("\u{feff}{\"message\":\"hello\"}").unwrap(), "hello");
        for (body, part) in [
            ("", "missing"),
            ("  ", "missing"),
            ("null", "must be a JSON object"),
            (r#"["hello"]"#, "must be a JSON object"),
            ("hello", "must be a JSON object"),
            ("{", "not JSON"),
            ("{}", "missing field `message`"),
            (r#"{"message":1}"#, "expected a string"),
            (r#"{"message":null}"#, "expected a string"),
            (r#"{"message":["hello"]}"#, "expected a string"),
        ] {
            let message = draft(body).unwrap_err().to_string();
            assert!(message.contains(part), "{body}: {message}");
            assert!(!message.contains("Draft") && !message.contains("Text"), "{body}: {message}");
        }
    }

    #[test]
    fn null_stands_for_what_is_left_out() {
        let options = |body: &str| parse::<Option<RoomOptions>>(body.as_bytes(), false);
        for none in ["", " ", "null", "\u{feff} null\n"] {
            assert!(options(none).unwrap().is_none(), "{none:?}");
        }
        for (body, private) in [
            ("{}", None),
            (r#"{"private":null}"#, None),
            (r#"{"private":true}"#, Some(true)),
        ] {
            assert_eq!(options(body).unwrap().unwrap().private, private, "{body}");
        }
        for wrong in ["[]", "[true]", "nul", "null null", "none", r#"{"private":1}"#] {
            assert!(options(wrong).is_err(), "{wrong}");
        }
    }
}
