//! Shows the progress of a run on standard error: a bar on a terminal, otherwise a line for each step.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Template of the bar.
const BAR: &str = "{prefix:>12} [{bar:40}] {msg}";

/// The progress of a run.
pub struct Progress {
    bar: ProgressBar,
    is_shown: bool,
}

impl Progress {
    /// Progress that is shown on standard error.
    #[must_use]
    pub fn new() -> Self {
        // The bar hides itself where there is no terminal.
        let bar = ProgressBar::new(1);
        bar.set_style(ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, is_shown: true }
    }

    /// Progress that is not shown.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            is_shown: false,
        }
    }

    /// Begins a step of this length.
    pub fn step(&self, name: &'static str, length: u64) {
        self.bar.reset();
        self.bar.set_length(length.max(1));
        self.bar.set_prefix(name);
        self.bar.set_message("");
        if self.is_shown && !std::io::stderr().is_terminal() {
            eprintln!("loadtest: {name}");
        }
    }

    /// Sets how much of the step is done.
    pub fn set(&self, done: u64, message: impl FnOnce() -> String) {
        self.bar.set_position(done);
        if !self.bar.is_hidden() {
            self.bar.set_message(message());
        }
    }

    /// Removes the bar.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// Whole milliseconds, for the length of a step.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
