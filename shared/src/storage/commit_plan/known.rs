//! Which messages of a commit are stored already, and which share an id with another one.

use std::borrow::Cow;
use std::collections::HashMap;

use super::changes::decode_extra;
use crate::domain::{Accepted, MessageExtra, MessageId, RoomId, Seq};
use crate::storage::commit_statements::KnownRow;

/// The derived ids of those `messages` whose own id belongs to another message: to a stored one, as `known` says, or to an
/// earlier one in this commit.
///
/// This happens if two gateways accept different messages under one idempotency key before either is stored. Both were
/// acknowledged, so neither may be lost.
pub(super) fn derived_ids<'a>(
    messages: impl Iterator<Item = &'a Accepted>,
    known: &HashMap<MessageId, Known<'_>>,
) -> Vec<MessageId> {
    let mut first: HashMap<MessageId, &Accepted> = HashMap::new();
    let mut derived = Vec::new();
    for message in messages {
        let is_other = if let Some(known) = known.get(&message.id) {
            !known.is(message)
        } else {
            let first = first.entry(message.id).or_insert(message);
            (first.room, &first.text) != (message.room, &message.text)
        };
        if is_other {
            derived.push(message.id.derived_for(message.room, &message.text));
        }
    }
    derived
}

/// The message that an id belongs to.
pub(super) struct Known<'a> {
    pub(super) seq: Seq,
    pub(super) room: RoomId,
    pub(super) text: Cow<'a, str>,
    pub(super) extra: Option<Box<MessageExtra>>,
}

impl Known<'_> {
    pub(super) fn stored((id, seq, room, text, extra): KnownRow) -> Result<(MessageId, Self), sqlx::Error> {
        let known = Self {
            seq: Seq(seq),
            room: RoomId(room),
            text: text.into(),
            extra: decode_extra(extra.as_deref())?,
        };
        Ok((MessageId(id), known))
    }

    /// Whether `message` is the same message again.
    pub(super) fn is(&self, message: &Accepted) -> bool {
        let (posted, current) = (message.text.as_str(), &*self.text);
        let is_text = self
            .extra
            .as_ref()
            .map_or_else(|| posted == current, |extra| extra.was_posted_with(posted, current));
        self.room == message.room && is_text
    }
}
