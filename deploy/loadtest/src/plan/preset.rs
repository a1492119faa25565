//! Named loads, each made to answer one question.

use std::time::Duration;

use clap::ValueEnum;

use super::{KeyKind, Pages, Plan, UserRooms, Work};

/// Rooms in which something has happened when a user catches up with a cursor. Everybody is in them.
pub(crate) const CHANGED_ROOMS: usize = 3;

/// A named load that answers one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// One room, 1,000 streams, 4 posts in flight while readers keep up: the throughput that can be sustained
    Hot,
    /// One room, 1,000 streams, 20,000 deliveries a second: what a delivery costs
    Steady,
    /// 1,000 rooms with 10 streams each, 20,000 deliveries a second: what a delivery costs in small rooms
    Rooms,
    /// 10,000 streams, 2,500 opened a second, and silence: what a stream costs
    Idle,
    /// 64 connections post to 20 rooms as fast as they are answered: how many posts are accepted and stored
    Accept,
    /// 1,000 posts a second to 20 rooms with 200 streams: the time from a post to its event
    Latency,
    /// 5,000 streams are disconnected, miss 100 messages each and reconnect at once: how long until all have them
    Resume,
    /// 1,000 streams in 2 rooms, long messages, then 10 % of the streams stop reading: how that affects the others
    Stalled,
    /// Pages anywhere in a long room without streams, each requested once, as fast as they are answered
    HistoryCold,
    /// The newest page of a room with 10 streams and 20 posts a second, requested as fast as it is answered
    HistoryHot,
    /// 1,000 streams of all rooms of a user, each in 50 of 1,000 rooms, 20,000 deliveries a second: what a delivery and a stream cost
    Users,
    /// 200 users in 500 rooms each catch up without a cursor and with 3 rooms changed, and open streams: how long that takes
    Sync,
    /// 1,000 users in one room, 50 posts a second, alternately without typing calls and with one of each user every 2 s: how that delays messages
    Typing,
    /// The tool alone: 1,000 streams of a thread that writes prepared events as fast as they are read
    SelfTest,
}

impl Preset {
    /// The load in numbers.
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
            // 84 KB/s for each stream, so that the sockets of stalled streams are full within seconds. The rooms are
            // few, because the messages they retain are in the gateway's memory as well.
            Self::Stalled => (1_000, 2, Work::Rate(40.0)),
            Self::HistoryCold => (0, 1, history(Pages::Any)),
            Self::HistoryHot => (10, 1, history(Pages::Newest(20.0))),
            Self::Users => (1_000, 1_000, Work::Rate(400.0)),
            Self::Sync => (200, 1_000, sync()),
            Self::Typing => (1_000, 1, Work::Rate(50.0)),
            Self::SelfTest => (1_000, 1, Work::Silence),
        };
        Plan {
            streams,
            rooms,
            user_rooms: self.user_rooms(),
            work,
            text: if self == Self::Stalled { 4_000 } else { 100 },
            warm_up: Duration::from_secs(2),
            window: self.window(),
            // Were all streams opened at once, the memory measured would mostly be the peak of 10,000 requests in
            // flight.
            ramp: (self == Self::Idle).then_some(2_500),
            stalled_percent: if self == Self::Stalled { 10 } else { 0 },
            typing_every: (self == Self::Typing).then_some(Duration::from_secs(2)),
            missed: (self == Self::Resume).then_some(100),
            restarts: false,
            counts_statements: self == Self::Resume,
            measures_stream_memory: matches!(self, Self::Idle | Self::Users),
            lag: if self == Self::Hot { 1_000 } else { 0 },
            keys: KeyKind::Ordered,
            threads: 1,
        }
    }

    /// Two windows of 20 s have 2,000 posts at 50 a second: 99 of 100 means more than the slowest few of them.
    fn window(self) -> Duration {
        Duration::from_secs(if self == Self::Typing { 20 } else { 10 })
    }

    fn user_rooms(self) -> Option<UserRooms> {
        match self {
            Self::Users => Some(UserRooms::of(50)),
            Self::Typing => Some(UserRooms::of(1)),
            Self::Sync => Some(UserRooms {
                common: CHANGED_ROOMS,
                ..UserRooms::of(500)
            }),
            Self::Hot
            | Self::Steady
            | Self::Rooms
            | Self::Idle
            | Self::Accept
            | Self::Latency
            | Self::Resume
            | Self::Stalled
            | Self::HistoryCold
            | Self::HistoryHot
            | Self::SelfTest => None,
        }
    }

    /// True if nchan can be put under the same load.
    #[must_use]
    pub fn supports_nchan(self) -> bool {
        matches!(self, Self::Hot | Self::Steady | Self::Rooms | Self::Idle)
    }
}

fn sync() -> Work {
    Work::Sync {
        connections: 2,
        calls: 1_000,
    }
}

fn history(pages: Pages) -> Work {
    Work::History {
        connections: 16,
        messages: 100_000,
        pages,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_documented() {
        let page = include_str!("../../../docs/performance.md");
        for preset in Preset::value_variants() {
            assert_eq!(preset.plan().problem(), None);
            let value = preset.to_possible_value().unwrap();
            let name = value.get_name();
            assert!(page.contains(&format!("| `{name}` |")), "performance.md lacks {name}");
        }
    }
}
