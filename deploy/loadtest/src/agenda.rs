//! Whose turn it is when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Lines by the time at which they are due, each at most once.
#[derive(Debug)]
pub(crate) struct Agenda {
    due: BinaryHeap<Reverse<(u64, usize)>>,
    is_noted: Vec<bool>,
}

impl Agenda {
    /// Nothing is due for any of so many lines.
    pub(crate) fn new(lines: usize) -> Self {
        Self {
            due: BinaryHeap::with_capacity(lines),
            is_noted: vec![false; lines],
        }
    }

    /// Line `at` is due at `due`, microseconds of the run's clock; when it is noted already, it stays where it is.
    pub(crate) fn note(&mut self, at: usize, due: u64) {
        if !std::mem::replace(&mut self.is_noted[at], true) {
            self.due.push(Reverse((due, at)));
        }
    }

    /// Takes out the line that has been due for longest at `now`.
    pub(crate) fn take(&mut self, now: u64) -> Option<usize> {
        let Reverse((_, at)) = self.due.peek().copied().filter(|Reverse((due, _))| *due <= now)?;
        self.due.pop();
        self.is_noted[at] = false;
        Some(at)
    }

    /// When the next line is due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_comes_once_and_in_time() {
        let mut agenda = Agenda::new(3);
        for (at, due) in [(0, 30), (1, 10), (2, 20), (1, 5)] {
            agenda.note(at, due);
        }
        assert_eq!((agenda.next(), agenda.take(9)), (Some(10), None));
        assert_eq!([agenda.take(30), agenda.take(30)], [Some(1), Some(2)]);
        agenda.note(1, 25);
        assert_eq!([agenda.take(30), agenda.take(30), agenda.take(30)], [Some(1), Some(0), None]);
    }
}
