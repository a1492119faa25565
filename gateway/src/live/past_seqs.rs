//! What the last entry of a room was at a position, remembered.
//!
//! After a restart thousands of clients come back whose cursors have one of a few positions, those that were the horizon while they were
//! served; and in each of their rooms the last entry at it has to be searched for. Below the horizon nothing is stored any more, so that what
//! was found there stays right for as long as the epoch lasts.

use std::time::Duration;

use moka::sync::Cache;
use shared::domain::{Epoch, Position, RoomId, Seq};
use shared::storage::{Store, StoreError};

/// Rooms and positions that are remembered, a few numbers each.
const REMEMBERED: u64 = 32_768;

/// How long one is remembered that nobody asks for.
const IDLE_TIME: Duration = Duration::from_mins(5);

/// Searches SQL, and remembers what was found.
pub(crate) struct PastSeqs {
    store: Store,
    known: Cache<(Epoch, RoomId, Position), Seq>,
}

impl PastSeqs {
    /// Nothing is remembered yet.
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            known: Cache::builder().max_capacity(REMEMBERED).time_to_idle(IDLE_TIME).build(),
        }
    }

    /// The last seq with at most `position` of each of `rooms`, in no order. Up to `horizon` nothing is stored any more in `epoch`.
    pub(crate) async fn at(
        &self,
        rooms: &[RoomId],
        position: Position,
        (epoch, horizon): (Epoch, Position),
    ) -> Result<Vec<(RoomId, Seq)>, StoreError> {
        if position > horizon {
            return self.store.seqs_at(rooms, position).await;
        }
        let (mut seqs, mut unknown) = (Vec::with_capacity(rooms.len()), Vec::new());
        for room in rooms {
            match self.known.get(&(epoch, *room, position)) {
                Some(seq) => seqs.push((*room, seq)),
                None => unknown.push(*room),
            }
        }
        if !unknown.is_empty() {
            let found = self.store.seqs_at(&unknown, position).await?;
            for (room, seq) in &found {
                self.known.insert((epoch, *room, position), *seq);
            }
            seqs.extend(found);
        }
        Ok(seqs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::test_fixture::fixture;

    const EPOCH: Epoch = Epoch(1);

    #[tokio::test]
    async fn what_was_found_below_the_horizon_is_remembered_within_its_epoch() {
        let fixture = fixture().await;
        let room = fixture.room("lobby").await.id;
        fixture.store_silently(room, 2).await;
        let past = PastSeqs::new(fixture.store.clone());
        let last = fixture.store.horizon_sample().await.unwrap().last;
        let at = |position, epoch, horizon| {
            let past = &past;
            async move { past.at(&[room], position, (epoch, horizon)).await.unwrap() }
        };
        let far = Position(last.0 + 1_000);
        assert_eq!(at(far, EPOCH, last).await, [(room, Seq(2))], "above the horizon");
        assert_eq!(at(last, EPOCH, last).await, [(room, Seq(2))]);
        fixture.store_silently(room, 3).await;
        assert_eq!(at(far, EPOCH, last).await, [(room, Seq(5))], "nothing is remembered above the horizon");
        // An answer that the database would not give shows that it is not asked.
        past.known.insert((EPOCH, room, last), Seq(1));
        assert_eq!(at(last, EPOCH, last).await, [(room, Seq(1))], "it is remembered");
        assert_eq!(at(last, Epoch(2), last).await, [(room, Seq(2))], "another epoch is another history");
    }
}
