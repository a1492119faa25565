//! Puts load on an installation, and says what it carried, what that cost, and whether every client saw every message once
//! and in order.
//!
//! Ends by itself. Exit code 1 if a client saw a gap, a double or a wrong order, 2 if a run could not be brought to its end.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use loadtest::{
    Figures, Fountain, KeyKind, Nchan, Pages, Plan, Preset, Progress, Work, comparison, furnish, raise_descriptors, run,
};
use rig::{Backend, Explain as _, Failure, Process, Result, Stack};
use serde_json::{Value, json};

/// Puts load on Roomcast and says what it carried, what that cost, and whether anything was missing.
///
/// `loadtest hot --own` starts an installation of its own, without limits, and stops it. `loadtest hot --url
/// http://127.0.0.1:5000` goes to one that runs: it registers as many users as its limits ask for, and makes and deletes its
/// rooms. A gateway on this machine is visited from many addresses of 127.0.0.0/8. One that is elsewhere sees one address:
/// start it with REGISTER_PER_ADDRESS=0 and STREAMS_PER_ADDRESS=0, and for `hot`, `accept` and `resume`, which post as fast as
/// they are answered, with POST_PER_S=0. Where a load has more than 60 rooms: ROOMS_PER_USER=0, CREATE_ROOM_PER_HOUR=0 and
/// JOIN_PER_MIN=0.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Options {
    /// The load
    #[arg(value_enum)]
    preset: Preset,

    /// Address of a gateway that runs, such as http://127.0.0.1:5000; clients take several in turn
    #[arg(long)]
    url: Vec<String>,

    /// Start an installation for this run, on SQLite, and stop it
    #[arg(long, conflicts_with = "url")]
    own: bool,

    /// The same on a Postgres of its own
    #[arg(long, conflicts_with = "url")]
    postgres: bool,

    /// Put the same load on another server, or with other keys, one after the other, and compare
    #[arg(long, value_enum)]
    peer: Option<Peer>,

    /// The `Idempotency-Key` of each post
    #[arg(long, value_enum, default_value_t = KeyKind::Ordered)]
    keys: KeyKind,

    /// How often to run all of it
    #[arg(long, default_value_t = 1)]
    rounds: usize,

    /// Streams
    #[arg(long)]
    streams: Option<usize>,

    /// Rooms they are spread over
    #[arg(long)]
    rooms: Option<usize>,

    /// Connections that post, or ask for history, as fast as they are answered
    #[arg(long, conflicts_with_all = ["posts_per_s", "deliveries_per_s"])]
    in_flight: Option<usize>,

    /// Posts a second, over all rooms
    #[arg(long, conflicts_with = "deliveries_per_s")]
    posts_per_s: Option<f64>,

    /// As many posts a second as make so many deliveries; `steady` and `rooms` keep to 20,000 whatever the streams
    #[arg(long)]
    deliveries_per_s: Option<f64>,

    /// Characters of a message
    #[arg(long)]
    text: Option<usize>,

    /// Seconds that are measured
    #[arg(long)]
    seconds: Option<u64>,

    /// Seconds under load before that
    #[arg(long)]
    warm_up: Option<u64>,

    /// Streams to open a second; as fast as they are answered without
    #[arg(long)]
    ramp: Option<usize>,

    /// Percent of the streams that read nothing any more in a second measurement
    #[arg(long)]
    stalled_percent: Option<usize>,

    /// Messages that every room gets while all streams are cut
    #[arg(long)]
    missed: Option<u64>,

    /// Messages in each room whose history is read
    #[arg(long)]
    messages: Option<u64>,

    /// Posting pauses while the slowest stream is so many messages behind; 0 for no such bound
    #[arg(long)]
    lag: Option<u64>,

    /// Threads that read; one takes more than a million deliveries a second
    #[arg(long)]
    threads: Option<usize>,

    /// Users to register at least
    #[arg(long, default_value_t = 0)]
    users: usize,

    /// File with tokens of users, one a line, who are taken instead of registering any
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,

    /// A server process of an installation that runs, as NAME=PID: its time and memory are told
    #[arg(long, value_name = "NAME=PID", value_parser = process)]
    process: Vec<Process>,

    /// Print one line of JSON for each round
    #[arg(long)]
    json: bool,

    /// Tell nothing while it runs
    #[arg(long)]
    quiet: bool,
}

/// Servers to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// nginx with the module nchan, in memory, two workers (`deploy/install.sh nchan`)
    Nchan,
    /// Roomcast again, posts without an `Idempotency-Key`
    NoKeys,
    /// Roomcast again, the `Idempotency-Key` of each post a random one
    RandomKeys,
}

impl Peer {
    /// The keys of Roomcast's posts, if it is Roomcast again.
    fn keys(self) -> Option<KeyKind> {
        match self {
            Self::Nchan => None,
            Self::NoKeys => Some(KeyKind::None),
            Self::RandomKeys => Some(KeyKind::Random),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(&Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("loadtest: {failure}");
            ExitCode::from(2)
        }
    }
}

/// True if every client of Roomcast saw what it must see.
async fn measure(options: &Options) -> Result<bool> {
    let plan = plan(options)?;
    // Measuring itself it holds both ends.
    raise_descriptors(plan.streams * (1 + usize::from(options.preset == Preset::SelfTest)) + plan.callers())?;
    let progress = if options.quiet {
        Progress::silent()
    } else {
        Progress::new()
    };
    let mut is_right = true;
    for round in 1..=options.rounds {
        let (ours, theirs) = match options.peer {
            None => (roomcast(options, &plan, &progress).await?, None),
            // They take turns in being the first: the machine may be another one afterwards.
            Some(other) if round.is_multiple_of(2) => {
                let theirs = peer(other, options, &plan, &progress).await?;
                (roomcast(options, &plan, &progress).await?, Some(theirs))
            }
            Some(other) => {
                let ours = roomcast(options, &plan, &progress).await?;
                (ours, Some(peer(other, options, &plan, &progress).await?))
            }
        };
        is_right &= ours.is_right();
        tell(options, round, &ours, theirs.as_ref())?;
    }
    Ok(is_right)
}

fn plan(options: &Options) -> Result<Plan> {
    let mut plan = options.preset.plan();
    let paced = matches!(options.preset, Preset::Steady | Preset::Rooms).then_some(20_000.0);
    plan.streams = options.streams.unwrap_or(plan.streams);
    plan.rooms = options.rooms.unwrap_or(plan.rooms);
    if let Some(per_s) = options.deliveries_per_s.or(paced) {
        plan.work = Work::Rate(per_s / plan.streams_per_room());
    }
    match &mut plan.work {
        Work::History {
            connections,
            messages,
            pages,
        } => {
            *connections = options.in_flight.unwrap_or(*connections);
            *messages = options.messages.unwrap_or(*messages);
            if let (Pages::Newest(per_s), Some(wanted)) = (pages, options.posts_per_s) {
                *per_s = wanted;
            }
        }
        work => match (options.in_flight, options.posts_per_s) {
            (Some(connections), _) => *work = Work::Flood(connections),
            (None, Some(per_s)) => *work = Work::Rate(per_s),
            (None, None) => {}
        },
    }
    plan.text = options.text.unwrap_or(plan.text);
    plan.window = options.seconds.map_or(plan.window, Duration::from_secs);
    plan.warm_up = options.warm_up.map_or(plan.warm_up, Duration::from_secs);
    plan.ramp = options.ramp.or(plan.ramp);
    plan.stalled_percent = options.stalled_percent.unwrap_or(plan.stalled_percent);
    plan.missed = options.missed.or(plan.missed);
    plan.lag = options.lag.unwrap_or(plan.lag);
    plan.threads = options.threads.unwrap_or(plan.threads);
    plan.keys = options.keys;
    if options.preset == Preset::SelfTest {
        (plan.rooms, plan.work, plan.missed) = (1, Work::Silence, None);
    }
    match options.peer {
        Some(Peer::Nchan) if !options.preset.suits_peers() => {
            return Err(Failure::new("nchan takes hot, steady, rooms and idle alone"));
        }
        Some(other) if other.keys() == Some(plan.keys) => return Err(Failure::new("both would have the same keys")),
        Some(_) | None => {}
    }
    match plan.complaint() {
        Some(complaint) => Err(Failure::new(complaint)),
        None => Ok(plan),
    }
}

async fn roomcast(options: &Options, plan: &Plan, progress: &Progress) -> Result<Figures> {
    let figures = run_roomcast(options, plan, progress).await?;
    Ok(Figures {
        server: format!("{}{}", figures.server, plan.keys.label()),
        ..figures
    })
}

async fn run_roomcast(options: &Options, plan: &Plan, progress: &Progress) -> Result<Figures> {
    if options.preset == Preset::SelfTest {
        let fountain = Fountain::start(plan.streams, plan.text, None)?;
        let figures = run(plan, &fountain.site(), progress).await?;
        return Ok(Figures {
            server: "none".to_owned(),
            ..figures
        });
    }
    let tokens = match &options.tokens {
        Some(file) => fs::read_to_string(file).explain(|| format!("cannot read {}", file.display()))?,
        None => String::new(),
    };
    let tokens: Vec<String> = tokens.split_whitespace().map(str::to_owned).collect();
    if options.own || options.postgres {
        let backend = if options.postgres {
            Backend::Postgres
        } else {
            Backend::Sqlite
        };
        let mut builder =
            Stack::builder().without_limits().backend(backend).gateway("GATEWAY_MAX_CONNECTIONS", "1000000");
        // Rooms are filled faster than they are stored; what is measured meets the bound that gateways have.
        if plan.filling() > 0 {
            builder = builder.gateway("BACKLOG_PER_PARTITION", "10000000");
        }
        // Only where they are counted: telling them costs the gateway time.
        if plan.missed.is_some() {
            builder = builder.logging_statements();
        }
        let mut stack = builder.start().await?;
        let mut furnished = furnish(plan, &stack.gateway_urls(), options.users, &tokens).await?;
        stack.renew_gateways().await?;
        furnished.watch(stack.processes()?);
        if plan.missed.is_some() {
            furnished.watch_reads(stack.gateways.iter().map(|gateway| gateway.service.log_file().to_owned()).collect());
        }
        return run(plan, &furnished.site, progress).await;
    }
    if options.url.is_empty() {
        return Err(Failure::new("where to? Name a gateway with --url, or say --own"));
    }
    let mut furnished = furnish(plan, &options.url, options.users, &tokens).await?;
    furnished.watch(options.process.clone());
    let figures = run(plan, &furnished.site, progress).await;
    furnished.clear().await?;
    figures
}

async fn peer(peer: Peer, options: &Options, plan: &Plan, progress: &Progress) -> Result<Figures> {
    let Some(keys) = peer.keys() else {
        let nchan = Nchan::start(plan.streams).await?;
        return run(plan, &nchan.site(plan), progress).await;
    };
    roomcast(options, &Plan { keys, ..plan.clone() }, progress).await
}

fn tell(options: &Options, round: usize, ours: &Figures, theirs: Option<&Figures>) -> Result<()> {
    let preset = options.preset.to_possible_value().map(|value| value.get_name().to_owned());
    if options.json {
        let line: Value = json!({"preset": preset, "round": round, "figures": ours, "peer": theirs});
        println!("{}", serde_json::to_string(&line)?);
        return Ok(());
    }
    if options.rounds > 1 {
        println!("— round {round}");
    }
    println!("{}", ours.table());
    if let Some(theirs) = theirs {
        println!("{}\n{}", theirs.table(), comparison(ours, theirs));
    }
    Ok(())
}

fn process(text: &str) -> std::result::Result<Process, String> {
    let (name, pid) = text.split_once('=').ok_or("not of the form NAME=PID")?;
    let pid = pid.parse().map_err(|_| format!("'{pid}' is no process id"))?;
    Ok(Process {
        name: name.to_owned(),
        pid,
    })
}
