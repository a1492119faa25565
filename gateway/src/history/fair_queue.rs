//! Fair queue for reads of history: few run at once, and every reader has its turn as often as any other.
//!
//! Waiting reads are granted in the order of readers, not of requests: a reader with a thousand requests at once makes nobody
//! else wait for more than the reads that run. A reader that has read too much is kept from its next read for a while. A read
//! that nobody waits for is dropped before it begins.

mod state;
#[cfg(test)]
mod tests;

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

pub use self::state::MAX_WAITING_PER_READER;

use self::state::State;

/// How long a read waits at most: half of what a call may take.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Why a read was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadRefused {
    /// The reader has the largest number of waiting reads, or has read so much that this one would wait for too long.
    ReaderLimit,
    /// All readers together have the largest number of waiting reads, or the running ones take too long.
    Overload,
}

/// The queue of all readers. Clones share it.
pub struct FairQueue<K: Hash + Eq + Copy>(Arc<Mutex<State<K>>>);

/// Permission to read, until it is dropped or released.
pub struct Permit<K: Hash + Eq + Copy> {
    /// `None` once the permit gives nothing back when it is dropped.
    queue: Option<FairQueue<K>>,
    reader: K,
}

impl<K: Hash + Eq + Copy> Clone for FairQueue<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Hash + Eq + Copy> Default for FairQueue<K> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State::default())))
    }
}

impl<K: Hash + Eq + Copy> FairQueue<K> {
    /// Waits for the turn of `reader`, at most for `MAX_WAIT`.
    pub async fn acquire(&self, reader: K) -> Result<Permit<K>, ReadRefused> {
        let waiting = {
            let mut state = self.0.lock();
            if state.may_start(reader) {
                state.start(reader);
                return Ok(self.permit_for(reader));
            }
            state.enqueue(reader)?
        };
        // The queue keeps the sender until it sends, and a waiting read holds the queue.
        match timeout(MAX_WAIT, waiting).await {
            Ok(permit) => permit.map_err(|_| ReadRefused::Overload),
            Err(_) => Err(self.0.lock().refusal_for(reader)),
        }
    }

    /// Whether a read of `reader` would have to wait for its other ones.
    pub fn must_wait(&self, reader: K) -> bool {
        self.0.lock().must_wait(reader)
    }

    fn permit_for(&self, reader: K) -> Permit<K> {
        Permit {
            queue: Some(self.clone()),
            reader,
        }
    }

    /// Releases something by `free`, and grants the free connections to the reads that are next.
    fn release_and_grant(&self, free: impl FnOnce(&mut State<K>)) {
        let mut state = self.0.lock();
        free(&mut state);
        while let Some((reader, waiting)) = state.next_to_start() {
            match waiting.send(self.permit_for(reader)) {
                Ok(()) => state.start(reader),
                // Nobody waits. The drop of the permit must not take the lock, which is held here.
                Err(mut permit) => permit.queue = None,
            }
            state.settle(reader);
        }
    }
}

impl<K: Hash + Eq + Copy + Send + 'static> Permit<K> {
    /// Releases the permit. The connection is free at once; among the reads of the reader this one counts for `time` longer.
    pub fn release_after(mut self, time: Option<Duration>) {
        let Some(time) = time else {
            return;
        };
        let Some(queue) = self.queue.take() else {
            return;
        };
        queue.release_and_grant(State::free_connection);
        let reader = self.reader;
        tokio::spawn(async move {
            sleep(time).await;
            queue.release_and_grant(|state| state.free_reader(reader));
        });
    }
}

impl<K: Hash + Eq + Copy> Drop for Permit<K> {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.release_and_grant(|state| {
                state.free_connection();
                state.free_reader(self.reader);
            });
        }
    }
}
