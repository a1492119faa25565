//! Who is typing in a room, as this process has heard of it: the latest few, for streams to show.
//!
//! It is a state and no queue: whoever looks later sees less, and nobody waits for it. Readers are woken for it at most once a second, so
//! a storm of typing in a large room costs each of them one small write a second.

use std::time::{Duration, Instant};

use shared::bus::TypingNotice;

/// Users shown as typing in one room.
const SHOWN_AT_MOST: usize = 8;

/// How often the readers of a room are woken for it at most.
pub(super) const WAKE_EVERY: Duration = Duration::from_secs(1);

/// How long it is shown that a user types, unless they say so again.
const SHOWN_FOR: Duration = Duration::from_secs(8);

/// The latest typists of a room.
#[derive(Debug, Default)]
pub(super) struct Typists {
    /// Ascending by their numbers.
    latest: Vec<Noted>,
    /// How many were noted ever, from 0 again after 65,535: it is told apart from what a stream saw at most half as many notices before.
    count: u16,
    /// When the readers were woken last, or will be.
    wake_at: Option<Instant>,
}

#[derive(Debug)]
struct Noted {
    /// Its number among all that were noted.
    number: u16,
    at: Instant,
    notice: TypingNotice,
}

impl Typists {
    /// Notes that a user types, or stopped, at `now`. Returns when the readers are to be woken, unless that is planned already.
    pub(super) fn note(&mut self, notice: TypingNotice, now: Instant) -> Option<Instant> {
        self.count = self.count.wrapping_add(1);
        self.latest.retain(|noted| noted.notice.user != notice.user);
        if self.latest.len() >= SHOWN_AT_MOST {
            self.latest.remove(0);
        }
        self.latest.push(Noted {
            number: self.count,
            at: now,
            notice,
        });
        match self.wake_at {
            Some(planned) if planned > now => None,
            Some(last) if now < last + WAKE_EVERY => {
                self.wake_at = Some(last + WAKE_EVERY);
                self.wake_at
            }
            Some(_) | None => {
                self.wake_at = Some(now);
                self.wake_at
            }
        }
    }

    /// How many were noted so far.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Whether anybody was noted lately.
    pub(super) fn has_any(&self, now: Instant) -> bool {
        self.latest.iter().any(|noted| noted.is_shown(now))
    }

    /// Those that were noted lately and are not dropped: after the first `seen` if some were seen, and none before the stream began.
    pub(super) fn after(&self, seen: Option<u16>, (began, now): (Instant, Instant)) -> Vec<TypingNotice> {
        let is_unseen = |noted: &Noted| seen.is_none_or(|seen| is_after(noted.number, seen));
        let is_new = |noted: &&Noted| is_unseen(noted) && noted.at >= began && noted.is_shown(now);
        self.latest.iter().filter(is_new).map(|noted| noted.notice.clone()).collect()
    }
}

impl Noted {
    fn is_shown(&self, now: Instant) -> bool {
        now.duration_since(self.at) < SHOWN_FOR
    }
}

/// Whether a number comes after another one, of numbers that begin anew at the end.
fn is_after(number: u16, other: u16) -> bool {
    number != other && number.wrapping_sub(other) < u16::MAX / 2
}

#[cfg(test)]
mod tests {
    use shared::domain::UserId;

    use super::*;

    fn notice(user: i64) -> TypingNotice {
        TypingNotice {
            user: UserId(user),
            username: format!("user{user}"),
            is_typing: true,
        }
    }

    #[test]
    fn the_latest_few_are_shown_each_once_and_not_for_long() {
        let (mut typists, now) = (Typists::default(), Instant::now());
        for user in 0..20 {
            typists.note(notice(user), now);
        }
        typists.note(notice(15), now);
        let shown: Vec<i64> = typists.after(None, (now, now)).into_iter().map(|notice| notice.user.0).collect();
        assert_eq!(shown, [12, 13, 14, 16, 17, 18, 19, 15]);
        assert_eq!(typists.after(Some(20), (now, now)), [notice(15)]);
        assert!(typists.after(Some(typists.count()), (now, now)).is_empty());
        assert!(typists.after(None, (now, now + SHOWN_FOR)).is_empty());
        let later = now + WAKE_EVERY;
        assert!(typists.after(None, (later, later)).is_empty(), "a stream that begins later");
    }

    #[test]
    fn numbers_that_begin_anew_are_in_order() {
        let (mut typists, now) = (Typists::default(), Instant::now());
        typists.count = u16::MAX - 1;
        for user in 0..4 {
            typists.note(notice(user), now);
        }
        let shown = |seen| typists.after(Some(seen), (now, now)).len();
        assert_eq!([u16::MAX - 1, u16::MAX, 0, 1, 2].map(shown), [4, 3, 2, 1, 0]);
    }

    #[test]
    fn readers_are_woken_at_once_and_then_once_a_second() {
        let (mut typists, start) = (Typists::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(typists.note(notice(1), at(0)), Some(at(0)));
        assert_eq!(typists.note(notice(2), at(100)), Some(at(1_000)), "later");
        assert_eq!(typists.note(notice(3), at(200)), None, "that is planned");
        assert_eq!(typists.note(notice(4), at(1_100)), Some(at(2_000)));
        assert_eq!(typists.note(notice(5), at(3_500)), Some(at(3_500)));
    }
}
