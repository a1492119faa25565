//! Parameters that are accepted in their canonical spelling only.
//!
//! The framework also accepts `+5` and `007` as numbers, and UUIDs in capitals, in braces or without hyphens. Two spellings of
//! one value are two keys to a cache or a proxy, so each value is accepted as we write it and in no other form.

use std::borrow::Cow;

use poem_openapi::registry::MetaSchemaRef;
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult, Type};
use shared::domain::parse_uuid;
use uuid::Uuid;

/// A whole number: digits without leading zeros, behind a `-` if it is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integer(pub i64);

/// A UUID: 36 characters, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanonicalUuid(pub Uuid);

/// Documents a parameter as the type it holds.
macro_rules! documented_as {
    ($parameter:ty, $inner:ty) => {
        impl Type for $parameter {
            const IS_REQUIRED: bool = true;

            type RawValueType = $inner;

            type RawElementValueType = $inner;

            fn name() -> Cow<'static, str> {
                <$inner>::name()
            }

            fn schema_ref() -> MetaSchemaRef {
                <$inner>::schema_ref()
            }

            fn as_raw_value(&self) -> Option<&$inner> {
                Some(&self.0)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a $inner> + 'a> {
                Box::new(std::iter::once(&self.0))
            }
        }
    };
}

documented_as!(Integer, i64);
documented_as!(CanonicalUuid, Uuid);

impl ParseFromParameter for Integer {
    fn parse_from_parameter(raw: &str) -> ParseResult<Self> {
        let number = raw.parse::<i64>().map_err(ParseError::custom)?;
        if number.to_string() == raw {
            Ok(Self(number))
        } else {
            Err(ParseError::custom("write it without '+' and leading zeros"))
        }
    }
}

impl ParseFromParameter for CanonicalUuid {
    fn parse_from_parameter(raw: &str) -> ParseResult<Self> {
        parse_uuid(raw).map(Self).ok_or_else(|| ParseError::custom("write it in lower case, with hyphens"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        for number in [0, 7, -1, i64::MAX, i64::MIN] {
            assert_eq!(Integer::parse_from_parameter(&number.to_string()).unwrap(), Integer(number));
        }
        for other in [
            "",
            "+5",
            "007",
            "-0",
            " 5",
            "5 ",
            "5.0",
            "5e1",
            "0x5",
            "٥",
            "9223372036854775808",
        ] {
            assert!(Integer::parse_from_parameter(other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn a_uuid_has_one_spelling() {
        let id = "01a20ab1-49a0-708d-8bf6-055e5f5df19a";
        assert_eq!(CanonicalUuid::parse_from_parameter(id).unwrap().0.to_string(), id);
        let others = [
            id.to_uppercase(),
            id.replace('-', ""),
            format!("{{{id}}}"),
            format!("urn:uuid:{id}"),
            String::new(),
        ];
        for other in others {
            assert!(CanonicalUuid::parse_from_parameter(&other).is_err(), "{other:?}");
        }
    }
}
