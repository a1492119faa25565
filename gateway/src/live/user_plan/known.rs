//! What a client has by its cursor: whether that can be used, which entries of rooms it names, and what has gone or come since.

use std::collections::{BTreeMap, HashMap};

use shared::domain::{Epoch, Position, RoomId, Seq, UserId};
use shared::storage::{FollowedRoom, GoneRoom, Store, StoreError, UserRooms};

use crate::live::hub::Hub;
use crate::live::stream_events::ResetReason;
use crate::live::user_cursor::{Base, ClientCursor, UserCursor};

/// The cursor that a client sent, or why it cannot be used, if it sent one.
pub(super) fn parse_cursor(cursor: Option<&str>, epoch: Epoch) -> (Option<UserCursor>, Option<ResetReason>) {
    match cursor.map(ClientCursor::parse) {
        None | Some(Ok(ClientCursor::Start)) => (None, None),
        Some(Ok(ClientCursor::At(cursor))) if cursor.epoch == epoch => (Some(cursor), None),
        // A stream tells of all rooms at once.
        Some(Ok(ClientCursor::Between(cursor))) if cursor.all.epoch == epoch => (None, None),
        Some(Ok(ClientCursor::At(_) | ClientCursor::Between(_))) => (None, Some(ResetReason::Foreign)),
        Some(Err(_)) => (None, Some(ResetReason::Malformed)),
    }
}

/// Where a client goes on in a room of which it has everything up to `has`. What came before a direct room was hidden is over, and what is not
/// a message does not bring it back.
pub(in crate::live) fn goes_on_after(followed: &FollowedRoom, has: Seq) -> Seq {
    let head = followed.head.seq;
    let hidden_upto = if followed.is_hidden {
        Some(head)
    } else {
        followed.hidden_upto
    };
    has.max(hidden_upto.unwrap_or(has)).min(head)
}

/// Where the user joined `rooms`, as far as that is stored.
pub(in crate::live) async fn join_seqs(
    store: &Store,
    user: UserId,
    rooms: Vec<RoomId>,
) -> Result<HashMap<RoomId, Seq>, StoreError> {
    if rooms.is_empty() {
        return Ok(HashMap::new());
    }
    Ok(store.join_seqs(user, &rooms).await?.into_iter().collect())
}

/// Whether a cursor is of a time that has not come: it was not issued, or history was taken back without a new epoch.
pub(super) async fn is_ahead(
    store: &Store,
    cursor: &UserCursor,
    now: &UserRooms,
    horizon: Position,
) -> Result<bool, StoreError> {
    for base in [Some(cursor.base), cursor.finished.map(|(_, upper)| upper)].into_iter().flatten() {
        if base.version > now.version || base.removals > now.removals {
            return Ok(true);
        }
        // The horizon of another gateway may be newer.
        if base.position > horizon && base.position > store.horizon_sample().await?.last {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The rooms that are gone since `cursor`, ascending by id. Of the rooms up to the one that was finished last the client was told what they
/// were when that began.
pub(super) async fn gone_since(store: &Store, user: UserId, cursor: &UserCursor) -> Result<Vec<GoneRoom>, StoreError> {
    let since = async |base: Base| store.gone_rooms(user, base.version, base.removals).await;
    let Some((upto, upper)) = cursor.finished else {
        return since(cursor.base).await;
    };
    let mut gone = since(upper).await?;
    gone.retain(|gone| gone.room <= upto);
    gone.extend(since(cursor.base).await?.into_iter().filter(|gone| gone.room > upto));
    Ok(gone)
}

/// The last entry of a room that a client has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) seq: Seq,
    /// Whether the cursor says so by the position of its base, and does not name the room.
    pub(super) is_at_base: bool,
}

/// The last entry that the client has of each of `rooms`; none of a room that is new to it.
pub(super) async fn last_entries(
    hub: &Hub,
    cursor: &UserCursor,
    rooms: &[FollowedRoom],
    history: (Epoch, Position),
) -> Result<HashMap<RoomId, Known>, StoreError> {
    let mut known = HashMap::with_capacity(rooms.len());
    let mut behind: BTreeMap<Position, Vec<RoomId>> = BTreeMap::new();
    for followed in rooms {
        let (room, base) = (followed.room.id, cursor.base_of(followed.room.id));
        if followed.joined > base.version {
            // The client begins where the user joined, also if it had an earlier membership.
            continue;
        }
        if let Some(seq) = cursor.seq_of(room) {
            let is_at_base = false;
            known.insert(room, Known { seq, is_at_base });
        } else if followed.position <= base.position {
            let (seq, is_at_base) = (followed.head.seq, true);
            known.insert(room, Known { seq, is_at_base });
        } else {
            behind.entry(base.position).or_default().push(room);
        }
    }
    for (position, rooms) in behind {
        let (seqs, is_at_base) = (hub.past_seqs().at(&rooms, position, history).await?, true);
        known.extend(seqs.into_iter().map(|(room, seq)| (room, Known { seq, is_at_base })));
    }
    Ok(known)
}
