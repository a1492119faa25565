//! Whether numbers that should come as 1, 2, 3 … do.

use std::ops::RangeInclusive;

/// Holes that are remembered, to tell what comes late from what comes twice; a run with more has failed anyway.
const HOLES: usize = 64;

/// How far a sequence has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sequence {
    last: u64,
    holes: Vec<RangeInclusive<u64>>,
}

/// What a number means for its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the next one.
    Next,
    /// So many before it are missing.
    Gap(u64),
    /// It was missing, and comes too late.
    Late,
    /// It has come before.
    Double,
}

impl Sequence {
    /// A sequence whose next number is `last + 1`.
    pub(crate) fn after(last: u64) -> Self {
        Self {
            last,
            holes: Vec::new(),
        }
    }

    /// The greatest number so far.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Judges the number that comes now.
    #[inline]
    pub(crate) fn take(&mut self, number: u64) -> Verdict {
        if number == self.last + 1 {
            self.last = number;
            return Verdict::Next;
        }
        self.take_unexpected(number)
    }

    #[cold]
    fn take_unexpected(&mut self, number: u64) -> Verdict {
        if number > self.last {
            let missing = number - self.last - 1;
            if self.holes.len() < HOLES {
                self.holes.push(self.last + 1..=number - 1);
            }
            self.last = number;
            return Verdict::Gap(missing);
        }
        let Some(at) = self.holes.iter().position(|hole| hole.contains(&number)) else {
            return Verdict::Double;
        };
        let hole = self.holes.swap_remove(at);
        let rests = [*hole.start()..=number.saturating_sub(1), number + 1..=*hole.end()];
        self.holes.extend(rests.into_iter().filter(|rest| !rest.is_empty()));
        Verdict::Late
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Verdict::{Double, Gap, Late, Next};
    use super::*;

    #[test]
    fn gaps_late_ones_and_doubles_are_told_apart() {
        let mut sequence = Sequence::after(5);
        let verdicts: Vec<Verdict> = [6, 9, 8, 8, 7, 7, 10, 5, 11].map(|number| sequence.take(number)).to_vec();
        assert_eq!(verdicts, [Next, Gap(2), Late, Double, Late, Double, Next, Double, Next]);
        assert_eq!(sequence.last(), 11);
    }

    proptest! {
        /// Whatever comes in whatever order, each number is counted once and the rest is doubled or missing.
        #[test]
        fn nothing_is_counted_twice(numbers in proptest::collection::vec(1..40_u64, 0..60)) {
            let mut sequence = Sequence::default();
            let (mut first_times, mut doubles, mut missing) = (0, 0, 0);
            for number in &numbers {
                match sequence.take(*number) {
                    Next => first_times += 1,
                    Gap(count) => { first_times += 1; missing += count; }
                    Verdict::Late => { first_times += 1; missing -= 1; }
                    Double => doubles += 1,
                }
            }
            let distinct: std::collections::BTreeSet<u64> = numbers.iter().copied().collect();
            prop_assert_eq!(first_times, distinct.len());
            prop_assert_eq!(doubles, numbers.len() - distinct.len());
            prop_assert_eq!(missing, sequence.last() - distinct.len() as u64);
        }
    }
}
