//! Which clients follow which topic, and the passes over them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use slab::Slab;

use super::{Topic, TopicWaker};

/// Clients visited in one turn of a topic; then another topic has its turn, and the thread looks what else has come.
const CLIENTS_PER_TURN: usize = 64;

/// The topics that clients of one thread follow.
#[derive(Default)]
pub(super) struct Topics {
    slots: Slab<Slot>,
    by_topic: HashMap<Topic, usize>,
    /// Slots with a pass under way, the next one first.
    passing: VecDeque<usize>,
}

struct Slot {
    topic: Topic,
    waker: Arc<TopicWaker>,
    /// Keys of clients, in no order.
    clients: Vec<usize>,
    pass: Option<Pass>,
}

/// A pass over the clients of a topic, from the last one down: who comes during it stands behind, and whoever leaves is
/// replaced by one of those who had their turn.
struct Pass {
    /// Clients that have not had their turn: so many, from the first.
    left: usize,
    /// The topic has moved since the pass began.
    again: bool,
}

impl Topics {
    /// Adds a client; returns the topic's slot, and its waker if the client is the first. `waker` makes one for a slot.
    pub(super) fn join(
        &mut self,
        topic: Topic,
        client: usize,
        waker: impl FnOnce(usize) -> Arc<TopicWaker>,
    ) -> (usize, Option<Arc<TopicWaker>>) {
        if let Some(slot) = self.by_topic.get(&topic) {
            self.slots[*slot].clients.push(client);
            return (*slot, None);
        }
        let entry = self.slots.vacant_entry();
        let (slot, waker) = (entry.key(), waker(entry.key()));
        entry.insert(Slot {
            topic,
            waker: Arc::clone(&waker),
            clients: vec![client],
            pass: None,
        });
        self.by_topic.insert(topic, slot);
        (slot, Some(waker))
    }

    /// Removes a client from a slot it joined. A topic that nobody follows is forgotten with its waker.
    pub(super) fn leave(&mut self, slot: usize, client: usize) {
        let Some(found) = self.slots.get_mut(slot) else {
            return;
        };
        if let Some(index) = found.clients.iter().position(|key| *key == client) {
            found.clients.swap_remove(index);
        }
        let count = found.clients.len();
        if let Some(pass) = &mut found.pass {
            pass.left = pass.left.min(count);
        }
        if count == 0 {
            let gone = self.slots.remove(slot);
            self.by_topic.remove(&gone.topic);
            self.passing.retain(|passing| *passing != slot);
        }
    }

    /// Begins a pass over the clients of a topic that has moved, or another one after the one under way.
    pub(super) fn start_pass(&mut self, slot: usize) {
        // It may be another topic by now, or none: then it is visited for nothing.
        let Some(found) = self.slots.get_mut(slot) else {
            return;
        };
        // Before anybody is asked for what is new.
        found.waker.rearm();
        if let Some(pass) = &mut found.pass {
            pass.again = true;
            return;
        }
        found.pass = Some(Pass {
            left: found.clients.len(),
            again: false,
        });
        self.passing.push_back(slot);
    }

    /// Whether somebody waits for a turn.
    pub(super) fn has_passes(&self) -> bool {
        !self.passing.is_empty()
    }

    /// Puts those into `clients` whose turn it is now.
    pub(super) fn next_clients(&mut self, clients: &mut Vec<usize>) {
        clients.clear();
        let Some(slot) = self.passing.pop_front() else {
            return;
        };
        let found = &mut self.slots[slot];
        let Some(pass) = &mut found.pass else {
            return;
        };
        let from = pass.left.saturating_sub(CLIENTS_PER_TURN);
        clients.extend(found.clients[from..pass.left].iter().rev());
        pass.left = from;
        if pass.left == 0 && pass.again {
            pass.left = found.clients.len();
            pass.again = false;
        }
        if pass.left == 0 {
            found.pass = None;
        } else {
            self.passing.push_back(slot);
        }
    }
}
