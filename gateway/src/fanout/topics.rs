//! Which clients follow which topic, and the passes over them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use slab::Slab;

use super::{Topic, TopicWaker};

/// Clients visited in one turn of a topic. Then another topic has its turn, and the thread looks at what else has come.
const CLIENTS_PER_TURN: usize = 64;

/// The topics that clients of one thread follow.
#[derive(Default)]
pub(super) struct Topics {
    entries: Slab<Entry>,
    by_topic: HashMap<Topic, usize>,
    /// Indices of the topics with a pass under way, the next one first.
    passing: VecDeque<usize>,
}

struct Entry {
    topic: Topic,
    waker: Arc<TopicWaker>,
    /// Keys of clients, in no order.
    clients: Vec<usize>,
    pass: Option<Pass>,
}

/// A pass over the clients of a topic, from the last one down. A client that comes during the pass stands behind those
/// still to be visited, and one that leaves is replaced by a client that had its turn.
struct Pass {
    /// Clients that have not had their turn: so many, from the first.
    left: usize,
    /// The topic has moved since the pass began.
    again: bool,
}

impl Topics {
    /// Adds a client; returns the topic's index, and its waker if the client is the first. `waker` makes one for an index.
    pub(super) fn join(
        &mut self,
        topic: Topic,
        client: usize,
        waker: impl FnOnce(usize) -> Arc<TopicWaker>,
    ) -> (usize, Option<Arc<TopicWaker>>) {
        if let Some(index) = self.by_topic.get(&topic) {
            self.entries[*index].clients.push(client);
            return (*index, None);
        }
        let vacant = self.entries.vacant_entry();
        let (index, waker) = (vacant.key(), waker(vacant.key()));
        vacant.insert(Entry {
            topic,
            waker: Arc::clone(&waker),
            clients: vec![client],
            pass: None,
        });
        self.by_topic.insert(topic, index);
        (index, Some(waker))
    }

    /// Removes a client from a topic it joined. A topic that nobody follows is forgotten together with its waker.
    pub(super) fn leave(&mut self, index: usize, client: usize) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        if let Some(position) = entry.clients.iter().position(|key| *key == client) {
            entry.clients.swap_remove(position);
        }
        let count = entry.clients.len();
        if let Some(pass) = &mut entry.pass {
            pass.left = pass.left.min(count);
        }
        if count == 0 {
            let gone = self.entries.remove(index);
            self.by_topic.remove(&gone.topic);
            self.passing.retain(|passing| *passing != index);
        }
    }

    /// Starts a pass over the clients of a topic that has moved, or another one after the one under way.
    pub(super) fn start_pass(&mut self, index: usize) {
        // The index may belong to another topic by now, or to none: then that topic is visited for nothing.
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        // Before any source is asked: see the module `wake`.
        entry.waker.rearm();
        if let Some(pass) = &mut entry.pass {
            pass.again = true;
            return;
        }
        entry.pass = Some(Pass {
            left: entry.clients.len(),
            again: false,
        });
        self.passing.push_back(index);
    }

    /// Whether a client waits for its turn.
    pub(super) fn has_passes(&self) -> bool {
        !self.passing.is_empty()
    }

    /// Puts the clients whose turn is next into `clients`.
    pub(super) fn next_clients(&mut self, clients: &mut Vec<usize>) {
        clients.clear();
        let Some(index) = self.passing.pop_front() else {
            return;
        };
        let entry = &mut self.entries[index];
        let Some(pass) = &mut entry.pass else {
            return;
        };
        let from = pass.left.saturating_sub(CLIENTS_PER_TURN);
        clients.extend(entry.clients[from..pass.left].iter().rev());
        pass.left = from;
        if pass.left == 0 && pass.again {
            pass.left = entry.clients.len();
            pass.again = false;
        }
        if pass.left == 0 {
            entry.pass = None;
        } else {
            self.passing.push_back(index);
        }
    }
}
