//! Fair queue for reads of history: few run at once, and every reader has its turn as often as any other.
//!
//! Waiting reads are granted in the order of readers, not of requests: a reader with a thousand requests at once makes nobody
//! else wait for more than the reads that run. A reader that has read too much is kept from its next read for a while. A read
//! that nobody waits for any more is dropped before it begins.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shared::storage::HISTORY_CONNECTIONS;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Reads that run at once: a connection to the database for each.
const MAX_RUNNING: usize = HISTORY_CONNECTIONS;

/// Reads of one reader that run at once: one connection is left for the others.
const MAX_RUNNING_PER_READER: usize = MAX_RUNNING - 1;

/// Reads of one reader that may wait. One more is refused, since it would wait for longer than any client does.
pub const MAX_WAITING_PER_READER: usize = 128;

/// How long a read waits at most: half of what a call may take.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Reads that may wait; each holds its request, some 20 KiB. One more is refused, unless its reader has no other one that
/// waits: up to twice as many may wait then.
const MAX_WAITING: usize = 2_048;

/// Why a read was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadRefused {
    /// As many reads of this reader wait as may, or it has read so much that this one would wait for too long.
    ReaderLimit,
    /// As many reads of all readers wait as may, or those that run take too long.
    Overload,
}

/// The queue of all readers. Clones share it.
pub struct FairQueue<K: Hash + Eq + Copy>(Arc<Mutex<Queue<K>>>);

struct Queue<K: Hash + Eq + Copy> {
    running: usize,
    waiting: usize,
    /// The readers with reads that run or wait, or that were released and still count.
    readers: HashMap<K, Reader<K>>,
    /// The readers whose waiting reads may run, the next one first; each once.
    order: VecDeque<K>,
}

struct Reader<K: Hash + Eq + Copy> {
    /// Reads that run, and those that were released and still count.
    running: usize,
    waiting: VecDeque<oneshot::Sender<Permit<K>>>,
    is_in_order: bool,
}

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
        Self(Arc::new(Mutex::new(Queue {
            running: 0,
            waiting: 0,
            readers: HashMap::new(),
            order: VecDeque::new(),
        })))
    }
}

impl<K: Hash + Eq + Copy> FairQueue<K> {
    /// Waits for the turn of `reader`, at most for `MAX_WAIT`.
    pub async fn acquire(&self, reader: K) -> Result<Permit<K>, ReadRefused> {
        let waiting = {
            let mut queue = self.0.lock();
            if queue.may_start(reader) {
                queue.start(reader);
                return Ok(self.permit_for(reader));
            }
            queue.wait(reader)?
        };
        // The queue keeps the sender until it sends, and a waiting read holds the queue.
        match timeout(MAX_WAIT, waiting).await {
            Ok(permit) => permit.map_err(|_| ReadRefused::Overload),
            Err(_) => Err(self.0.lock().refusal_for(reader)),
        }
    }

    /// Whether a read of `reader` would have to wait for its other ones.
    pub fn must_wait(&self, reader: K) -> bool {
        let queue = self.0.lock();
        let known = queue.readers.get(&reader);
        known.is_some_and(|known| known.running >= MAX_RUNNING_PER_READER || !known.waiting.is_empty())
    }

    fn permit_for(&self, reader: K) -> Permit<K> {
        Permit {
            queue: Some(self.clone()),
            reader,
        }
    }

    /// Releases something by `free`, and grants the free connections to the reads that are next.
    fn release_and_grant(&self, free: impl FnOnce(&mut Queue<K>)) {
        let mut queue = self.0.lock();
        free(&mut queue);
        while queue.running < MAX_RUNNING
            && let Some((reader, waiting)) = queue.next()
        {
            match waiting.send(self.permit_for(reader)) {
                Ok(()) => queue.start(reader),
                // Nobody waits any more. The drop of the permit must not take the lock, which is held here.
                Err(mut permit) => permit.queue = None,
            }
            queue.settle(reader);
        }
    }
}

impl<K: Hash + Eq + Copy> Queue<K> {
    fn may_start(&self, reader: K) -> bool {
        let known = self.readers.get(&reader);
        let is_free = known.is_none_or(|known| known.running < MAX_RUNNING_PER_READER && known.waiting.is_empty());
        self.running < MAX_RUNNING && is_free
    }

    fn start(&mut self, reader: K) {
        self.running += 1;
        self.reader(reader).running += 1;
    }

    /// Frees the connection of a read.
    fn free_connection(&mut self) {
        self.running -= 1;
    }

    /// Lets `reader` read once more.
    fn free_reader(&mut self, reader: K) {
        if let Some(known) = self.readers.get_mut(&reader) {
            known.running -= 1;
        }
        self.settle(reader);
    }

    /// Why a read of `reader` waits: for its own reads, or for those of others.
    fn refusal_for(&self, reader: K) -> ReadRefused {
        let own = self.readers.get(&reader).is_some_and(|known| known.running >= MAX_RUNNING_PER_READER);
        if own {
            ReadRefused::ReaderLimit
        } else {
            ReadRefused::Overload
        }
    }

    fn wait(&mut self, reader: K) -> Result<oneshot::Receiver<Permit<K>>, ReadRefused> {
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

    /// The read that is next, of those that somebody still waits for.
    fn next(&mut self) -> Option<(K, oneshot::Sender<Permit<K>>)> {
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
    fn settle(&mut self, reader: K) {
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

    fn remove_abandoned(&mut self) {
        for known in self.readers.values_mut() {
            known.waiting.retain(|waiting| !waiting.is_closed());
        }
        self.waiting = self.readers.values().map(|known| known.waiting.len()).sum();
    }

    fn reader(&mut self, reader: K) -> &mut Reader<K> {
        self.readers.entry(reader).or_insert_with(|| Reader {
            running: 0,
            waiting: VecDeque::new(),
            is_in_order: false,
        })
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
        queue.release_and_grant(Queue::free_connection);
        let reader = self.reader;
        tokio::spawn(async move {
            sleep(time).await;
            queue.release_and_grant(|queue| queue.free_reader(reader));
        });
    }
}

impl<K: Hash + Eq + Copy> Drop for Permit<K> {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.release_and_grant(|queue| {
                queue.free_connection();
                queue.free_reader(self.reader);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::Instant;

    use super::*;

    type Waiting<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Permit<u8>, ReadRefused>> + 'a>>;

    /// A read of `reader` that waits.
    fn wait(queue: &FairQueue<u8>, reader: u8) -> Waiting<'_> {
        let mut waiting: Waiting<'_> = Box::pin(queue.acquire(reader));
        assert!((&mut waiting).now_or_never().is_none(), "the read does not wait");
        waiting
    }

    #[tokio::test]
    async fn a_reader_with_many_reads_delays_nobody() {
        let queue = FairQueue::<u8>::default();
        let mut running = Vec::new();
        for _ in 0..MAX_RUNNING_PER_READER {
            running.push(queue.acquire(1).await.unwrap());
        }
        let mut greedy: Vec<_> = (0..50).map(|_| wait(&queue, 1)).collect();
        // One connection is left for another reader, and the next free one is granted to the readers in turn.
        let second = queue.acquire(2).now_or_never().unwrap().unwrap();
        let (mut third, mut fourth) = (wait(&queue, 3), wait(&queue, 4));
        drop(second);
        let third = (&mut third).now_or_never().unwrap().unwrap();
        running.pop();
        let mut more: Vec<_> = greedy.iter_mut().filter_map(futures_util::FutureExt::now_or_never).collect();
        let fourth = (&mut fourth).now_or_never();
        assert_eq!(more.len() + usize::from(fourth.is_some()), 1, "one connection was free");
        drop((third, fourth));
        more.extend(greedy.iter_mut().filter_map(futures_util::FutureExt::now_or_never));
        assert!(!more.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_read_that_still_counts_frees_its_connection() {
        let queue = FairQueue::<u8>::default();
        let time = Duration::from_millis(50);
        let began = Instant::now();
        let mut running = Vec::new();
        for _ in 0..MAX_RUNNING_PER_READER {
            running.push(queue.acquire(1).await.unwrap());
        }
        for permit in running {
            permit.release_after(Some(time));
        }
        queue.acquire(2).await.unwrap().release_after(None);
        let own = wait(&queue, 1);
        for _ in 0..2 {
            let others: Vec<_> =
                (2..).take(MAX_RUNNING).filter_map(|reader| queue.acquire(reader).now_or_never()).collect();
            assert_eq!(others.len(), MAX_RUNNING, "each has a connection");
        }
        drop(own.await.unwrap());
        assert_eq!(began.elapsed(), time);
        while !queue.0.lock().readers.is_empty() {
            tokio::task::yield_now().await;
        }
        let state = queue.0.lock();
        assert_eq!((state.running, state.waiting, state.order.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn a_full_queue_has_room_for_one_read_of_each_reader() {
        let queue = FairQueue::<u8>::default();
        let running: Vec<_> = (200..).map_while(|reader| queue.acquire(reader).now_or_never()).collect();
        let full = u8::try_from(MAX_WAITING / MAX_WAITING_PER_READER).unwrap();
        let greedy = (0..full).flat_map(|reader| std::iter::repeat_n(reader, MAX_WAITING_PER_READER));
        let greedy: Vec<_> = greedy.map(|reader| wait(&queue, reader)).collect();
        let first = wait(&queue, 100);
        assert_eq!(queue.acquire(100).now_or_never().unwrap().err(), Some(ReadRefused::Overload));
        drop((running, greedy, first));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_waits_too_long_is_refused_with_its_cause() {
        let queue = FairQueue::<u8>::default();
        for _ in 0..MAX_RUNNING_PER_READER {
            queue.acquire(1).await.unwrap().release_after(Some(MAX_WAIT * 2));
        }
        let mut others = Vec::new();
        for reader in 2.. {
            match queue.acquire(reader).now_or_never() {
                Some(permit) => others.push(permit.unwrap()),
                None => break,
            }
        }
        let (own, of_all) = tokio::join!(queue.acquire(1), queue.acquire(2));
        assert_eq!((own.err(), of_all.err()), (Some(ReadRefused::ReaderLimit), Some(ReadRefused::Overload)));
    }

    #[tokio::test]
    async fn a_read_that_nobody_waits_for_is_dropped() {
        let queue = FairQueue::<u8>::default();
        let mut running = Vec::new();
        for reader in 0..u8::try_from(MAX_RUNNING).unwrap() {
            running.push(queue.acquire(reader).await.unwrap());
        }
        let abandoned: Vec<_> = (0..MAX_WAITING_PER_READER).map(|_| wait(&queue, 9)).collect();
        assert_eq!(queue.acquire(9).now_or_never().unwrap().err(), Some(ReadRefused::ReaderLimit));
        drop(abandoned);
        let mut waiting = wait(&queue, 9);
        running.pop();
        assert!((&mut waiting).now_or_never().unwrap().is_ok());
        drop((waiting, running));
        let state = queue.0.lock();
        assert_eq!((state.running, state.waiting, state.readers.len(), state.order.len()), (0, 0, 0, 0));
    }
}
