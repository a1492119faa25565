//! Tells whoever waits how far a run is: a bar on a terminal, and a line for each step elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// What a bar looks like.
const BAR: &str = "{prefix:>12} [{bar:40}] {msg}";

/// Where progress is told.
pub struct Progress {
    bar: ProgressBar,
    is_told: bool,
}

impl Progress {
    /// On standard error.
    #[must_use]
    pub fn new() -> Self {
        // It hides itself where there is no terminal.
        let bar = ProgressBar::new(1);
        bar.set_style(ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, is_told: true }
    }

    /// Nowhere.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            is_told: false,
        }
    }

    /// Begins a step of so much.
    pub fn step(&self, name: &'static str, length: u64) {
        self.bar.reset();
        self.bar.set_length(length.max(1));
        self.bar.set_prefix(name);
        self.bar.set_message("");
        if self.is_told && !std::io::stderr().is_terminal() {
            eprintln!("loadtest: {name}");
        }
    }

    /// So much of the step is done.
    pub fn at(&self, done: u64, message: impl FnOnce() -> String) {
        self.bar.set_position(done);
        if !self.bar.is_hidden() {
            self.bar.set_message(message());
        }
    }

    /// Leaves nothing behind.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// Milliseconds, for the length of a step.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
