//! A series of failures, of which the log shows the first and, where that helps, the end.

/// Whether the last attempts failed, for what is tried again and again: a line for each failure would fill the log in an outage.
#[derive(Debug, Default)]
pub struct FailureSeries {
    goes_on: bool,
}

impl FailureSeries {
    /// Notes that an attempt failed; true for the first failure of a series, which is to be logged.
    #[must_use]
    pub fn failed(&mut self) -> bool {
        !std::mem::replace(&mut self.goes_on, true)
    }

    /// Notes that an attempt succeeded; true if that ended a series. Callers that log no end ignore it.
    pub fn recovered(&mut self) -> bool {
        std::mem::take(&mut self.goes_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_failure_and_the_recovery_are_told() {
        let mut series = FailureSeries::default();
        assert!(!series.recovered(), "nothing has failed yet");
        for _ in 0..2 {
            assert!(series.failed());
            assert!(!series.failed() && !series.failed());
            assert!(series.recovered());
            assert!(!series.recovered());
        }
    }
}
