//! A field of a body that may be left out.
//!
//! The framework takes `null` for a field that is not there, against the document it generates, by which an optional
//! string is a string. A client that sends `{"private": null}` has a fault, and is told of it.

use std::borrow::Cow;

use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use serde_json::Value;

/// What a client sent in a field, if it sent the field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Optional<T>(pub Option<T>);

impl<T: Type> Type for Optional<T> {
    const IS_REQUIRED: bool = false;

    type RawValueType = T::RawValueType;

    type RawElementValueType = T::RawElementValueType;

    fn name() -> Cow<'static, str> {
        Option::<T>::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        self.0.as_raw_value()
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        self.0.raw_element_iter()
    }

    fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl<T: ParseFromJSON> ParseFromJSON for Optional<T> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            None => Ok(Self(None)),
            Some(Value::Null) => Err(ParseError::expected_type(Value::Null)),
            value => T::parse_from_json(value).map(|value| Self(Some(value))).map_err(ParseError::propagate),
        }
    }
}

impl<T: ToJSON> ToJSON for Optional<T> {
    fn to_json(&self) -> Option<Value> {
        self.0.to_json()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_there_or_not_but_never_null() {
        let parse = |value| Optional::<bool>::parse_from_json(value).ok();
        assert_eq!(parse(None), Some(Optional(None)));
        assert_eq!(parse(Some(json!(true))), Some(Optional(Some(true))));
        for wrong in [json!(null), json!("true"), json!(1), json!([])] {
            assert_eq!(parse(Some(wrong)), None);
        }
    }
}
