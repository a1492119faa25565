//! What one client may see: every message of its room after its position, once each and in order.

use std::cmp::Ordering;

use crate::scanner::{Event, Kind, Position};
use crate::sequence::{Sequence, Verdict};

/// What clients saw that they must not see, and how often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Messages that never came although later ones did.
    pub(crate) missing: u64,
    /// Messages that came again.
    pub(crate) doubled: u64,
    /// Messages that came after later ones, or from nowhere: without an id, or of another epoch.
    pub(crate) misplaced: u64,
    /// Streams that were told to begin anew.
    pub(crate) resets: u64,
}

/// The messages of one stream, judged.
#[derive(Debug)]
pub(crate) enum Order {
    /// By their ids, which are dense.
    Dense {
        /// Of the first id; `None` before it.
        epoch: Option<u64>,
        /// The seqs.
        seqs: Sequence,
    },
    /// By the counts of those who posted them, for a server whose ids are not dense.
    Lanes(Box<[Sequence]>),
    /// By ids that rise and are not dense, where counts would cost too much: what is missing is missed at the end.
    Rising {
        /// Of the last message.
        last: Option<Position>,
        /// Messages so far.
        count: u64,
    },
}

impl Order {
    /// For streams whose ids are `<epoch>-<seq>`.
    pub(crate) fn dense() -> Self {
        Self::Dense {
            epoch: None,
            seqs: Sequence::default(),
        }
    }

    /// For streams with messages of so many lanes, all from their first one.
    pub(crate) fn lanes(count: usize) -> Self {
        Self::Lanes(vec![Sequence::default(); count].into())
    }

    /// For streams whose ids rise, from the first message on.
    pub(crate) fn rising() -> Self {
        Self::Rising { last: None, count: 0 }
    }

    /// How many messages of the room have come, including what the first position had before it.
    pub(crate) fn reached(&self) -> u64 {
        match self {
            Self::Dense { seqs, .. } => seqs.last(),
            Self::Lanes(lanes) => lanes.iter().map(Sequence::last).sum(),
            Self::Rising { count, .. } => *count,
        }
    }

    /// Where to go on; `None` before the first id, and where ids are not ours.
    pub(crate) fn position(&self) -> Option<Position> {
        match self {
            Self::Dense { epoch, seqs } => epoch.map(|epoch| Position {
                epoch,
                seq: seqs.last(),
            }),
            Self::Lanes(_) | Self::Rising { .. } => None,
        }
    }

    /// Judges `event` and adds what is wrong with it to `faults`.
    #[inline]
    pub(crate) fn take(&mut self, event: &Event, faults: &mut Faults) {
        let verdict = match (self, event.kind) {
            (Self::Dense { epoch, seqs }, Kind::Message) => match event.position {
                Some(position) if *epoch == Some(position.epoch) => Some(seqs.take(position.seq)),
                _ => None,
            },
            (Self::Lanes(lanes), Kind::Message) => event.stamp.and_then(|stamp| {
                let lane = lanes.get_mut(usize::try_from(stamp.lane).ok()?)?;
                Some(lane.take(stamp.count))
            }),
            (Self::Rising { last, count }, Kind::Message) => event.position.map(|position| {
                let verdict = match Some(position).cmp(last) {
                    Ordering::Greater => Verdict::Next,
                    Ordering::Equal => Verdict::Double,
                    Ordering::Less => Verdict::Late,
                };
                *last = (*last).max(Some(position));
                *count += u64::from(verdict != Verdict::Double);
                verdict
            }),
            (Self::Dense { epoch, seqs }, kind) => Some(take_position(kind, event.position, epoch, seqs, faults)),
            (Self::Lanes(_) | Self::Rising { .. }, _) => Some(Verdict::Next),
        };
        match verdict {
            Some(Verdict::Next) => {}
            Some(Verdict::Gap(missing)) => faults.missing += missing,
            Some(Verdict::Double) => faults.doubled += 1,
            // From nowhere.
            None => faults.misplaced += 1,
            Some(Verdict::Late) => {
                faults.misplaced += 1;
                faults.missing = faults.missing.saturating_sub(1);
            }
        }
    }
}

/// What an event that is no message says about the place its stream has reached.
fn take_position(
    kind: Kind,
    position: Option<Position>,
    epoch: &mut Option<u64>,
    seqs: &mut Sequence,
    faults: &mut Faults,
) -> Verdict {
    let Some(position) = position else {
        return Verdict::Next;
    };
    match kind {
        Kind::Reset => {
            faults.resets += 1;
            *epoch = Some(position.epoch);
            *seqs = Sequence::after(position.seq);
        }
        // The first position of all is where this client begins.
        _ if epoch.is_none() => {
            *epoch = Some(position.epoch);
            *seqs = Sequence::after(position.seq);
        }
        _ if position.seq > seqs.last() => {
            // The server believes that it has sent what never came.
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
    use crate::stamp::Stamp;

    const EPOCH: u64 = 99;

    fn event(kind: Kind, seq: u64) -> Event {
        let position = Some(Position { epoch: EPOCH, seq });
        Event {
            kind,
            position,
            stamp: None,
        }
    }

    /// What is wrong with a stream of these events.
    fn judge(events: &[Event]) -> Faults {
        let (mut order, mut faults) = (Order::dense(), Faults::default());
        for event in events {
            order.take(event, &mut faults);
        }
        faults
    }

    #[test]
    fn a_stream_that_follows_its_position_is_right() {
        let events = [
            event(Kind::Ready, 7),
            event(Kind::Message, 8),
            event(Kind::Message, 9),
            event(Kind::Ping, 9),
            event(Kind::Ready, 9),
            event(Kind::Message, 10),
        ];
        assert_eq!(judge(&events), Faults::default());
    }

    #[test]
    fn a_hole_is_found() {
        let faults = judge(&[event(Kind::Ready, 7), event(Kind::Message, 9)]);
        assert_eq!(
            faults,
            Faults {
                missing: 1,
                ..Faults::default()
            }
        );
        let faults = judge(&[event(Kind::Ready, 7), event(Kind::Ping, 10), event(Kind::Message, 11)]);
        assert_eq!(
            faults,
            Faults {
                missing: 3,
                ..Faults::default()
            }
        );
    }

    #[test]
    fn doubles_and_late_ones_are_found() {
        let faults = judge(&[event(Kind::Ready, 0), event(Kind::Message, 1), event(Kind::Message, 1)]);
        assert_eq!(
            faults,
            Faults {
                doubled: 1,
                ..Faults::default()
            }
        );
        let faults = judge(&[event(Kind::Ready, 0), event(Kind::Message, 2), event(Kind::Message, 1)]);
        assert_eq!(
            faults,
            Faults {
                misplaced: 1,
                ..Faults::default()
            }
        );
    }

    #[test]
    fn a_message_from_nowhere_is_misplaced_and_a_reset_is_counted() {
        let foreign = Event {
            position: Some(Position { epoch: 1, seq: 1 }),
            ..Event::default()
        };
        let faults = judge(&[
            event(Kind::Ready, 0),
            foreign,
            Event::default(),
            event(Kind::Reset, 5),
            event(Kind::Message, 6),
        ]);
        assert_eq!(
            faults,
            Faults {
                misplaced: 2,
                resets: 1,
                ..Faults::default()
            }
        );
    }

    #[test]
    fn ids_that_rise_are_counted_and_doubles_and_late_ones_found() {
        let (mut order, mut faults) = (Order::rising(), Faults::default());
        for seq in [3, 7, 7, 9, 8] {
            order.take(&event(Kind::Message, seq), &mut faults);
        }
        assert_eq!((faults.missing, faults.doubled, faults.misplaced, order.reached()), (0, 1, 1, 4));
    }

    #[test]
    fn lanes_are_judged_each_by_itself() {
        let (mut order, mut faults) = (Order::lanes(2), Faults::default());
        for (lane, count) in [(0, 1), (1, 1), (1, 2), (0, 2), (0, 4), (1, 2), (2, 1)] {
            let stamp = Some(Stamp { lane, count, posted: 0 });
            order.take(
                &Event {
                    stamp,
                    ..Event::default()
                },
                &mut faults,
            );
        }
        // The last one is of a lane that is not there: it makes up for nothing.
        assert_eq!((faults.missing, faults.doubled, faults.misplaced), (1, 1, 1));
        assert_eq!(order.reached(), 6);
    }
}
