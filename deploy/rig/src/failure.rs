//! The one error of the rig: a sentence for the person who reads the test's output.

use std::fmt;

/// What the rig's calls return.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why something did not work, in words.
///
/// It is no `std::error::Error`, so that every such error converts into it by `?`.
pub struct Failure(String);

impl Failure {
    /// A failure that is explained by `sentence`.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The same as `Display`: `unwrap` in a test prints this.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut sentence = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !sentence.ends_with(&cause_text) {
                sentence = format!("{sentence}: {cause_text}");
            }
            source = cause.source();
        }
        Self(sentence)
    }
}

/// Puts what was tried in front of why it failed.
pub trait Explain<T> {
    /// Turns the error into `<what>: <error>`.
    fn explain(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Failure>> Explain<T> for std::result::Result<T, E> {
    fn explain(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure(format!("{}: {}", what(), error.into())))
    }
}
