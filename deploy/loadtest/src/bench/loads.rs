//! The loads that `loadtest` is run with.

/// One run of `loadtest`.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Name of the load in the figures and in `--only`.
    pub name: &'static str,
    /// Preset of `loadtest`; `--only` with a preset names all loads of it.
    pub preset: &'static str,
    /// Arguments that change the preset.
    pub arguments: &'static [&'static str],
    /// The same load is put on nchan as well.
    pub has_peer: bool,
}

/// Arguments for 10,000 streams of users who are in 50 of 20,000 rooms each, in which nothing happens.
const MANY_ROOMS: &[&str] = &["--streams", "10000", "--rooms", "20000", "--silent"];

/// The same, with the SQL statements counted: writing them down takes the gateway time.
const MANY_ROOMS_STATEMENTS: &[&str] = &["--streams", "10000", "--rooms", "20000", "--silent", "--statements"];

/// Arguments for a room of 1,000,000 messages, whose history is read.
const LONG_ROOM: &[&str] = &["--rooms", "1", "--messages", "1000000"];

/// All loads, in the order in which they are run and shown.
pub const LOADS: [Load; 29] = [
    against_peer("hot-10", "hot", &["--streams", "10"]),
    against_peer("hot-100", "hot", &["--streams", "100"]),
    against_peer("hot-1000", "hot", &["--streams", "1000"]),
    against_peer("hot-5000", "hot", &["--streams", "5000"]),
    against_peer("hot-10000", "hot", &["--streams", "10000"]),
    against_peer("steady-10", "steady", &["--streams", "10"]),
    against_peer("steady-100", "steady", &["--streams", "100"]),
    against_peer("steady-1000", "steady", &["--streams", "1000"]),
    against_peer("steady-5000", "steady", &["--streams", "5000"]),
    against_peer("steady-10000", "steady", &["--streams", "10000"]),
    against_peer("rooms", "rooms", &[]),
    alone("idle", "idle", &[]),
    alone("accept", "accept", &["--peer", "no-keys"]),
    alone("accept-random", "accept", &["--keys", "random", "--peer", "no-keys"]),
    // A rate slightly above the threshold: whether what is accepted is also stored and delivered at once.
    alone("sustained", "accept", &["--posts-per-s", "15500"]),
    alone("latency", "latency", &[]),
    alone("resume", "resume", &[]),
    alone("stalled", "stalled", &[]),
    alone("users", "users", &["--peer", "room-streams"]),
    alone("users-latency", "users", &["--streams", "200", "--posts-per-s", "1000"]),
    alone("users-idle", "users", MANY_ROOMS),
    alone("users-statements", "users", MANY_ROOMS_STATEMENTS),
    alone("users-resume", "resume", &["--memberships", "10", "--restart"]),
    alone("sync", "sync", &[]),
    alone("sync-statements", "sync", &["--statements"]),
    alone("typing", "typing", &[]),
    alone("history-cold", "history-cold", LONG_ROOM),
    alone("history-hot", "history-hot", LONG_ROOM),
    // The most that the tool can measure.
    alone("self-test", "self-test", &[]),
];

const fn alone(name: &'static str, preset: &'static str, arguments: &'static [&'static str]) -> Load {
    Load {
        name,
        preset,
        arguments,
        has_peer: false,
    }
}

const fn against_peer(name: &'static str, preset: &'static str, arguments: &'static [&'static str]) -> Load {
    Load {
        has_peer: true,
        ..alone(name, preset, arguments)
    }
}

impl Load {
    /// True if `part` names the load, its preset, or all loads.
    #[must_use]
    pub fn matches(&self, part: &str) -> bool {
        part == self.name || part == self.preset || part == "loads"
    }

    /// True if rooms are filled with messages before the load.
    #[must_use]
    pub fn fills_rooms(&self) -> bool {
        self.preset.starts_with("history")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::ValueEnum as _;

    use super::*;
    use crate::Preset;

    #[test]
    fn loads_have_unique_names_and_known_presets() {
        let names: HashSet<&str> = LOADS.iter().map(|load| load.name).collect();
        assert_eq!(names.len(), LOADS.len());
        for load in LOADS {
            let preset = Preset::from_str(load.preset, false).unwrap();
            assert!(!load.has_peer || preset.supports_nchan(), "{}", load.name);
        }
    }

    #[test]
    fn a_part_is_one_load_or_all_of_a_preset() {
        let matching = |part: &str| LOADS.iter().filter(|load| load.matches(part)).count();
        assert_eq!(
            [
                matching("hot-10"),
                matching("hot"),
                matching("accept"),
                matching("loads"),
                matching("ho")
            ],
            [1, 5, 3, 29, 0]
        );
    }
}
