//! Rate-limited log events: the first occurrence is logged, those that follow are counted, and the count is logged every ten
//! seconds.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Once;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{Level, error, event, info, warn};

/// How often counts are logged.
const INTERVAL: Duration = Duration::from_secs(10);

/// Subjects that are counted separately. The events of further ones are counted together, under an empty subject.
const MAX_SUBJECTS: usize = 1_000;

/// How severe an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// A client was refused.
    Info,
    /// An operator should look when there are many.
    Warn,
    /// Something does not work.
    Error,
}

/// Who reads an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The operators of the service.
    Operators,
    /// Those who watch for attacks: target `security`.
    Security,
}

/// A kind of log event. Its name is stable: programs search for it.
#[derive(Debug)]
pub struct LogEvent {
    /// In `snake_case`.
    pub name: &'static str,
    /// What happened, as the beginning of a sentence.
    pub text: &'static str,
    /// How severe it is.
    pub severity: Severity,
    /// Who reads it.
    pub audience: Audience,
}

/// The events since the counts were last logged, by event and subject.
static COUNTS: Mutex<Option<HashMap<(&'static str, String), Counted>>> = Mutex::new(None);

/// Starts the thread that logs them.
static WRITER: Once = Once::new();

struct Counted {
    event: &'static LogEvent,
    /// Occurrences that are not logged yet.
    more: u64,
}

impl LogEvent {
    /// A failure, for operators.
    #[must_use]
    pub const fn outage(name: &'static str, text: &'static str) -> Self {
        Self {
            name,
            text,
            severity: Severity::Error,
            audience: Audience::Operators,
        }
    }

    /// A refusal, for those who watch for attacks.
    #[must_use]
    pub const fn refusal(name: &'static str, text: &'static str) -> Self {
        Self {
            name,
            text,
            severity: Severity::Info,
            audience: Audience::Security,
        }
    }

    /// The same as a warning.
    #[must_use]
    pub const fn warning(self) -> Self {
        Self {
            severity: Severity::Warn,
            ..self
        }
    }

    /// Reports an occurrence for `subject`: an id of a user, session or network, never e-mail, password, token or text.
    /// `detail` is logged with the first occurrence of a series.
    pub fn report(&'static self, subject: impl Display, detail: impl Display) {
        WRITER.call_once(|| {
            // Without the thread the counts are never logged, and the first occurrences still are.
            let _ = thread::Builder::new().name("log-counts".to_owned()).spawn(|| {
                loop {
                    pause();
                    write_counts();
                }
            });
        });
        let subject = subject.to_string();
        if self.is_first(&subject) {
            self.write(&subject, &detail.to_string(), 1);
        }
    }

    /// Counts an occurrence; true if it is to be logged at once.
    fn is_first(&'static self, subject: &str) -> bool {
        let mut guard = COUNTS.lock();
        let counts = guard.get_or_insert_default();
        let many = counts.len() >= MAX_SUBJECTS;
        let key = (self.name, subject.to_owned());
        let key = if many && !counts.contains_key(&key) {
            (self.name, String::new())
        } else {
            key
        };
        if let Some(counted) = counts.get_mut(&key) {
            counted.more += 1;
            return false;
        }
        let counted = Counted { event: self, more: 0 };
        counts.insert(key, counted);
        true
    }

    fn write(&self, subject: &str, detail: &str, count: u64) {
        let Self { name, text, .. } = self;
        let separator = if detail.is_empty() { "" } else { ": " };
        match (self.audience, self.severity) {
            (Audience::Security, Severity::Info) => {
                event!(target: "security", Level::INFO, event.name = name, event.subject = subject, event.count = count, "{text}{separator}{detail}");
            }
            (Audience::Security, Severity::Warn | Severity::Error) => {
                event!(target: "security", Level::WARN, event.name = name, event.subject = subject, event.count = count, "{text}{separator}{detail}");
            }
            (Audience::Operators, Severity::Info) => {
                info!(event.name = name, event.subject = subject, event.count = count, "{text}{separator}{detail}");
            }
            (Audience::Operators, Severity::Warn) => {
                warn!(event.name = name, event.subject = subject, event.count = count, "{text}{separator}{detail}");
            }
            (Audience::Operators, Severity::Error) => {
                error!(event.name = name, event.subject = subject, event.count = count, "{text}{separator}{detail}");
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread that logs counts runs no tasks")]
fn pause() {
    thread::sleep(INTERVAL);
}

/// Logs the counts of events that occurred again since the last time, and forgets those that did not.
fn write_counts() {
    let mut due = Vec::new();
    if let Some(counts) = COUNTS.lock().as_mut() {
        counts.retain(|(_, subject), counted| {
            if counted.more > 0 {
                due.push((counted.event, subject.clone(), counted.more));
            }
            // A series that goes on is only counted.
            std::mem::take(&mut counted.more) > 0
        });
    }
    for (event, subject, more) in due {
        event.write(&subject, &format!("{more} more within {} s", INTERVAL.as_secs()), more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_occurrence_is_logged_and_further_ones_counted() {
        static EVENT: LogEvent = LogEvent::outage("test_flood", "something failed");
        assert!(EVENT.is_first("ann"));
        assert!((0..300).all(|_| !EVENT.is_first("ann")));
        assert!(EVENT.is_first("bob"), "another subject");
        let more = |subject: &str| {
            COUNTS.lock().as_ref().unwrap().get(&("test_flood", subject.to_owned())).map(|counted| counted.more)
        };
        assert_eq!((more("ann"), more("bob")), (Some(300), Some(0)));
        write_counts();
        assert_eq!((more("ann"), more("bob")), (Some(0), None));
        assert!(!EVENT.is_first("ann"), "the flood goes on");
        write_counts();
        write_counts();
        assert!(EVENT.is_first("ann"), "it was over");
    }
}
