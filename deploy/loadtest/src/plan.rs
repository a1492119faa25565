//! A load in numbers: streams, rooms, posts, and for how long.

mod key_kind;
mod preset;
mod user_rooms;

use std::time::Duration;

pub use self::key_kind::KeyKind;
pub(crate) use self::preset::CHANGED_ROOMS;
pub use self::preset::Preset;
pub use self::user_rooms::UserRooms;

/// Most posts a second of one connection of a load at a rate; for more, another connection posts as well.
const POSTS_PER_CONNECTION: f64 = 20.0;
/// Most connections that post at a rate.
const CONNECTIONS: usize = 256;
/// Streams of a run on which latency is measured, so that measuring costs little.
const SAMPLED: usize = 100;

/// A load in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Streams held open.
    pub streams: usize,
    /// Rooms that the streams are spread over.
    pub rooms: usize,
    /// The rooms of users, where each stream follows all rooms of a user of its own; `None` where each follows one room.
    pub user_rooms: Option<UserRooms>,
    /// Requests that clients send while the streams are open.
    pub work: Work,
    /// Characters of a message.
    pub text: usize,
    /// Time under load before the first window.
    pub warm_up: Duration,
    /// Length of a window, the time that is measured.
    pub window: Duration,
    /// Streams opened a second; `None` to open the next ones as fast as the server answers.
    pub ramp: Option<usize>,
    /// Percent of the streams that stop reading for a second window; 0 for no such window.
    pub stalled_percent: usize,
    /// Messages that each stream misses while all are disconnected, as many in each of its rooms; `None` to keep the streams
    /// connected.
    pub missed: Option<u64>,
    /// Whether the gateways are restarted while all streams are disconnected, so that they keep no messages.
    pub restarts: bool,
    /// Whether gateways log their SQL statements, which costs them time, and these are counted.
    pub counts_statements: bool,
    /// Posting pauses while the slowest of the sampled streams is more than this many messages behind what its room has
    /// acknowledged; 0 for no such bound. Without a bound, a server that acknowledges before it delivers falls behind
    /// for as long as it is measured, and the deliveries a second that are measured are none it could sustain.
    pub lag: u64,
    /// Whether the memory of a stream is measured, which takes long waits until the memory of the servers is steady.
    pub measures_stream_memory: bool,
    /// Which idempotency keys posts have.
    pub keys: KeyKind,
    /// Threads that read streams.
    pub threads: usize,
}

/// Requests that clients send while the streams are open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// No requests.
    Silence,
    /// So many connections post as fast as they are answered.
    Flood(usize),
    /// Posts a second over all rooms.
    Rate(f64),
    /// Connections ask for pages of history as fast as they are answered.
    History {
        /// Number of connections.
        connections: usize,
        /// Messages in each room.
        messages: u64,
        /// The pages they ask for.
        pages: Pages,
    },
    /// Users catch up with all their rooms, and open streams that have missed nothing.
    Sync {
        /// Number of connections.
        connections: usize,
        /// Calls of each kind.
        calls: usize,
    },
}

/// Pages of history that connections ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pages {
    /// Pages anywhere in a room, each requested once.
    Any,
    /// The newest page, while so many posts a second go to all rooms together.
    Newest(f64),
}

impl Plan {
    /// This plan with other work.
    pub(crate) fn with(&self, work: Work) -> Self {
        Self { work, ..self.clone() }
    }

    /// Connections that post or ask for history.
    #[must_use]
    pub fn request_connections(&self) -> usize {
        match self.work {
            Work::Silence => 0,
            Work::Flood(connections) | Work::History { connections, .. } | Work::Sync { connections, .. } => {
                connections
            }
            Work::Rate(per_s) => ceil(per_s / POSTS_PER_CONNECTION).clamp(1, CONNECTIONS),
        }
    }

    /// Messages that each room holds before the streams are opened.
    #[must_use]
    pub fn stored_messages(&self) -> u64 {
        match self.work {
            Work::History { messages, .. } => messages,
            _ => 0,
        }
    }

    /// Rooms that a stream follows.
    #[must_use]
    pub fn rooms_each(&self) -> usize {
        self.user_rooms.map_or(1, |user_rooms| user_rooms.each)
    }

    /// Streams that follow a room on average, at least 1: deliveries a second are divided by it, also where no stream is open.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "numbers of streams are far below 2^52")]
    pub fn streams_per_room(&self) -> f64 {
        ((self.streams * self.rooms_each()) as f64 / self.rooms.max(1) as f64).max(1.0)
    }

    /// The same load on streams of one room each: as many streams, and as many of them for each message. `None` if this load is that.
    #[must_use]
    pub fn on_room_streams(&self) -> Option<Self> {
        let user_rooms = self.user_rooms?;
        Some(Self {
            user_rooms: None,
            rooms: (self.rooms / user_rooms.each.max(1)).max(1),
            ..self.clone()
        })
    }

    /// Messages posted to every room so that each stream misses `missed`.
    #[must_use]
    pub fn missed_per_room(&self, missed: u64) -> u64 {
        missed.div_ceil(self.rooms_each().max(1) as u64)
    }

    /// Most connections that post to the same room.
    #[must_use]
    pub fn connections_per_room(&self) -> usize {
        self.request_connections().div_ceil(self.rooms).max(1)
    }

    /// True if latency is measured on stream `number`.
    pub(crate) fn is_sampled(&self, number: usize) -> bool {
        hash(number).is_multiple_of(self.streams.div_ceil(SAMPLED).max(1)) && !self.is_stalled(number)
    }

    /// True if stream `number` stops reading for the second window.
    pub(crate) fn is_stalled(&self, number: usize) -> bool {
        hash(number) % 100 < self.stalled_percent
    }

    /// Number of windows that are measured.
    #[must_use]
    pub fn windows(&self) -> usize {
        match (self.missed, self.work) {
            (Some(_), _) | (None, Work::Sync { .. }) => 0,
            _ if self.stalled_percent > 0 => 2,
            _ => 1,
        }
    }

    /// Why the plan cannot be run, if it cannot.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let rate = match self.work {
            Work::Rate(per_s)
            | Work::History {
                pages: Pages::Newest(per_s),
                ..
            } => Some(per_s),
            _ => None,
        };
        let is_rate_wrong = rate.is_some_and(|per_s| !(per_s > 0.0 && per_s <= 1e6));
        match () {
            () if self.rooms == 0 => Some("there must be at least one room"),
            () if self.threads == 0 => Some("there must be at least one reading thread"),
            () if self.stalled_percent > 99 => Some("not all streams can stall"),
            () if is_rate_wrong => Some("a rate lies between 0 and a million a second"),
            () if self.request_connections() == 0 && self.work != Work::Silence => {
                Some("there must be at least one connection")
            }
            () if self.stored_messages() == 0 && matches!(self.work, Work::History { .. }) => {
                Some("there must be a message to read")
            }
            () if self.user_rooms.is_some_and(|user_rooms| !user_rooms.is_possible(self.rooms)) => {
                Some("a user is in at least one room, and in no more than there are; a skew lies between 0 and 10")
            }
            () if self.user_rooms.is_some() && matches!(self.work, Work::History { .. }) => {
                Some("history is read without streams of all rooms of a user")
            }
            () if self.user_rooms.is_none() && matches!(self.work, Work::Sync { .. }) => {
                Some("users catch up with all their rooms: say how many")
            }
            () if self.restarts && self.missed.is_none() => Some("gateways are restarted while streams miss messages"),
            () if self.text > 4_000 => Some("a message has at most 4,000 characters"),
            () if self.window > Duration::from_hours(1) => Some("a window lasts an hour at most"),
            () => None,
        }
    }
}

/// Spreads stream numbers, so that a choice by the hash is independent of the rooms, which streams take in turn:
/// multiplicative hashing (Knuth).
fn hash(number: usize) -> usize {
    number.wrapping_mul(2_654_435_761) >> 7
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is too large or no number saturates"
)]
pub(crate) fn ceil(number: f64) -> usize {
    number.ceil() as usize
}

/// Time between two requests of each of so many `connections`, in microseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a plan's rate and its few connections give a time between a microsecond and some days"
)]
pub(crate) fn interval_us(connections: usize, per_s: f64) -> u64 {
    (connections as f64 * 1e6 / per_s).max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_enough_for_the_rate_and_bounded() {
        let with = |work, rooms| Plan {
            rooms,
            work,
            ..Preset::Hot.plan()
        };
        for (work, rooms, connections, per_room) in [
            (Work::Silence, 1, 0, 1),
            (Work::Flood(64), 20, 64, 4),
            (Work::Rate(20.0), 1, 1, 1),
            (Work::Rate(1_000.0), 20, 50, 3),
            (Work::Rate(1e6), 1_000, 256, 1),
        ] {
            let plan = with(work, rooms);
            assert_eq!((plan.request_connections(), plan.connections_per_room()), (connections, per_room), "{work:?}");
        }
    }

    #[test]
    fn streams_of_users_and_of_rooms_have_the_same_load() {
        let users = Preset::Users.plan();
        let rooms = users.on_room_streams().unwrap();
        assert_eq!((users.streams, users.rooms_each()), (rooms.streams, 50));
        assert!((users.streams_per_room() - rooms.streams_per_room()).abs() < 1e-9);
        assert_eq!((users.work, rooms.problem(), rooms.on_room_streams()), (rooms.work, None, None));
    }

    #[test]
    fn an_impossible_plan_is_refused() {
        let plan = Preset::Latency.plan();
        for plan in [
            Plan {
                rooms: 0,
                ..plan.clone()
            },
            Plan {
                threads: 0,
                ..plan.clone()
            },
            Plan {
                stalled_percent: 100,
                ..plan.clone()
            },
            Plan {
                work: Work::Rate(0.0),
                ..plan.clone()
            },
            Plan {
                work: Work::Rate(f64::NAN),
                ..plan.clone()
            },
            Plan {
                work: Work::Flood(0),
                ..plan.clone()
            },
            Plan {
                text: 4_001,
                ..plan.clone()
            },
            Plan {
                restarts: true,
                ..plan.clone()
            },
            Plan {
                user_rooms: None,
                ..Preset::Sync.plan()
            },
            Plan {
                rooms: 49,
                ..Preset::Users.plan()
            },
        ] {
            assert!(plan.problem().is_some(), "{plan:?}");
        }
    }
}
