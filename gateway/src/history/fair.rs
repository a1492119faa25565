//! Reads of history take turns: few at once, and every reader as often as any other.
//!
//! Whoever waits is asked in the order of readers, not of questions: one who asks a thousand things at once lets nobody else
//! wait for more than the reads that run. One that has read too much is kept from its next read for a while. What nobody waits
//! for any more loses its turn before it begins.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::storage::HISTORY_CONNECTIONS;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Reads at once: a connection for each.
const AT_ONCE: usize = HISTORY_CONNECTIONS;

/// Those of one reader: one connection is left for the others.
const AT_ONCE_OF_ONE: usize = AT_ONCE - 1;

/// Reads of one reader that may wait. One more is refused, since it would wait for longer than anybody does.
pub const WAITING_OF_ONE: usize = 128;

/// How long a read waits: half of what a call may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads that may wait; each holds its request, some 20 KiB. One more is refused, unless its reader has none that waits: then so many
/// more may.
const WAITING: usize = 2_048;

/// Why a read may not wait for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowded {
    /// The reader has as many that wait as it may have, or has read so much that it would wait for too long.
    Own,
    /// So many wait, or have been read for too long.
    All,
}

/// The queue of all readers. Clones share it.
pub struct Fair<K: Hash + Eq + Copy>(Arc<Mutex<Queue<K>>>);

struct Queue<K: Hash + Eq + Copy> {
    running: usize,
    waiting: usize,
    /// Those with reads that run or wait, or were released and still count.
    readers: HashMap<K, Reader<K>>,
    /// Those who have reads that wait and may run, the next one first; each once.
    order: VecDeque<K>,
}

struct Reader<K: Hash + Eq + Copy> {
    /// Those that were released and still count included.
    running: usize,
    waiting: VecDeque<oneshot::Sender<Turn<K>>>,
    is_in_order: bool,
}

/// Leave to read, until it is dropped or released.
pub struct Turn<K: Hash + Eq + Copy> {
    /// Nothing if nobody was there to take it.
    queue: Option<Fair<K>>,
    reader: K,
}

impl<K: Hash + Eq + Copy> Clone for Fair<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Hash + Eq + Copy> Default for Fair<K> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Queue {
            running: 0,
            waiting: 0,
            readers: HashMap::new(),
            order: VecDeque::new(),
        })))
    }
}

impl<K: Hash + Eq + Copy> Fair<K> {
    /// Waits for `reader`'s turn, but not for ever.
    pub async fn turn(&self, reader: K) -> Result<Turn<K>, Crowded> {
        let waiting = {
            let mut queue = self.lock();
            if queue.may_begin(reader) {
                queue.begin(reader);
                return Ok(self.leave_to(reader));
            }
            queue.wait(reader)?
        };
        // The queue keeps the sender until it sends: whoever waits holds the queue.
        match timeout(PATIENCE, waiting).await {
            Ok(turn) => turn.map_err(|_| Crowded::All),
            Err(_) => Err(self.lock().who_crowds(reader)),
        }
    }

    /// Whether a question of `reader` would have to wait for its other ones.
    pub fn is_held_up(&self, reader: K) -> bool {
        let queue = self.lock();
        let known = queue.readers.get(&reader);
        known.is_some_and(|known| known.running >= AT_ONCE_OF_ONE || !known.waiting.is_empty())
    }

    fn leave_to(&self, reader: K) -> Turn<K> {
        Turn {
            queue: Some(self.clone()),
            reader,
        }
    }

    /// Frees something by `free`, and gives the connections that are free to whoever is next.
    fn go_on(&self, free: impl FnOnce(&mut Queue<K>)) {
        let mut queue = self.lock();
        free(&mut queue);
        while queue.running < AT_ONCE
            && let Some((reader, waiting)) = queue.next()
        {
            match waiting.send(self.leave_to(reader)) {
                Ok(()) => queue.begin(reader),
                // Its end would be noted, and the lock is ours.
                Err(mut turn) => turn.queue = None,
            }
            queue.settle(reader);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<K>> {
        // Nothing that panics runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Copy> Queue<K> {
    fn may_begin(&self, reader: K) -> bool {
        let known = self.readers.get(&reader);
        let is_free = known.is_none_or(|known| known.running < AT_ONCE_OF_ONE && known.waiting.is_empty());
        self.running < AT_ONCE && is_free
    }

    fn begin(&mut self, reader: K) {
        self.running += 1;
        self.reader(reader).running += 1;
    }

    /// Notes that a connection is free.
    fn free_connection(&mut self) {
        self.running -= 1;
    }

    /// Notes that `reader` may read once more.
    fn free_reader(&mut self, reader: K) {
        if let Some(known) = self.readers.get_mut(&reader) {
            known.running -= 1;
        }
        self.settle(reader);
    }

    /// Whom `reader` waits for.
    fn who_crowds(&self, reader: K) -> Crowded {
        let own = self.readers.get(&reader).is_some_and(|known| known.running >= AT_ONCE_OF_ONE);
        if own { Crowded::Own } else { Crowded::All }
    }

    fn wait(&mut self, reader: K) -> Result<oneshot::Receiver<Turn<K>>, Crowded> {
        if self.reader(reader).waiting.len() >= WAITING_OF_ONE || self.waiting >= WAITING {
            self.forget_who_left();
        }
        let most = if self.reader(reader).waiting.is_empty() {
            2 * WAITING
        } else {
            WAITING
        };
        if self.waiting >= most {
            self.settle(reader);
            return Err(Crowded::All);
        }
        let known = self.reader(reader);
        if known.waiting.len() >= WAITING_OF_ONE {
            return Err(Crowded::Own);
        }
        let (sender, receiver) = oneshot::channel();
        known.waiting.push_back(sender);
        self.waiting += 1;
        self.settle(reader);
        Ok(receiver)
    }

    /// The read whose turn it is, of those that somebody still waits for.
    fn next(&mut self) -> Option<(K, oneshot::Sender<Turn<K>>)> {
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

    /// Puts a reader into the order if it belongs there, and forgets one that has nothing any more.
    fn settle(&mut self, reader: K) {
        let Some(known) = self.readers.get_mut(&reader) else {
            return;
        };
        if known.running == 0 && known.waiting.is_empty() && !known.is_in_order {
            self.readers.remove(&reader);
        } else if !known.is_in_order && !known.waiting.is_empty() && known.running < AT_ONCE_OF_ONE {
            known.is_in_order = true;
            self.order.push_back(reader);
        }
    }

    fn forget_who_left(&mut self) {
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

impl<K: Hash + Eq + Copy + Send + 'static> Turn<K> {
    /// Ends the turn. The connection is free at once; among the reader's own reads it counts for `time` longer.
    pub fn release_after(mut self, time: Option<Duration>) {
        let Some(time) = time else {
            return;
        };
        let Some(queue) = self.queue.take() else {
            return;
        };
        queue.go_on(Queue::free_connection);
        let reader = self.reader;
        tokio::spawn(async move {
            sleep(time).await;
            queue.go_on(|queue| queue.free_reader(reader));
        });
    }
}

impl<K: Hash + Eq + Copy> Drop for Turn<K> {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.go_on(|queue| {
                queue.free_connection();
                queue.free_reader(self.reader);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::FutureExt as _;

    use super::*;

    type Waiting<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Turn<u8>, Crowded>> + 'a>>;

    /// A question of `reader` that has been asked and waits.
    fn asked(fair: &Fair<u8>, reader: u8) -> Waiting<'_> {
        let mut waiting: Waiting<'_> = Box::pin(fair.turn(reader));
        assert!((&mut waiting).now_or_never().is_none(), "it should wait");
        waiting
    }

    #[tokio::test]
    async fn a_reader_with_many_questions_holds_up_nobody() {
        let fair = Fair::<u8>::default();
        let mut running = Vec::new();
        for _ in 0..AT_ONCE_OF_ONE {
            running.push(fair.turn(1).await.unwrap());
        }
        let mut greedy: Vec<_> = (0..50).map(|_| asked(&fair, 1)).collect();
        // One connection is left for somebody else, and the next one that is free goes on to the others in turn.
        let second = fair.turn(2).now_or_never().unwrap().unwrap();
        let (mut third, mut fourth) = (asked(&fair, 3), asked(&fair, 4));
        drop(second);
        let turn = (&mut third).now_or_never().unwrap().unwrap();
        running.pop();
        let mut more: Vec<_> = greedy.iter_mut().filter_map(futures_util::FutureExt::now_or_never).collect();
        let fourth = (&mut fourth).now_or_never();
        assert_eq!(more.len() + usize::from(fourth.is_some()), 1, "one place was free");
        drop((turn, fourth));
        more.extend(greedy.iter_mut().filter_map(futures_util::FutureExt::now_or_never));
        assert!(!more.is_empty());
    }

    #[tokio::test]
    async fn a_turn_that_still_counts_leaves_its_connection_to_others() {
        let fair = Fair::<u8>::default();
        let time = Duration::from_millis(50);
        let began = Instant::now();
        let mut running = Vec::new();
        for _ in 0..AT_ONCE_OF_ONE {
            running.push(fair.turn(1).await.unwrap());
        }
        for turn in running {
            turn.release_after(Some(time));
        }
        fair.turn(2).await.unwrap().release_after(None);
        let own = asked(&fair, 1);
        for _ in 0..2 {
            let others: Vec<_> = (2..).take(AT_ONCE).filter_map(|reader| fair.turn(reader).now_or_never()).collect();
            assert_eq!(others.len(), AT_ONCE, "each has a connection");
        }
        drop(own.await.unwrap());
        assert!(began.elapsed() >= time);
        while !fair.lock().readers.is_empty() {
            tokio::task::yield_now().await;
        }
        let queue = fair.lock();
        assert_eq!((queue.running, queue.waiting, queue.order.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn a_queue_that_some_have_filled_has_room_for_one_of_each_other() {
        let fair = Fair::<u8>::default();
        let running: Vec<_> = (200..).map_while(|reader| fair.turn(reader).now_or_never()).collect();
        let full = u8::try_from(WAITING / WAITING_OF_ONE).unwrap();
        let greedy = (0..full).flat_map(|reader| std::iter::repeat_n(reader, WAITING_OF_ONE));
        let greedy: Vec<_> = greedy.map(|reader| asked(&fair, reader)).collect();
        let first = asked(&fair, 100);
        assert_eq!(fair.turn(100).now_or_never().unwrap().err(), Some(Crowded::All));
        drop((running, greedy, first));
    }

    #[tokio::test]
    async fn a_wait_that_is_too_long_tells_whose_doing_it_is() {
        let fair = Fair::<u8>::default();
        for _ in 0..AT_ONCE_OF_ONE {
            fair.turn(1).await.unwrap().release_after(Some(PATIENCE * 2));
        }
        let mut others = Vec::new();
        for reader in 2.. {
            match fair.turn(reader).now_or_never() {
                Some(turn) => others.push(turn.unwrap()),
                None => break,
            }
        }
        let (own, of_all) = tokio::join!(fair.turn(1), fair.turn(2));
        assert_eq!((own.err(), of_all.err()), (Some(Crowded::Own), Some(Crowded::All)));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_gets_no_turn() {
        let fair = Fair::<u8>::default();
        let mut running = Vec::new();
        for reader in 0..u8::try_from(AT_ONCE).unwrap() {
            running.push(fair.turn(reader).await.unwrap());
        }
        let abandoned: Vec<_> = (0..WAITING_OF_ONE).map(|_| asked(&fair, 9)).collect();
        assert_eq!(fair.turn(9).now_or_never().unwrap().err(), Some(Crowded::Own));
        drop(abandoned);
        let mut waiting = asked(&fair, 9);
        running.pop();
        assert!((&mut waiting).now_or_never().unwrap().is_ok());
        drop((waiting, running));
        let queue = fair.lock();
        assert_eq!((queue.running, queue.waiting, queue.readers.len(), queue.order.len()), (0, 0, 0, 0));
    }
}
