//! Options of the command line, and the plan that follows from them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use loadtest::{KeyKind, Pages, Plan, Preset, Work};
use rig::{Failure, Process, Result};

/// Deliveries a second of the presets `steady` and `rooms`, whatever the number of streams.
const STEADY_DELIVERIES_PER_S: f64 = 20_000.0;

/// Puts load on Roomcast, and reports what it carried, what that cost, and whether messages were missing
///
/// `loadtest hot --own` starts an installation without limits for the run and stops it afterwards. `loadtest hot --url
/// http://127.0.0.1:5000` uses one that runs: it registers as many users as its limits require, and creates and deletes
/// the rooms of the run. Clients connect to a gateway on this machine from many addresses of 127.0.0.0/8. A gateway
/// elsewhere sees one address: start it with REGISTER_PER_ADDRESS=0 and STREAMS_PER_ADDRESS=0, and for `hot`, `accept`
/// and `resume`, which post as fast as they are answered, with POST_PER_S=0. A load of more than 60 rooms also needs
/// ROOMS_PER_USER=0, CREATE_ROOM_PER_HOUR=0 and JOIN_PER_MIN=0.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Options {
    /// The load
    #[arg(value_enum)]
    pub(crate) preset: Preset,

    /// Address of a gateway that runs, such as http://127.0.0.1:5000; with several, clients take them in turn
    #[arg(long)]
    pub(crate) url: Vec<String>,

    /// Start an installation on SQLite for this run, and stop it afterwards
    #[arg(long, conflicts_with = "url")]
    pub(crate) own: bool,

    /// Start an installation on Postgres for this run, and stop it afterwards
    #[arg(long, conflicts_with = "url")]
    pub(crate) postgres: bool,

    /// Put the same load on another server, or with other keys, one after the other, and compare
    #[arg(long, value_enum)]
    pub(crate) peer: Option<Peer>,

    /// The `Idempotency-Key` of each post
    #[arg(long, value_enum, default_value_t = KeyKind::Ordered)]
    pub(crate) keys: KeyKind,

    /// How often to run the load
    #[arg(long, default_value_t = 1)]
    pub(crate) rounds: usize,

    /// Number of streams
    #[arg(long)]
    pub(crate) streams: Option<usize>,

    /// Rooms that the streams are spread over
    #[arg(long)]
    pub(crate) rooms: Option<usize>,

    /// Connections that post, or ask for history, as fast as they are answered
    #[arg(long, conflicts_with_all = ["posts_per_s", "deliveries_per_s"])]
    pub(crate) in_flight: Option<usize>,

    /// Posts a second, over all rooms
    #[arg(long, conflicts_with = "deliveries_per_s")]
    pub(crate) posts_per_s: Option<f64>,

    /// Deliveries a second, from which the posts a second follow; `steady` and `rooms` keep to 20,000 for any number of
    /// streams
    #[arg(long)]
    pub(crate) deliveries_per_s: Option<f64>,

    /// Characters of a message
    #[arg(long)]
    pub(crate) text: Option<usize>,

    /// Seconds of a window, the time that is measured
    #[arg(long)]
    pub(crate) seconds: Option<u64>,

    /// Seconds under load before the first window
    #[arg(long)]
    pub(crate) warm_up: Option<u64>,

    /// Streams to open a second; without it, `idle` opens 2,500 a second, and the other loads as fast as the server
    /// answers
    #[arg(long)]
    pub(crate) ramp: Option<usize>,

    /// Percent of the streams that stop reading for a second window
    #[arg(long)]
    pub(crate) stalled_percent: Option<usize>,

    /// Messages posted to every room while all streams are disconnected
    #[arg(long)]
    pub(crate) missed: Option<u64>,

    /// Messages in each room whose history is read
    #[arg(long)]
    pub(crate) messages: Option<u64>,

    /// Posting pauses while the slowest stream is more than this many messages behind; 0 for no bound
    #[arg(long)]
    pub(crate) lag: Option<u64>,

    /// Threads that read; one reads more than a million deliveries a second
    #[arg(long)]
    pub(crate) threads: Option<usize>,

    /// Least number of users to register
    #[arg(long, default_value_t = 0)]
    pub(crate) users: usize,

    /// File with tokens of users, one a line, to use instead of registering users
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,

    /// A server process of the installation, as NAME=PID, whose processor time and memory are measured
    #[arg(long, value_name = "NAME=PID", value_parser = process)]
    pub(crate) process: Vec<Process>,

    /// Print one line of JSON for each round
    #[arg(long)]
    pub(crate) json: bool,

    /// Do not report progress
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// What to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// nginx with the module nchan, in memory, two workers (`deploy/install.sh nchan`)
    Nchan,
    /// Roomcast again, with posts without an `Idempotency-Key`
    NoKeys,
    /// Roomcast again, with posts whose `Idempotency-Key` is random
    RandomKeys,
}

impl Peer {
    /// The keys of the posts, if the comparison is with Roomcast.
    pub(crate) fn keys(self) -> Option<KeyKind> {
        match self {
            Self::Nchan => None,
            Self::NoKeys => Some(KeyKind::None),
            Self::RandomKeys => Some(KeyKind::Random),
        }
    }
}

impl Options {
    /// The plan of the preset, with the changes that the options ask for.
    pub(crate) fn plan(&self) -> Result<Plan> {
        let mut plan = self.preset.plan();
        let paced = matches!(self.preset, Preset::Steady | Preset::Rooms).then_some(STEADY_DELIVERIES_PER_S);
        plan.streams = self.streams.unwrap_or(plan.streams);
        plan.rooms = self.rooms.unwrap_or(plan.rooms);
        if let Some(per_s) = self.deliveries_per_s.or(paced) {
            plan.work = Work::Rate(per_s / plan.streams_per_room());
        }
        match &mut plan.work {
            Work::History {
                connections,
                messages,
                pages,
            } => {
                *connections = self.in_flight.unwrap_or(*connections);
                *messages = self.messages.unwrap_or(*messages);
                if let (Pages::Newest(per_s), Some(wanted)) = (pages, self.posts_per_s) {
                    *per_s = wanted;
                }
            }
            work => match (self.in_flight, self.posts_per_s) {
                (Some(connections), _) => *work = Work::Flood(connections),
                (None, Some(per_s)) => *work = Work::Rate(per_s),
                (None, None) => {}
            },
        }
        plan.text = self.text.unwrap_or(plan.text);
        plan.window = self.seconds.map_or(plan.window, Duration::from_secs);
        plan.warm_up = self.warm_up.map_or(plan.warm_up, Duration::from_secs);
        plan.ramp = self.ramp.or(plan.ramp);
        plan.stalled_percent = self.stalled_percent.unwrap_or(plan.stalled_percent);
        plan.missed = self.missed.or(plan.missed);
        plan.lag = self.lag.unwrap_or(plan.lag);
        plan.threads = self.threads.unwrap_or(plan.threads);
        plan.keys = self.keys;
        if self.preset == Preset::SelfTest {
            (plan.rooms, plan.work, plan.missed) = (1, Work::Silence, None);
        }
        match self.peer {
            Some(Peer::Nchan) if !self.preset.supports_nchan() => {
                return Err(Failure::new("nchan can be compared in hot, steady, rooms and idle only"));
            }
            Some(other) if other.keys() == Some(plan.keys) => {
                return Err(Failure::new("both runs would have the same keys"));
            }
            Some(_) | None => {}
        }
        match plan.problem() {
            Some(problem) => Err(Failure::new(problem)),
            None => Ok(plan),
        }
    }
}

/// Parses `NAME=PID`.
fn process(text: &str) -> std::result::Result<Process, String> {
    let (name, pid) = text.split_once('=').ok_or("not of the form NAME=PID")?;
    let pid = pid.parse().map_err(|_| format!("'{pid}' is not a process id"))?;
    Ok(Process {
        name: name.to_owned(),
        pid,
    })
}
