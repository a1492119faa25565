//! How much load, in which form, for how long.

use std::time::Duration;

use clap::ValueEnum;
use uuid::Uuid;

/// Longest time that one connection may wait between two posts before another one is worth it.
const POSTS_PER_CONNECTION: f64 = 20.0;
/// Most connections that post at a rate.
const CONNECTIONS: usize = 256;
/// Streams of a run whose messages' times are taken, so that taking them costs little.
const SAMPLED: usize = 100;

/// A load that answers one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// One room, 1,000 streams, 4 posts in flight while readers keep up: how much goes through for as long as one likes
    Hot,
    /// One room, 1,000 streams, 20,000 deliveries a second: what a delivery costs
    Steady,
    /// 1,000 rooms with 10 streams each, 20,000 deliveries a second: the same without large rooms
    Rooms,
    /// 10,000 streams, 2,500 opened a second, and silence: what a stream costs
    Idle,
    /// 64 connections post to 20 rooms as fast as they are answered: how much is accepted, and stored
    Accept,
    /// 1,000 posts a second to 20 rooms with 200 streams: how long a message takes
    Latency,
    /// 5,000 streams are cut, miss 100 messages each and come back at once: how long until all have them
    Resume,
    /// 1,000 streams in 2 rooms, long messages; then 10 % of them read nothing any more: what the others notice
    Stalled,
    /// Pages anywhere in a long room that nobody follows, each asked for once, as fast as they are answered
    HistoryCold,
    /// The newest page of a room with 10 streams that is posted to 20 times a second, as fast as it is answered
    HistoryHot,
    /// This tool alone: 1,000 streams of a thread that writes prepared events as fast as they are read
    SelfTest,
}

/// A load in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Streams held open.
    pub streams: usize,
    /// Rooms they are spread over.
    pub rooms: usize,
    /// What is asked meanwhile.
    pub work: Work,
    /// Characters of a message.
    pub text: usize,
    /// Time under load before anything is measured.
    pub warm_up: Duration,
    /// Time that is measured.
    pub window: Duration,
    /// Streams opened a second; `None` for as fast as they are answered.
    pub ramp: Option<usize>,
    /// Percent of the streams that read nothing any more in a second window; 0 for no such window.
    pub stalled_percent: usize,
    /// Messages that every room gets while all streams are cut; `None` if they are not.
    pub missed: Option<u64>,
    /// Posting pauses while the slowest of the sampled streams is so many messages behind what its room has acknowledged;
    /// 0 for no such bound. Without one a server that acknowledges before it delivers falls behind for as long as it is
    /// measured, and what it delivers meanwhile it could not deliver for ever.
    pub lag: u64,
    /// What a stream takes of the servers' memory is told: that takes long waits until they are still.
    pub weighs_streams: bool,
    /// Which idempotency keys posts have.
    pub keys: KeyKind,
    /// Threads that read.
    pub threads: usize,
}

/// Idempotency keys of posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyKind {
    /// UUIDs of version 7, which begin with a timestamp: what apps are advised to take
    Ordered,
    /// UUIDs of version 4
    Random,
    /// No key
    None,
}

impl KeyKind {
    /// What figures say of a server whose posts have such keys.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ordered => "",
            Self::Random => ", random keys",
            Self::None => ", no keys",
        }
    }

    /// A key that no other request has, if posts have one.
    pub(crate) fn fresh(self) -> Option<Uuid> {
        match self {
            Self::Ordered => Some(Uuid::now_v7()),
            Self::Random => Some(Uuid::new_v4()),
            Self::None => None,
        }
    }
}

/// What is asked while the streams are open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// Nothing.
    Silence,
    /// So many connections post as fast as they are answered.
    Flood(usize),
    /// So many posts a second.
    Rate(f64),
    /// So many connections ask for history as fast as they are answered.
    History {
        /// How many.
        connections: usize,
        /// Messages in each room.
        messages: u64,
        /// Which pages.
        pages: Pages,
    },
}

/// Pages of history that are asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pages {
    /// Any, each for the first time.
    Any,
    /// The newest, while there are so many posts a second over all rooms.
    Newest(f64),
}

impl Preset {
    /// The load it stands for.
    #[must_use]
    pub fn plan(self) -> Plan {
        let (streams, rooms, work) = match self {
            Self::Hot => (1_000, 1, Work::Flood(4)),
            Self::Steady => (1_000, 1, Work::Rate(20.0)),
            Self::Rooms => (10_000, 1_000, Work::Rate(2_000.0)),
            Self::Idle => (10_000, 100, Work::Silence),
            Self::Accept => (20, 20, Work::Flood(64)),
            Self::Latency => (200, 20, Work::Rate(1_000.0)),
            Self::Resume => (5_000, 50, Work::Flood(50)),
            // 84 KB/s for each stream, so that the sockets of those who stall are full within seconds. What rooms keep of it
            // is in the gateway's memory as well: they are few.
            Self::Stalled => (1_000, 2, Work::Rate(40.0)),
            Self::HistoryCold => (0, 1, history(Pages::Any)),
            Self::HistoryHot => (10, 1, history(Pages::Newest(20.0))),
            Self::SelfTest => (1_000, 1, Work::Silence),
        };
        Plan {
            streams,
            rooms,
            work,
            text: if self == Self::Stalled { 4_000 } else { 100 },
            warm_up: Duration::from_secs(2),
            window: Duration::from_secs(10),
            // All at once, what is weighed is mostly the peak of 10,000 requests that are answered at the same time.
            ramp: (self == Self::Idle).then_some(2_500),
            stalled_percent: if self == Self::Stalled { 10 } else { 0 },
            missed: (self == Self::Resume).then_some(100),
            weighs_streams: self == Self::Idle,
            lag: if self == Self::Hot { 1_000 } else { 0 },
            keys: KeyKind::Ordered,
            threads: 1,
        }
    }

    /// Nchan can be driven in the same way.
    #[must_use]
    pub fn suits_peers(self) -> bool {
        matches!(self, Self::Hot | Self::Steady | Self::Rooms | Self::Idle)
    }
}

fn history(pages: Pages) -> Work {
    Work::History {
        connections: 16,
        messages: 100_000,
        pages,
    }
}

impl Plan {
    /// The same with other work.
    pub(crate) fn with(&self, work: Work) -> Self {
        Self { work, ..self.clone() }
    }

    /// Connections that post or ask for history.
    #[must_use]
    pub fn callers(&self) -> usize {
        match self.work {
            Work::Silence => 0,
            Work::Flood(connections) | Work::History { connections, .. } => connections,
            Work::Rate(per_s) => ceil(per_s / POSTS_PER_CONNECTION).clamp(1, CONNECTIONS),
        }
    }

    /// Messages that each room holds before anything is measured.
    #[must_use]
    pub fn filling(&self) -> u64 {
        match self.work {
            Work::History { messages, .. } => messages,
            _ => 0,
        }
    }

    /// Streams of a room on average; at least one counts, so that what is posted has a rate without any.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "numbers of streams are far below 2^52")]
    pub fn streams_per_room(&self) -> f64 {
        (self.streams as f64 / self.rooms.max(1) as f64).max(1.0)
    }

    /// Posting connections of a room.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.callers().div_ceil(self.rooms).max(1)
    }

    /// True if the times of messages are taken on stream `number`.
    pub(crate) fn is_sampled(&self, number: usize) -> bool {
        scatter(number).is_multiple_of(self.streams.div_ceil(SAMPLED).max(1)) && !self.stalls(number)
    }

    /// True if stream `number` is one of those that stall.
    pub(crate) fn stalls(&self, number: usize) -> bool {
        scatter(number) % 100 < self.stalled_percent
    }

    /// Times that are measured.
    #[must_use]
    pub fn windows(&self) -> usize {
        match (self.missed, self.work) {
            (Some(_), _) => 0,
            _ if self.stalled_percent > 0 => 2,
            _ => 1,
        }
    }

    /// What is wrong with it, if anything is.
    #[must_use]
    pub fn complaint(&self) -> Option<&'static str> {
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
            () if self.callers() == 0 && self.work != Work::Silence => Some("there must be at least one connection"),
            () if self.filling() == 0 && matches!(self.work, Work::History { .. }) => {
                Some("there must be a message to read")
            }
            () if self.text > 4_000 => Some("a message has at most 4,000 characters"),
            () if self.window > Duration::from_hours(1) => Some("a window lasts an hour at most"),
            () => None,
        }
    }
}

/// A number that has nothing to do with the rooms a stream's number leads to: multiplicative hashing (Knuth).
fn scatter(number: usize) -> usize {
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

/// Time between two requests of each of `callers` connections, in microseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a plan's rate and its few connections give a time between a microsecond and some days"
)]
pub(crate) fn interval_us(callers: usize, per_s: f64) -> u64 {
    (callers as f64 * 1e6 / per_s).max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_documented() {
        let page = include_str!("../../docs/performance.md");
        for preset in Preset::value_variants() {
            assert_eq!(preset.plan().complaint(), None);
            let value = preset.to_possible_value().unwrap();
            let name = value.get_name();
            assert!(page.contains(&format!("| `{name}` |")), "performance.md lacks {name}");
        }
    }

    #[test]
    fn connections_are_enough_for_the_rate_and_bounded() {
        let with = |work, rooms| Plan {
            rooms,
            work,
            ..Preset::Hot.plan()
        };
        for (work, rooms, callers, lanes) in [
            (Work::Silence, 1, 0, 1),
            (Work::Flood(64), 20, 64, 4),
            (Work::Rate(20.0), 1, 1, 1),
            (Work::Rate(1_000.0), 20, 50, 3),
            (Work::Rate(1e6), 1_000, 256, 1),
        ] {
            let plan = with(work, rooms);
            assert_eq!((plan.callers(), plan.lanes()), (callers, lanes), "{work:?}");
        }
    }

    #[test]
    fn a_wrong_plan_is_told() {
        let plan = Preset::Latency.plan();
        for wrong in [
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
        ] {
            assert!(wrong.complaint().is_some(), "{wrong:?}");
        }
    }
}
