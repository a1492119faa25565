//! What `loadtest` is run for.

/// One run of `loadtest`.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// What it is called in the figures, and where a part is asked for.
    pub name: &'static str,
    /// The load of `loadtest`; also names all loads of this kind.
    pub preset: &'static str,
    /// What differs from it.
    pub arguments: &'static [&'static str],
    /// The same is put on nchan.
    pub has_peer: bool,
}

/// Messages of the room whose history is read, and the arguments that say so.
const LONG: &[&str] = &["--rooms", "1", "--messages", "1000000"];

/// All of them, in the order in which they are run and shown.
pub const LOADS: [Load; 21] = [
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
    // A little more than is demanded, at a rate: whether what is accepted is also stored and delivered at once.
    alone("sustained", "accept", &["--posts-per-s", "15500"]),
    alone("latency", "latency", &[]),
    alone("resume", "resume", &[]),
    alone("stalled", "stalled", &[]),
    alone("history-cold", "history-cold", LONG),
    alone("history-hot", "history-hot", LONG),
    // What can be measured at all.
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
    /// True if `part` means it: its name, or its kind.
    #[must_use]
    pub fn is_meant_by(&self, part: &str) -> bool {
        part == self.name || part == self.preset || part == "loads"
    }

    /// True if rooms are filled before anything is measured.
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
    fn loads_have_names_of_their_own_and_are_known_to_loadtest() {
        let names: HashSet<&str> = LOADS.iter().map(|load| load.name).collect();
        assert_eq!(names.len(), LOADS.len());
        for load in LOADS {
            let preset = Preset::from_str(load.preset, false).unwrap();
            assert!(!load.has_peer || preset.suits_peers(), "{}", load.name);
        }
    }

    #[test]
    fn a_part_is_one_load_or_all_of_a_kind() {
        let meant = |part: &str| LOADS.iter().filter(|load| load.is_meant_by(part)).count();
        assert_eq!(
            [
                meant("hot-10"),
                meant("hot"),
                meant("accept"),
                meant("loads"),
                meant("ho")
            ],
            [1, 5, 3, 21, 0]
        );
    }
}
