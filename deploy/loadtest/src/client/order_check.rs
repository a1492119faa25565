//! Checks the entries of one stream: each entry of its room after its first position must come once and in order.
//!
//! A room of Roomcast has one log of dense seqs. Most entries are messages. The others, such as joins, are checked in the same
//! way, and only messages are compared with what was posted.

use std::cmp::Ordering;

use crate::client::sequence::{Sequence, Verdict};
use crate::client::sse_parser::{EventKind, Position, SseEvent};

/// Counts of what streams must not do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OrderViolations {
    /// Entries that never came although later ones did.
    pub(crate) missing: u64,
    /// Entries that came again.
    pub(crate) doubled: u64,
    /// Entries that came after later ones, and entries without an id or of another epoch.
    pub(crate) misplaced: u64,
    /// Streams that the server reset.
    pub(crate) resets: u64,
}

/// The check of one stream, in the way that its server allows.
#[derive(Debug)]
pub(crate) enum OrderCheck {
    /// By the seqs of the ids, which are dense.
    Dense {
        /// The epoch of the first id; `None` before it.
        epoch: Option<u64>,
        /// The seqs.
        seqs: Sequence,
        /// Entries up to the last seq that are no messages.
        others: u64,
    },
    /// By the counts in the tags, for each posting connection by itself: for a server whose ids are not dense.
    PerConnection(Box<[Sequence]>),
    /// By ids that rise and are not dense, where parsing tags would cost too much. A missing message is noticed at the
    /// end of the run.
    Rising {
        /// Position of the last message.
        last: Option<Position>,
        /// Messages so far.
        count: u64,
    },
}

impl OrderCheck {
    /// The check of a stream whose ids are `<epoch>-<seq>`, and before whose first position the room has so many entries that
    /// are no messages.
    pub(crate) fn dense(others: u64) -> Self {
        Self::Dense {
            epoch: None,
            seqs: Sequence::default(),
            others,
        }
    }

    /// The check of a stream with the messages of so many posting connections, all from their first one.
    pub(crate) fn per_connection(count: usize) -> Self {
        Self::PerConnection(vec![Sequence::default(); count].into())
    }

    /// The check of a stream whose ids rise, from its first message on.
    pub(crate) fn rising() -> Self {
        Self::Rising { last: None, count: 0 }
    }

    /// How many messages of the room the stream has, including those before its first position.
    pub(crate) fn reached(&self) -> u64 {
        match self {
            Self::Dense { seqs, others, .. } => seqs.last().saturating_sub(*others),
            Self::PerConnection(connections) => connections.iter().map(Sequence::last).sum(),
            Self::Rising { count, .. } => *count,
        }
    }

    /// The position to resume from; `None` before the first id, and where ids are not those of Roomcast.
    pub(crate) fn position(&self) -> Option<Position> {
        match self {
            Self::Dense { epoch, seqs, .. } => epoch.map(|epoch| Position {
                epoch,
                seq: seqs.last(),
            }),
            Self::PerConnection(_) | Self::Rising { .. } => None,
        }
    }

    /// Checks `event` and adds what it violates to `violations`.
    #[inline]
    pub(crate) fn check(&mut self, event: &SseEvent, violations: &mut OrderViolations) {
        let verdict = match (self, event.kind) {
            (Self::Dense { epoch, seqs, others }, EventKind::Message | EventKind::OtherEntry) => match event.position {
                Some(position) if *epoch == Some(position.epoch) => {
                    let verdict = seqs.check(position.seq);
                    *others += u64::from(event.kind == EventKind::OtherEntry && verdict != Verdict::Duplicate);
                    Some(verdict)
                }
                _ => None,
            },
            (Self::PerConnection(connections), EventKind::Message) => event.tag.and_then(|tag| {
                let connection = connections.get_mut(usize::try_from(tag.connection).ok()?)?;
                Some(connection.check(tag.count))
            }),
            (Self::Rising { last, count }, EventKind::Message) => event.position.map(|position| {
                let verdict = match Some(position).cmp(last) {
                    Ordering::Greater => Verdict::Next,
                    Ordering::Equal => Verdict::Duplicate,
                    Ordering::Less => Verdict::Late,
                };
                *last = (*last).max(Some(position));
                *count += u64::from(verdict != Verdict::Duplicate);
                verdict
            }),
            (Self::Dense { epoch, seqs, .. }, kind) => {
                Some(check_position(kind, event.position, epoch, seqs, violations))
            }
            (Self::PerConnection(_) | Self::Rising { .. }, _) => Some(Verdict::Next),
        };
        violations.count(verdict);
    }
}

impl OrderViolations {
    /// Counts what the verdict on an entry violates; `None` for an invalid one: without an id, of another epoch, or of a room
    /// that the stream does not follow.
    #[inline]
    pub(crate) fn count(&mut self, verdict: Option<Verdict>) {
        match verdict {
            Some(Verdict::Next) => {}
            Some(Verdict::Gap(missing)) => self.missing += missing,
            Some(Verdict::Duplicate) => self.doubled += 1,
            None => self.misplaced += 1,
            Some(Verdict::Late) => {
                self.misplaced += 1;
                self.missing = self.missing.saturating_sub(1);
            }
        }
    }
}

/// Checks the position in an event that is no entry: it says which entry the server believes to have sent last.
fn check_position(
    kind: EventKind,
    position: Option<Position>,
    epoch: &mut Option<u64>,
    seqs: &mut Sequence,
    violations: &mut OrderViolations,
) -> Verdict {
    let Some(position) = position else {
        return Verdict::Next;
    };
    match kind {
        EventKind::Reset => {
            violations.resets += 1;
            *epoch = Some(position.epoch);
            *seqs = Sequence::after(position.seq);
        }
        // This stream begins at the first position of all.
        _ if epoch.is_none() => {
            *epoch = Some(position.epoch);
            *seqs = Sequence::after(position.seq);
        }
        _ if position.seq > seqs.last() => {
            // The server believes that it has sent entries that never came.
            let missing = position.seq - seqs.last();
            *seqs = Sequence::after(position.seq);
            return Verdict::Gap(missing);
        }
        _ => {}
    }
    Verdict::Next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::post_tag::PostTag;

    const EPOCH: u64 = 99;

    fn event(kind: EventKind, seq: u64) -> SseEvent {
        let position = Some(Position { epoch: EPOCH, seq });
        SseEvent {
            kind,
            position,
            tag: None,
        }
    }

    /// The violations of a stream of these events.
    fn violations_of(events: &[SseEvent]) -> OrderViolations {
        let (mut check, mut violations) = (OrderCheck::dense(0), OrderViolations::default());
        for event in events {
            check.check(event, &mut violations);
        }
        violations
    }

    #[test]
    fn other_entries_have_seqs_and_are_no_messages() {
        let (mut check, mut violations) = (OrderCheck::dense(3), OrderViolations::default());
        for (kind, seq) in [
            (EventKind::Ready, 7),
            (EventKind::Message, 8),
            (EventKind::OtherEntry, 9),
            (EventKind::Message, 10),
        ] {
            check.check(&event(kind, seq), &mut violations);
        }
        assert_eq!((violations, check.reached()), (OrderViolations::default(), 6));
        // One that comes again, and a message that never comes.
        for (kind, seq) in [(EventKind::OtherEntry, 9), (EventKind::OtherEntry, 12)] {
            check.check(&event(kind, seq), &mut violations);
        }
        assert_eq!((violations.missing, violations.doubled, violations.misplaced, check.reached()), (1, 1, 0, 7));
    }

    #[test]
    fn a_dense_stream_is_correct() {
        let events = [
            event(EventKind::Ready, 7),
            event(EventKind::Message, 8),
            event(EventKind::Message, 9),
            event(EventKind::Ping, 9),
            event(EventKind::Ready, 9),
            event(EventKind::Message, 10),
        ];
        assert_eq!(violations_of(&events), OrderViolations::default());
    }

    #[test]
    fn missing_messages_are_found() {
        let violations = violations_of(&[event(EventKind::Ready, 7), event(EventKind::Message, 9)]);
        assert_eq!(
            violations,
            OrderViolations {
                missing: 1,
                ..OrderViolations::default()
            }
        );
        let violations = violations_of(&[
            event(EventKind::Ready, 7),
            event(EventKind::Ping, 10),
            event(EventKind::Message, 11),
        ]);
        assert_eq!(
            violations,
            OrderViolations {
                missing: 3,
                ..OrderViolations::default()
            }
        );
    }

    #[test]
    fn duplicates_and_late_messages_are_found() {
        let violations = violations_of(&[
            event(EventKind::Ready, 0),
            event(EventKind::Message, 1),
            event(EventKind::Message, 1),
        ]);
        assert_eq!(
            violations,
            OrderViolations {
                doubled: 1,
                ..OrderViolations::default()
            }
        );
        let violations = violations_of(&[
            event(EventKind::Ready, 0),
            event(EventKind::Message, 2),
            event(EventKind::Message, 1),
        ]);
        assert_eq!(
            violations,
            OrderViolations {
                misplaced: 1,
                ..OrderViolations::default()
            }
        );
    }

    #[test]
    fn foreign_messages_and_resets_are_counted() {
        let foreign = SseEvent {
            position: Some(Position { epoch: 1, seq: 1 }),
            ..SseEvent::default()
        };
        let violations = violations_of(&[
            event(EventKind::Ready, 0),
            foreign,
            SseEvent::default(),
            event(EventKind::Reset, 5),
            event(EventKind::Message, 6),
        ]);
        assert_eq!(
            violations,
            OrderViolations {
                misplaced: 2,
                resets: 1,
                ..OrderViolations::default()
            }
        );
    }

    #[test]
    fn rising_ids_show_duplicates_and_late_messages() {
        let (mut check, mut violations) = (OrderCheck::rising(), OrderViolations::default());
        for seq in [3, 7, 7, 9, 8] {
            check.check(&event(EventKind::Message, seq), &mut violations);
        }
        assert_eq!((violations.missing, violations.doubled, violations.misplaced, check.reached()), (0, 1, 1, 4));
    }

    #[test]
    fn each_posting_connection_is_checked_by_itself() {
        let (mut check, mut violations) = (OrderCheck::per_connection(2), OrderViolations::default());
        for (connection, count) in [(0, 1), (1, 1), (1, 2), (0, 2), (0, 4), (1, 2), (2, 1)] {
            let tag = Some(PostTag {
                connection,
                count,
                posted_us: 0,
            });
            check.check(
                &SseEvent {
                    tag,
                    ..SseEvent::default()
                },
                &mut violations,
            );
        }
        // The last event is of a connection that does not exist: it is counted as misplaced and makes up for no missing
        // message.
        assert_eq!((violations.missing, violations.doubled, violations.misplaced), (1, 1, 1));
        assert_eq!(check.reached(), 6);
    }
}
