//! Changes of the outbox as entries of their rooms.

use super::{CommitPlan, Origin};
use crate::domain::{Change, MessageId, Partition, RoomId};
use crate::storage::outbox::{RoomOutbox, WaitingChange};

impl CommitPlan<'_> {
    /// Adds what `take` takes of the outbox of `room`.
    pub(super) fn add_outbox(
        &mut self,
        partition: Partition,
        room: RoomId,
        take: impl FnOnce(&mut RoomOutbox) -> Vec<WaitingChange>,
    ) {
        for waiting in self.outbox.get_mut(&room).map(take).into_iter().flatten() {
            self.add_waiting(partition, room, waiting);
        }
    }

    fn add_waiting(&mut self, partition: Partition, room: RoomId, waiting: WaitingChange) {
        let mut change = waiting.change;
        // The tables have foreign keys, so the room and the users are there.
        if let (Change::Member { member, .. }, Some(id)) = (&mut change, waiting.member) {
            let Some(user) = self.senders.get(&id) else { return };
            member.clone_from(&user.username);
        }
        let origin = Origin {
            id: MessageId::fresh(),
            sender: waiting.sender,
            target: None,
            member: waiting.member,
            created_on: waiting.created_on,
        };
        if self.store_change((partition, room), &origin, change).is_ok() {
            self.taken.push(waiting.id);
        }
    }
}
