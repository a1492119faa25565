//! Idempotency keys that were used lately at this gateway: they distinguish a retry from another message under the same key while
//! SQL has neither of them yet.
//!
//! A key that is used for two messages at two gateways before the first one is stored is not noticed here. Then both are
//! accepted and both are stored, the second under an id of its own: see the commit.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::domain::{MessageId, RoomId};

use super::AcceptError;
use crate::digest::digest_of;

/// Keys of one generation, of which two are kept: 15 MB at most.
const GENERATION_KEYS: usize = 50_000;

/// The longest that a generation lasts; while a worker lives, what was accepted is stored long before.
const GENERATION_TIME: Duration = Duration::from_secs(30);

/// What a key stands for. Name and text are only compared, so digests of them are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyUse {
    room: RoomId,
    room_name: [u8; 8],
    text: [u8; 8],
}

impl KeyUse {
    /// A message with this text in this room.
    pub(super) fn of(room: RoomId, room_name: &str, text: &str) -> Self {
        Self {
            room,
            room_name: short_digest(room_name),
            text: short_digest(text),
        }
    }
}

fn short_digest(text: &str) -> [u8; 8] {
    *digest_of(&[text.as_bytes()]).first_chunk().expect("a digest is longer")
}

/// A key that is reserved for a message.
#[derive(Debug, Clone, Copy)]
struct KeyReservation {
    used: KeyUse,
    /// Redis has the message.
    is_recorded: bool,
}

/// The keys of this generation and of the one before. Every change is one call on a map, so a panic leaves them whole.
pub(super) struct RecentKeys(Mutex<Generations>);

struct Generations {
    began: Instant,
    now: HashMap<MessageId, KeyReservation>,
    before: HashMap<MessageId, KeyReservation>,
}

impl RecentKeys {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Generations {
            began: Instant::now(),
            now: HashMap::new(),
            before: HashMap::new(),
        }))
    }

    /// Reserves the key of `id` at `now`; true if it was not used before. Fails if it stands for another message.
    pub(super) fn reserve(&self, id: MessageId, used: KeyUse, now: Instant) -> Result<bool, AcceptError> {
        let mut keys = self.0.lock();
        // Of two rooms of one name the earlier one was deleted.
        let is_in_earlier_room = |known: &KeyUse| known.text == used.text && known.room_name == used.room_name;
        match keys.now.get(&id).or_else(|| keys.before.get(&id)) {
            Some(known) if known.used == used => return Ok(false),
            Some(known) if !is_in_earlier_room(&known.used) => return Err(AcceptError::KeyReused),
            Some(known) if known.is_recorded => return Err(AcceptError::RoomDeleted),
            // It is not known whether the message is recorded in that room, which nobody can read: it is posted here.
            Some(_) | None => {}
        }
        if keys.now.len() >= GENERATION_KEYS || now.duration_since(keys.began) >= GENERATION_TIME {
            keys.before = std::mem::take(&mut keys.now);
            keys.began = now;
        }
        let reservation = KeyReservation {
            used,
            is_recorded: false,
        };
        keys.now.insert(id, reservation);
        Ok(true)
    }

    /// Notes that the message of a reservation is recorded.
    pub(super) fn confirm(&self, id: MessageId) {
        let mut keys = self.0.lock();
        let Generations { now, before, .. } = &mut *keys;
        if let Some(reservation) = now.get_mut(&id).or_else(|| before.get_mut(&id)) {
            reservation.is_recorded = true;
        }
    }

    /// Forgets a reservation whose message was not accepted.
    pub(super) fn forget(&self, id: MessageId) {
        let mut keys = self.0.lock();
        keys.now.remove(&id);
        keys.before.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(room: i64, text: &str) -> KeyUse {
        KeyUse::of(RoomId(room), "lobby", text)
    }

    #[test]
    fn a_key_stands_for_its_message_for_a_while() {
        let (keys, id, began) = (RecentKeys::new(), MessageId::fresh(), Instant::now());
        let reserve = |used, seconds| keys.reserve(id, used, began + Duration::from_secs(seconds));
        let pass =
            |seconds| keys.reserve(MessageId::fresh(), used(1, "c"), began + Duration::from_secs(seconds)).unwrap();
        assert!(reserve(used(1, "a"), 0).unwrap());
        assert!(!reserve(used(1, "a"), 0).unwrap());
        assert!(matches!(reserve(used(1, "b"), 0), Err(AcceptError::KeyReused)));
        keys.confirm(id);
        assert!(matches!(reserve(used(2, "a"), 0), Err(AcceptError::RoomDeleted)));
        assert!(matches!(reserve(KeyUse::of(RoomId(2), "other", "a"), 0), Err(AcceptError::KeyReused)));
        keys.forget(id);
        assert!(reserve(used(1, "b"), 0).unwrap());
        // It is not known whether it is recorded in a room that is gone: then it is posted here.
        assert!(reserve(used(2, "b"), 0).unwrap());
        assert!(pass(31));
        assert!(matches!(reserve(used(1, "a"), 31), Err(AcceptError::KeyReused)));
        assert!(pass(62));
        assert!(reserve(used(1, "a"), 62).unwrap());
    }

    #[test]
    fn no_more_than_two_generations_are_kept() {
        let keys = RecentKeys::new();
        let now = Instant::now();
        for _ in 0..3 * GENERATION_KEYS {
            keys.reserve(MessageId::fresh(), used(1, "a"), now).unwrap();
        }
        let kept = keys.0.lock();
        assert_eq!((kept.now.len(), kept.before.len()), (GENERATION_KEYS, GENERATION_KEYS));
    }
}
