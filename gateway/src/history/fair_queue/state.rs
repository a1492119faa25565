//! State of the fair queue: which reads run and wait, and which is next. It neither waits nor locks.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use shared::storage::HISTORY_CONNECTIONS;
use tokio::sync::oneshot;

use super::{Permit, ReadRefused};

/// Reads that run at once: a connection to the database for each.
pub(super) const MAX_RUNNING: usize = HISTORY_CONNECTIONS;

/// Reads of one reader that run at once: one connection is left for the others.
pub(super) const MAX_RUNNING_PER_READER: usize = MAX_RUNNING - 1;

/// Reads of one reader that may wait. One more is refused, since it would wait for longer than any client does.
pub const MAX_WAITING_PER_READER: usize = 128;

/// Reads that may wait; each holds its request, some 20 KiB. One more is refused, unless its reader has no other one that
/// waits: up to twice as many may wait then.
pub(super) const MAX_WAITING: usize = 2_048;

/// Which reads run and wait.
pub(super) struct State<K: Hash + Eq + Copy> {
    pub(super) running: usize,
    pub(super) waiting: usize,
    /// The readers with reads that run or wait, or that were released and still count.
    pub(super) readers: HashMap<K, ReaderQueue<K>>,
    /// The readers whose waiting reads may run, the next one first; each once.
    pub(super) order: VecDeque<K>,
}

/// The reads of one reader.
pub(super) struct ReaderQueue<K: Hash + Eq + Copy> {
    /// Reads that run, and those that were released and still count.
    running: usize,
    waiting: VecDeque<oneshot::Sender<Permit<K>>>,
    is_in_order: bool,
}

impl<K: Hash + Eq + Copy> Default for State<K> {
    fn default() -> Self {
        Self {
            running: 0,
            waiting: 0,
            readers: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Hash + Eq + Copy> State<K> {
    /// Whether a read of `reader` may run at once.
    pub(super) fn may_start(&self, reader: K) -> bool {
        let known = self.readers.get(&reader);
        let is_free = known.is_none_or(|known| known.running < MAX_RUNNING_PER_READER && known.waiting.is_empty());
        self.running < MAX_RUNNING && is_free
    }

    /// Whether a read of `reader` would have to wait for its other ones.
    pub(super) fn must_wait(&self, reader: K) -> bool {
        let known = self.readers.get(&reader);
        known.is_some_and(|known| known.running >= MAX_RUNNING_PER_READER || !known.waiting.is_empty())
    }

    /// Notes that a read of `reader` runs.
    pub(super) fn start(&mut self, reader: K) {
        self.running += 1;
        self.reader(reader).running += 1;
    }

    /// Frees the connection of a read.
    pub(super) fn free_connection(&mut self) {
        self.running -= 1;
    }

    /// Lets `reader` read once more.
    pub(super) fn free_reader(&mut self, reader: K) {
        if let Some(known) = self.readers.get_mut(&reader) {
            known.running -= 1;
        }
        self.settle(reader);
    }

    /// Why a read of `reader` waits: for its own reads, or for those of others.
    pub(super) fn refusal_for(&self, reader: K) -> ReadRefused {
        let own = self.readers.get(&reader).is_some_and(|known| known.running >= MAX_RUNNING_PER_READER);
        if own {
            ReadRefused::ReaderLimit
        } else {
            ReadRefused::Overload
        }
    }

    /// Adds a read of `reader` that waits; an error if it may not.
    pub(super) fn enqueue(&mut self, reader: K) -> Result<oneshot::Receiver<Permit<K>>, ReadRefused> {
        if self.reader(reader).waiting.len() >= MAX_WAITING_PER_READER || self.waiting >= MAX_WAITING {
            self.remove_abandoned();
        }
        let most = if self.reader(reader).waiting.is_empty() {
            2 * MAX_WAITING
        } else {
            MAX_WAITING
        };
        if self.waiting >= most {
            self.settle(reader);
            return Err(ReadRefused::Overload);
        }
        let known = self.reader(reader);
        if known.waiting.len() >= MAX_WAITING_PER_READER {
            return Err(ReadRefused::ReaderLimit);
        }
        let (sender, receiver) = oneshot::channel();
        known.waiting.push_back(sender);
        self.waiting += 1;
        self.settle(reader);
        Ok(receiver)
    }

    /// The read that is next, of those that somebody still waits for, if a connection is free.
    pub(super) fn next_to_start(&mut self) -> Option<(K, oneshot::Sender<Permit<K>>)> {
        if self.running >= MAX_RUNNING {
            return None;
        }
        while let Some(reader) = self.order.pop_front() {
            let known = self.reader(reader);
            known.is_in_order = false;
            while let Some(waiting) = self.reader(reader).waiting.pop_front() {
                self.waiting -= 1;
                if !waiting.is_closed() {
                    return Some((reader, waiting));
                }
            }
            self.settle(reader);
        }
        None
    }

    /// Puts a reader into the order if it belongs there, and forgets one without reads.
    pub(super) fn settle(&mut self, reader: K) {
        let Some(known) = self.readers.get_mut(&reader) else {
            return;
        };
        if known.running == 0 && known.waiting.is_empty() && !known.is_in_order {
            self.readers.remove(&reader);
        } else if !known.is_in_order && !known.waiting.is_empty() && known.running < MAX_RUNNING_PER_READER {
            known.is_in_order = true;
            self.order.push_back(reader);
        }
    }

    /// Removes the reads that nobody waits for.
    fn remove_abandoned(&mut self) {
        for known in self.readers.values_mut() {
            known.waiting.retain(|waiting| !waiting.is_closed());
        }
        self.waiting = self.readers.values().map(|known| known.waiting.len()).sum();
    }

    fn reader(&mut self, reader: K) -> &mut ReaderQueue<K> {
        self.readers.entry(reader).or_insert_with(|| ReaderQueue {
            running: 0,
            waiting: VecDeque::new(),
            is_in_order: false,
        })
    }
}
