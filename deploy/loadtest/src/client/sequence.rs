//! Checks that numbers arrive as 1, 2, 3 …, and tells gaps, late numbers and duplicates apart.

use std::ops::RangeInclusive;

/// Gaps that are remembered, to tell a late number from a duplicate; a run with more gaps has failed anyway.
const MOST_GAPS: usize = 64;

/// The numbers that have arrived so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sequence {
    last: u64,
    gaps: Vec<RangeInclusive<u64>>,
}

/// What a number means for its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The number is the next one.
    Next,
    /// So many numbers before it are missing.
    Gap(u64),
    /// The number was missing, and arrives too late.
    Late,
    /// The number has arrived before.
    Duplicate,
}

impl Sequence {
    /// A sequence whose next number is `last + 1`.
    pub(crate) fn after(last: u64) -> Self {
        Self { last, gaps: Vec::new() }
    }

    /// The greatest number so far.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Checks the number that arrives now.
    #[inline]
    pub(crate) fn check(&mut self, number: u64) -> Verdict {
        if number == self.last + 1 {
            self.last = number;
            return Verdict::Next;
        }
        self.check_unexpected(number)
    }

    #[cold]
    fn check_unexpected(&mut self, number: u64) -> Verdict {
        if number > self.last {
            let missing = number - self.last - 1;
            if self.gaps.len() < MOST_GAPS {
                self.gaps.push(self.last + 1..=number - 1);
            }
            self.last = number;
            return Verdict::Gap(missing);
        }
        let Some(at) = self.gaps.iter().position(|gap| gap.contains(&number)) else {
            return Verdict::Duplicate;
        };
        let gap = self.gaps.swap_remove(at);
        let rests = [*gap.start()..=number.saturating_sub(1), number + 1..=*gap.end()];
        self.gaps.extend(rests.into_iter().filter(|rest| !rest.is_empty()));
        Verdict::Late
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Verdict::{Duplicate, Gap, Late, Next};
    use super::*;

    #[test]
    fn gaps_late_numbers_and_duplicates_are_told_apart() {
        let mut sequence = Sequence::after(5);
        let verdicts: Vec<Verdict> = [6, 9, 8, 8, 7, 7, 10, 5, 11].map(|number| sequence.check(number)).to_vec();
        assert_eq!(verdicts, [Next, Gap(2), Late, Duplicate, Late, Duplicate, Next, Duplicate, Next]);
        assert_eq!(sequence.last(), 11);
    }

    proptest! {
        /// In whatever order numbers arrive, each is counted once, and the rest are duplicates or missing.
        #[test]
        fn no_number_is_counted_twice(numbers in proptest::collection::vec(1..40_u64, 0..60)) {
            let mut sequence = Sequence::default();
            let (mut first_times, mut duplicates, mut missing) = (0, 0, 0);
            for number in &numbers {
                match sequence.check(*number) {
                    Next => first_times += 1,
                    Gap(count) => { first_times += 1; missing += count; }
                    Verdict::Late => { first_times += 1; missing -= 1; }
                    Duplicate => duplicates += 1,
                }
            }
            let distinct: std::collections::BTreeSet<u64> = numbers.iter().copied().collect();
            prop_assert_eq!(first_times, distinct.len());
            prop_assert_eq!(duplicates, numbers.len() - distinct.len());
            prop_assert_eq!(missing, sequence.last() - distinct.len() as u64);
        }
    }
}
