//! Lists in pages: their parameters, and the header `Link` to the next page.

use std::ops::RangeInclusive;

use shared::domain::{Invalid, Seq};

use super::error::ApiError;
use super::params::Integer;

/// Entries of a list at most, and if nothing else is asked for.
const PAGE_MAX: u32 = 1_000;

/// Which part of a list is wanted.
pub(super) struct PageQuery {
    /// The entry before the first one wanted.
    pub(super) after: String,
    /// Entries at most.
    pub(super) limit: u32,
}

impl PageQuery {
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

/// Reads a parameter that is a seq.
pub(super) fn parse_seq(field: &'static str, Integer(value): Integer) -> Result<Seq, Invalid> {
    match value {
        0.. => Ok(Seq(value)),
        _ => Err(Invalid::new(field, "out_of_range", "Must not be negative.")),
    }
}

/// Reads a parameter that counts something: from 1 to `max`.
pub(super) fn parse_count(field: &'static str, value: Option<Integer>, max: u32) -> Result<Option<u32>, Invalid> {
    parse_number(field, value, 1..=max)
}

/// Reads a parameter that is a number of `range`.
pub(super) fn parse_number(
    field: &'static str,
    value: Option<Integer>,
    range: RangeInclusive<u32>,
) -> Result<Option<u32>, Invalid> {
    let Some(Integer(value)) = value else {
        return Ok(None);
    };
    match u32::try_from(value) {
        Ok(number) if range.contains(&number) => Ok(Some(number)),
        _ => {
            let message = format!("Must be from {} to {}.", range.start(), range.end());
            Err(Invalid::new(field, "out_of_range", message))
        }
    }
}
