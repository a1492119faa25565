//! Log lines about what can come in floods: the first one is written, those that follow are counted, and every ten seconds
//! the count is written instead of them.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{Level, error, event, info, warn};

/// How often counts are written.
const EVERY: Duration = Duration::from_secs(10);

/// Subjects that are told apart at a time. What comes beyond is counted together, under no subject.
const SUBJECTS: usize = 1_000;

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gravity {
    /// Worth knowing: somebody was refused.
    Info,
    /// Somebody should look when there are many.
    Warn,
    /// Something does not work.
    Error,
}

/// For whom it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Whoever keeps the service running.
    Operators,
    /// Whoever watches for attacks: target `security`.
    Security,
}

/// A kind of event. Its name is stable: programs search for it.
#[derive(Debug)]
pub struct Event {
    /// In `snake_case`.
    pub name: &'static str,
    /// What happened, as the beginning of a sentence.
    pub text: &'static str,
    /// How grave it is.
    pub gravity: Gravity,
    /// For whom it is written.
    pub audience: Audience,
}

/// Counts since the last time they were written, by event and subject.
static SEEN: Mutex<Option<HashMap<(&'static str, String), Counted>>> = Mutex::new(None);

/// Starts the thread that writes them.
static WRITER: Once = Once::new();

struct Counted {
    event: &'static Event,
    /// How many more there were than was written.
    more: u64,
}

impl Event {
    /// Something that does not work, for operators.
    #[must_use]
    pub const fn outage(name: &'static str, text: &'static str) -> Self {
        Self {
            name,
            text,
            gravity: Gravity::Error,
            audience: Audience::Operators,
        }
    }

    /// Something that is refused, for whoever watches for attacks.
    #[must_use]
    pub const fn refusal(name: &'static str, text: &'static str) -> Self {
        Self {
            name,
            text,
            gravity: Gravity::Info,
            audience: Audience::Security,
        }
    }

    /// The same as a warning.
    #[must_use]
    pub const fn warning(self) -> Self {
        Self {
            gravity: Gravity::Warn,
            ..self
        }
    }

    /// Reports that it happened to `subject`: ids of users, sessions and networks, never e-mail, passwords, tokens or text.
    /// `detail` is written with the first one of a row.
    pub fn report(&'static self, subject: impl Display, detail: impl Display) {
        WRITER.call_once(|| {
            // Without the thread what follows is not counted, and the first ones are still written.
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

    /// Counts one; true if it has to be written at once.
    fn is_first(&'static self, subject: &str) -> bool {
        let mut seen = seen();
        let counts = seen.get_or_insert_default();
        let many = counts.len() >= SUBJECTS;
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
        match (self.audience, self.gravity) {
            (Audience::Security, Gravity::Info) => {
                event!(target: "security", Level::INFO, event.name = name, event.subject = subject, event.count = count, "{text}{separator}{detail}");
            }
            (Audience::Security, Gravity::Warn | Gravity::Error) => {
                event!(target: "security", Level::WARN, event.name = name, event.subject = subject, event.count = count, "{text}{separator}{detail}");
            }
            (Audience::Operators, Gravity::Info) => {
                info!(event.name = name, event.subject = subject, event.count = count, "{text}{separator}{detail}");
            }
            (Audience::Operators, Gravity::Warn) => {
                warn!(event.name = name, event.subject = subject, event.count = count, "{text}{separator}{detail}");
            }
            (Audience::Operators, Gravity::Error) => {
                error!(event.name = name, event.subject = subject, event.count = count, "{text}{separator}{detail}");
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread that writes counts has no tasks")]
fn pause() {
    thread::sleep(EVERY);
}

/// Writes how often what happened more than once happened since the last time, and forgets what happens no longer.
fn write_counts() {
    let mut due = Vec::new();
    if let Some(counts) = seen().as_mut() {
        counts.retain(|(_, subject), counted| {
            if counted.more > 0 {
                due.push((counted.event, subject.clone(), counted.more));
            }
            // A flood that goes on is only counted.
            std::mem::take(&mut counted.more) > 0
        });
    }
    for (event, subject, more) in due {
        event.write(&subject, &format!("{more} more within {} s", EVERY.as_secs()), more);
    }
}

fn seen() -> MutexGuard<'static, Option<HashMap<(&'static str, String), Counted>>> {
    // A count is whole after every statement.
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_written_and_a_flood_only_counted() {
        static EVENT: Event = Event::outage("test_flood", "something failed");
        assert!(EVENT.is_first("ann"));
        assert!((0..300).all(|_| !EVENT.is_first("ann")));
        assert!(EVENT.is_first("bob"), "another subject");
        let more = |subject: &str| {
            seen().as_ref().unwrap().get(&("test_flood", subject.to_owned())).map(|counted| counted.more)
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
