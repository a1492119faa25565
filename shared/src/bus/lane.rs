//! The shared connection to one server, on which commands of many tasks travel together.
//!
//! A command on its own costs a write to the socket, a wake-up of the connection's task and a round of Redis. Here commands
//! that come at about the same time go out as one pipeline. There is no timer: whoever comes first starts a flight, which
//! takes along who is there when it departs.
//!
//! A command that is run after another one was answered comes after it at the server. Between those under way at the same time
//! there is no order. Nothing is sent twice: what became of a command whose flight failed is its caller's to judge.

use std::collections::VecDeque;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use redis::aio::{ConnectionLike as _, ConnectionManager};
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::oneshot;
use tokio::task::yield_now;

/// Pipelines under way at once. While that many are, commands collect; several, since Redis reads the next ones while it
/// brings one to disk.
const FLIGHTS: usize = 8;

/// Commands of one pipeline at most: with ordinary messages 200 KB, with the longest 8 MB. More wait for the next.
const COMMANDS: usize = 512;

/// The connection to one server. Clones share it.
///
/// What waits here is bounded by the tasks that do, and those by who lets them in.
#[derive(Clone)]
pub(super) struct Lane {
    pub(super) connection: ConnectionManager,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    passengers: VecDeque<Passenger>,
    /// Flights that have begun and not ended.
    flights: usize,
    /// Whether one of them has yet to take those who wait.
    boarding: bool,
}

/// A command that waits, and who waits for its answer.
struct Passenger {
    command: Cmd,
    answer: oneshot::Sender<RedisResult<Value>>,
}

impl Lane {
    pub(super) fn new(connection: ConnectionManager) -> Self {
        Self {
            connection,
            queue: Arc::default(),
        }
    }

    /// Whether both are the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.queue, &other.queue)
    }

    /// Runs a command. One whose caller stops waiting before it was sent is not sent.
    pub(super) async fn run(&self, command: Cmd) -> RedisResult<Value> {
        let (answer, answered) = oneshot::channel();
        if lock(&self.queue).join(Passenger { command, answer }) {
            tokio::spawn(self.clone().fly());
        }
        // Without an answer the process ends in the middle of a flight.
        answered.await.unwrap_or_else(|_| Err(unknown()))
    }

    /// Sends what waits, until nothing does or another flight will.
    async fn fly(mut self) {
        loop {
            // Whoever is about to come at this moment comes along.
            yield_now().await;
            let passengers = lock(&self.queue).board();
            if !passengers.is_empty() {
                // Were it to panic, its passengers would be told that nobody knows; the next ones go all the same.
                let _ = AssertUnwindSafe(self.send(passengers)).catch_unwind().await;
            }
            if !lock(&self.queue).stay() {
                return;
            }
        }
    }

    async fn send(&mut self, passengers: Vec<Passenger>) {
        let mut pipeline = Pipeline::with_capacity(passengers.len());
        let mut waiting = Vec::with_capacity(passengers.len());
        for Passenger { command, answer } in passengers {
            pipeline.add_command(command);
            waiting.push(answer);
        }
        let mut answers = self.connection.req_packed_commands(&pipeline, 0, waiting.len()).await.map(Vec::into_iter);
        for waits in waiting {
            // Whoever has left need not be told.
            let _ = waits.send(match &mut answers {
                Ok(values) => values.next().ok_or_else(unknown),
                Err(error) => Err(error.clone()),
            });
        }
    }
}

impl Queue {
    /// Adds a command; true if a flight must be started for it.
    fn join(&mut self, passenger: Passenger) -> bool {
        self.passengers.push_back(passenger);
        self.begin()
    }

    /// Takes those who wait, without who has left.
    fn board(&mut self) -> Vec<Passenger> {
        self.boarding = false;
        let count = self.passengers.len().min(COMMANDS);
        self.passengers.drain(..count).filter(|passenger| !passenger.answer.is_closed()).collect()
    }

    /// Ends a flight; true if it must go on as the next one.
    fn stay(&mut self) -> bool {
        self.flights -= 1;
        !self.passengers.is_empty() && self.begin()
    }

    /// Begins a flight unless one is about to depart, or too many are under way: the first to end goes on then.
    fn begin(&mut self) -> bool {
        let begins = !self.boarding && self.flights < FLIGHTS;
        if begins {
            self.boarding = true;
            self.flights += 1;
        }
        begins
    }
}

/// The error of a command of which nobody knows what became of it.
fn unknown() -> RedisError {
    io::Error::from(io::ErrorKind::BrokenPipe).into()
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // Every change is one call on a collection, or of a number: a panic leaves none of them half done.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passenger() -> (Passenger, oneshot::Receiver<RedisResult<Value>>) {
        let (answer, answered) = oneshot::channel();
        let command = redis::cmd("XADD");
        (Passenger { command, answer }, answered)
    }

    #[test]
    fn who_comes_while_a_flight_boards_goes_along_and_who_has_left_does_not() {
        let mut queue = Queue::default();
        let (first, _first) = passenger();
        let (second, left) = passenger();
        let (third, _third) = passenger();
        assert!(queue.join(first));
        assert!(!queue.join(second));
        assert!(!queue.join(third));
        drop(left);
        assert_eq!(queue.board().len(), 2);
        assert!(!queue.stay());
    }

    #[test]
    fn flights_are_bounded_and_one_that_ends_takes_what_has_collected() {
        let mut queue = Queue::default();
        let mut answers = Vec::new();
        let mut join = |queue: &mut Queue| {
            let (passenger, answer) = passenger();
            answers.push(answer);
            queue.join(passenger)
        };
        for _ in 0..FLIGHTS {
            assert!(join(&mut queue));
            assert_eq!(queue.board().len(), 1);
        }
        for _ in 0..=COMMANDS {
            assert!(!join(&mut queue));
        }
        assert!(queue.stay());
        assert_eq!(queue.board().len(), COMMANDS);
        assert!(queue.stay());
        assert_eq!(queue.board().len(), 1);
        assert!(!queue.stay());
    }
}
