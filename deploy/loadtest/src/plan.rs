//! A load in numbers: streams, rooms, posts, and for how long.

mod key_kind;
mod preset;
mod problem;
mod user_rooms;

use std::time::Duration;

pub use self::key_kind::KeyKind;
pub(crate) use self::preset::CHANGED_ROOMS;
pub use self::preset::Preset;
pub use self::user_rooms::UserRooms;

/// Most requests a second of one connection at a rate; for more, another connection sends some of them.
const REQUESTS_PER_CONNECTION: f64 = 20.0;
/// Most connections that send requests at a rate.
const CONNECTIONS: usize = 256;
/// Streams of a run on which latency is measured, so that measuring costs little.
const SAMPLED: usize = 100;
/// Windows of a load with typing calls: without, with, without, with. A drift of the machine affects both kinds.
const TYPING_WINDOWS: usize = 4;

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
    /// Time under load before the first window, and before each window in which typing calls begin or stop.
    pub warm_up: Duration,
    /// Length of a window, the time that is measured.
    pub window: Duration,
    /// Streams opened a second; `None` to open the next ones as fast as the server answers.
    pub ramp: Option<usize>,
    /// Percent of the streams that stop reading for a second window; 0 for no such window.
    pub stalled_percent: usize,
    /// How often each user with a stream sends a typing call, in every second window; `None` for no such calls.
    pub typing_every: Option<Duration>,
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
            Work::Rate(per_s) => ceil(per_s / REQUESTS_PER_CONNECTION).clamp(1, CONNECTIONS),
        }
    }

    /// Typing calls a second of all users together, in the windows that have them.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "numbers of streams are far below 2^52")]
    pub fn typing_per_s(&self) -> Option<f64> {
        self.typing_every.map(|every| self.streams as f64 / every.as_secs_f64())
    }

    /// Connections that send typing calls, each those of its share of the users.
    #[must_use]
    pub fn typing_connections(&self) -> usize {
        let needed = self.typing_per_s().map_or(0, |per_s| ceil(per_s / REQUESTS_PER_CONNECTION));
        needed.min(CONNECTIONS).min(self.streams)
    }

    /// True if users send typing calls in window `number`, which counts from 1.
    pub(crate) fn is_typing(&self, number: usize) -> bool {
        self.typing_every.is_some() && number.is_multiple_of(2)
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
        let is_measured_otherwise = self.missed.is_some() || matches!(self.work, Work::Sync { .. });
        match () {
            () if is_measured_otherwise => 0,
            () if self.typing_every.is_some() => TYPING_WINDOWS,
            () if self.stalled_percent > 0 => 2,
            () => 1,
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
    fn users_type_in_every_second_window() {
        let plan = Preset::Typing.plan();
        let windows: Vec<bool> = (1..=plan.windows()).map(|number| plan.is_typing(number)).collect();
        assert_eq!(windows, [false, true, false, true]);
        assert_eq!((plan.typing_per_s(), plan.typing_connections()), (Some(500.0), 25));
        let few = Plan { streams: 3, ..plan };
        assert_eq!((few.typing_per_s(), few.typing_connections()), (Some(1.5), 1));
        assert_eq!((Preset::Users.plan().typing_per_s(), Preset::Users.plan().typing_connections()), (None, 0));
    }

    #[test]
    fn streams_of_users_and_of_rooms_have_the_same_load() {
        let users = Preset::Users.plan();
        let rooms = users.on_room_streams().unwrap();
        assert_eq!((users.streams, users.rooms_each()), (rooms.streams, 50));
        assert!((users.streams_per_room() - rooms.streams_per_room()).abs() < 1e-9);
        assert_eq!((users.work, rooms.problem(), rooms.on_room_streams()), (rooms.work, None, None));
    }
}
