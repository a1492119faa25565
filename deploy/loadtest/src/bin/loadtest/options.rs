//! Options of the command line, and the plan that follows from them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use loadtest::{KeyKind, Pages, Plan, Preset, UserRooms, Work};
use rig::{Failure, Process, Result};

/// Deliveries a second of the presets `steady`, `rooms` and `users`, whatever the number of streams.
const STEADY_DELIVERIES_PER_S: f64 = 20_000.0;

/// Puts load on Roomcast, and reports what it carried, what that cost, and whether messages were missing
///
/// `loadtest hot --own` starts an installation without limits for the run and stops it afterwards. `loadtest hot --url
/// http://127.0.0.1:5000` uses one that runs: it registers as many users as its limits require, and creates and deletes
/// the rooms of the run. Clients connect to a gateway on this machine from many addresses of 127.0.0.0/8. A gateway
/// elsewhere sees one address: start it with REGISTER_PER_ADDRESS=0 and STREAMS_PER_ADDRESS=0, and for `hot`, `accept`
/// and `resume`, which post as fast as they are answered, with POST_PER_S=0. A load of more than 60 rooms also needs
/// ROOMS_PER_USER=0, CREATE_ROOM_PER_HOUR=0 and JOIN_PER_MIN=0.
///
/// With `--memberships`, and in `users`, `sync` and `typing`, each stream is that of all rooms of a user of its own. In an installation of the
/// run, users and memberships are written into the database; elsewhere they cost a registration and a join each.
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

    /// Rooms that each user is in, where each stream follows all rooms of a user of its own; given to another load than `users`,
    /// `sync` and `typing`, it makes the streams of that load such streams
    #[arg(long)]
    pub(crate) memberships: Option<usize>,

    /// How unequal rooms are: the exponent of the Zipf distribution by which users are in rooms
    #[arg(long)]
    pub(crate) skew: Option<f64>,

    /// Connections that post, ask for history or catch up as fast as they are answered
    #[arg(long, conflicts_with_all = ["posts_per_s", "deliveries_per_s"])]
    pub(crate) in_flight: Option<usize>,

    /// Posts a second, over all rooms
    #[arg(long, conflicts_with = "deliveries_per_s")]
    pub(crate) posts_per_s: Option<f64>,

    /// Deliveries a second, from which the posts a second follow; `steady`, `rooms` and `users` keep to 20,000 for any number of
    /// streams
    #[arg(long)]
    pub(crate) deliveries_per_s: Option<f64>,

    /// Post nothing: what do open streams cost?
    #[arg(long, conflicts_with_all = ["in_flight", "posts_per_s", "deliveries_per_s"])]
    pub(crate) silent: bool,

    /// Calls of each kind in `sync`
    #[arg(long)]
    pub(crate) calls: Option<usize>,

    /// Characters of a message
    #[arg(long)]
    pub(crate) text: Option<usize>,

    /// Seconds of a window, the time that is measured
    #[arg(long)]
    pub(crate) seconds: Option<u64>,

    /// Seconds under load before the first window, and before each window of `typing`
    #[arg(long)]
    pub(crate) warm_up: Option<u64>,

    /// Streams to open a second; without it, `idle` opens 2,500 a second, and the other loads as fast as the server
    /// answers
    #[arg(long)]
    pub(crate) ramp: Option<usize>,

    /// Percent of the streams that stop reading for a second window
    #[arg(long)]
    pub(crate) stalled_percent: Option<usize>,

    /// Milliseconds between two typing calls of a user, in every second window
    #[arg(long)]
    pub(crate) typing_every_ms: Option<u64>,

    /// Messages that each stream misses while all streams are disconnected
    #[arg(long)]
    pub(crate) missed: Option<u64>,

    /// Restart the gateways of an installation of this run while all streams are disconnected, so that they keep no messages
    #[arg(long)]
    pub(crate) restart: bool,

    /// Count the SQL statements of the gateways of an installation of this run; logging them costs the gateways time
    #[arg(long)]
    pub(crate) statements: bool,

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
    /// Roomcast again, with as many streams of one room each, and as many deliveries for each post
    RoomStreams,
    /// Roomcast again, with posts without an `Idempotency-Key`
    NoKeys,
    /// Roomcast again, with posts whose `Idempotency-Key` is random
    RandomKeys,
}

impl Peer {
    /// The load on Roomcast that is compared with that of `plan`, and what its figures are called; `None` for another server.
    pub(crate) fn plan(self, plan: &Plan) -> Option<(Plan, &'static str)> {
        let with_keys = |keys| Plan { keys, ..plan.clone() };
        match self {
            Self::Nchan => None,
            Self::NoKeys => Some((with_keys(KeyKind::None), "")),
            Self::RandomKeys => Some((with_keys(KeyKind::Random), "")),
            Self::RoomStreams => Some((plan.on_room_streams()?, ", room streams")),
        }
    }

    /// Why it cannot be compared with `plan` of `preset`, if it cannot.
    fn problem(self, preset: Preset, plan: &Plan) -> Option<&'static str> {
        match self {
            Self::Nchan if !preset.supports_nchan() || plan.user_rooms.is_some() => {
                Some("nchan can be compared in hot, steady, rooms and idle only")
            }
            Self::RoomStreams if plan.user_rooms.is_none() || matches!(plan.work, Work::Sync { .. }) => {
                Some("only streams of all rooms of a user can be compared with those of rooms")
            }
            Self::RoomStreams if plan.typing_every.is_some() => Some("streams of one room show nobody who types"),
            Self::NoKeys | Self::RandomKeys if self.plan(plan).is_some_and(|(other, _)| other.keys == plan.keys) => {
                Some("both runs would have the same keys")
            }
            Self::Nchan | Self::RoomStreams | Self::NoKeys | Self::RandomKeys => None,
        }
    }
}

impl Options {
    /// The plan of the preset, with the changes that the options ask for.
    pub(crate) fn plan(&self) -> Result<Plan> {
        let mut plan = self.preset.plan();
        plan.streams = self.streams.unwrap_or(plan.streams);
        plan.rooms = self.rooms.unwrap_or(plan.rooms);
        self.change_user_rooms(&mut plan);
        self.change_work(&mut plan);
        plan.text = self.text.unwrap_or(plan.text);
        plan.window = self.seconds.map_or(plan.window, Duration::from_secs);
        plan.warm_up = self.warm_up.map_or(plan.warm_up, Duration::from_secs);
        plan.ramp = self.ramp.or(plan.ramp);
        plan.stalled_percent = self.stalled_percent.unwrap_or(plan.stalled_percent);
        plan.typing_every = self.typing_every_ms.map(Duration::from_millis).or(plan.typing_every);
        plan.missed = self.missed.or(plan.missed);
        plan.restarts = self.restart;
        plan.counts_statements = self.statements || plan.missed.is_some() && plan.user_rooms.is_none();
        plan.lag = self.lag.unwrap_or(plan.lag);
        plan.threads = self.threads.unwrap_or(plan.threads);
        plan.keys = self.keys;
        if self.preset == Preset::SelfTest {
            (plan.rooms, plan.work, plan.missed) = (1, Work::Silence, None);
            (plan.user_rooms, plan.typing_every) = (None, None);
        }
        let needs_own = plan.restarts || plan.counts_statements && self.statements;
        let problem = match self.peer.and_then(|peer| peer.problem(self.preset, &plan)).or_else(|| plan.problem()) {
            None if needs_own && !self.own && !self.postgres => Some(
                "gateways are restarted, and log their statements, in an installation of this run: --own or --postgres",
            ),
            None if plan.user_rooms.is_some() && self.tokens.is_some() => {
                Some("streams of all rooms of a user are those of users of this run: without --tokens")
            }
            problem => problem,
        };
        problem.map_or(Ok(plan), |problem| Err(Failure::new(problem)))
    }

    /// Changes the rooms that users are in, and makes streams such of all rooms of a user if that is asked for.
    fn change_user_rooms(&self, plan: &mut Plan) {
        let Some(each) = self.memberships.or(plan.user_rooms.map(|user_rooms| user_rooms.each)) else {
            return;
        };
        let usual = UserRooms::of(each);
        let changed = plan.user_rooms.get_or_insert(usual);
        changed.each = each;
        changed.skew = self.skew.unwrap_or(changed.skew);
    }

    fn change_work(&self, plan: &mut Plan) {
        let paced = matches!(self.preset, Preset::Steady | Preset::Rooms | Preset::Users);
        if let Some(per_s) = self.deliveries_per_s.or(paced.then_some(STEADY_DELIVERIES_PER_S)) {
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
            Work::Sync { connections, calls } => {
                *connections = self.in_flight.unwrap_or(*connections);
                *calls = self.calls.unwrap_or(*calls);
            }
            Work::Silence | Work::Flood(_) | Work::Rate(_) => match (self.in_flight, self.posts_per_s) {
                _ if self.silent => plan.work = Work::Silence,
                (Some(connections), _) => plan.work = Work::Flood(connections),
                (None, Some(per_s)) => plan.work = Work::Rate(per_s),
                (None, None) => {}
            },
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
