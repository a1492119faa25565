//! When each connection is due next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Connections by the time at which they are due, each at most once.
#[derive(Debug)]
pub(crate) struct Schedule {
    due: BinaryHeap<Reverse<(u64, usize)>>,
    is_scheduled: Vec<bool>,
}

impl Schedule {
    /// A schedule of so many connections, none of them due.
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            due: BinaryHeap::with_capacity(connections),
            is_scheduled: vec![false; connections],
        }
    }

    /// Adds connection `at` at the time `due`, in microseconds of the run's clock; a connection that is in the schedule
    /// keeps its time.
    pub(crate) fn add(&mut self, at: usize, due: u64) {
        if !std::mem::replace(&mut self.is_scheduled[at], true) {
            self.due.push(Reverse((due, at)));
        }
    }

    /// Removes and returns the connection that has been due for longest at `now`.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<usize> {
        let Reverse((_, at)) = self.due.peek().copied().filter(|Reverse((due, _))| *due <= now)?;
        self.due.pop();
        self.is_scheduled[at] = false;
        Some(at)
    }

    /// When the next connection is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_is_due_once_and_in_time() {
        let mut schedule = Schedule::new(3);
        for (at, due) in [(0, 30), (1, 10), (2, 20), (1, 5)] {
            schedule.add(at, due);
        }
        assert_eq!((schedule.next_due(), schedule.pop_due(9)), (Some(10), None));
        assert_eq!([schedule.pop_due(30), schedule.pop_due(30)], [Some(1), Some(2)]);
        schedule.add(1, 25);
        assert_eq!([schedule.pop_due(30), schedule.pop_due(30), schedule.pop_due(30)], [Some(1), Some(0), None]);
    }
}
