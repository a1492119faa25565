//! Floods: what one attacker can do to a gateway, and what others notice of it.
//!
//! Each flood is a row of a table ([`FLOODS`]) whose function prepares it and returns what then runs until it is dropped.
//! [`run`] weighs the same modest load of ordinary users twice in one stack, first calm and then under the flood, and
//! judges: posts stay as fast, nobody is refused, a revoked session ends, and the gateway stays within its memory. A new
//! flood is a new file and a new row.

mod answers;
mod attacker;
mod connections;
mod heads;
mod logins;
mod ordinary;
mod reads;
mod replay;
mod rooms;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

pub use self::attacker::Ground;
use self::ordinary::{Ordinary, Seen};
use crate::latencies::Percentiles;
use crate::{Backend, Explain as _, Failure, Result, Stack};

/// What a gateway may take under any flood.
const MEMORY_KIB: u64 = 400 * 1024;

/// How much slower the slowest of a hundred posts may be under a flood.
const SLOWER: f64 = 2.0;

/// The attack itself, which runs until it is dropped; a failure means that it could not be carried out.
pub type Attack = LocalBoxFuture<'static, Result<()>>;

/// One line of the table.
pub struct Flood {
    /// Its name there.
    pub name: &'static str,
    /// What floods, in a few words.
    pub title: &'static str,
    /// Settings of the gateways beside those of production.
    settings: &'static [(&'static str, &'static str)],
    /// Makes ready whatever the attack needs, such as a large room, and returns the attack.
    prepare: fn(Arc<Ground>) -> LocalBoxFuture<'static, Result<Attack>>,
}

/// All floods.
pub const FLOODS: &[Flood] = &[
    Flood {
        name: "heads",
        title: "large heads and unfinished bodies, without a token",
        settings: &[],
        prepare: |ground| Box::pin(async { Ok(heads::attack(ground)) }),
    },
    Flood {
        name: "answers",
        title: "pages of history that nobody takes",
        settings: &[],
        prepare: |ground| Box::pin(answers::prepare(ground)),
    },
    Flood {
        name: "reads",
        title: "one user reads as much history as can be asked for",
        settings: &[],
        prepare: |ground| Box::pin(reads::prepare(ground)),
    },
    Flood {
        name: "connections",
        title: "every connection of the gateway from one address",
        settings: &[("GATEWAY_MAX_CONNECTIONS", connections::PLACES)],
        prepare: |ground| Box::pin(async { Ok(connections::attack(ground)) }),
    },
    Flood {
        name: "replay",
        title: "streams from the start of a large room, again and again",
        settings: &[],
        prepare: |ground| Box::pin(replay::prepare(ground)),
    },
    Flood {
        name: "logins",
        title: "wrong passwords for many accounts",
        // As if each came from another address.
        settings: &[("LOGIN_PER_ADDRESS", "0")],
        prepare: |ground| Box::pin(async { Ok(logins::attack(ground)) }),
    },
    Flood {
        name: "rooms",
        title: "rooms made, joined, left, listed and deleted",
        // As if it were many users.
        settings: &[("CREATE_ROOM_PER_HOUR", "0"), ("JOIN_PER_MIN", "0")],
        prepare: |ground| Box::pin(async { Ok(rooms::attack(ground)) }),
    },
];

/// Limits of production that are not lifted: what floods run up against.
const PRODUCTION: [(&str, &str); 7] = [
    ("CONNECTIONS_PER_ADDRESS", "1000"),
    ("REPLAY_KIB_PER_S", "4096"),
    ("LOGIN_PER_ACCOUNT", "10"),
    ("LOGIN_PER_ADDRESS", "30"),
    ("ROOMS_PER_USER", "100"),
    ("CREATE_ROOM_PER_HOUR", "60"),
    ("JOIN_PER_MIN", "60"),
];

/// How long a flood is weighed, and how strictly.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// How long the load is measured, calm and again under the flood.
    pub window: Duration,
    /// The slowest of a hundred posts may take as long whatever it takes when calm: what the machine makes of it.
    pub floor: Duration,
    /// Longest time from a logout at another gateway until the session's stream ends.
    pub revoked_within: Duration,
}

impl Scale {
    /// A slice of it, beside other tests and with programs that are not optimised: only a hang is a failure, and memory.
    pub const SHORT: Self = Self {
        window: Duration::from_secs(4),
        floor: Duration::from_secs(5),
        revoked_within: Duration::from_secs(9),
    };
    /// All of it, for a machine that does nothing else.
    pub const LONG: Self = Self {
        window: Duration::from_secs(30),
        floor: Duration::from_millis(15),
        // One second is promised.
        revoked_within: Duration::from_millis(1_500),
    };
}

/// What came of a flood.
pub struct Verdict {
    /// The flood.
    pub name: &'static str,
    /// What ordinary users saw before it.
    pub calm: Seen,
    /// And during it.
    pub flooded: Seen,
    /// Most memory that the flooded gateway held, in KiB.
    pub memory_kib: u64,
    /// What was promised and not kept.
    pub violations: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |times: &Percentiles| format!("{:.1}/{:.1}", times.p50, times.p99);
        write!(
            f,
            "{}: posts p50/p99 {} ms calm, {} ms flooded; revoked after {:.0} ms at most; {} MiB",
            self.name,
            ms(&self.calm.posts),
            ms(&self.flooded.posts),
            self.flooded.revoked_ms,
            self.memory_kib / 1024
        )
    }
}

/// The flood that is called `name`.
pub fn find(name: &str) -> Result<&'static Flood> {
    let found = FLOODS.iter().find(|flood| flood.name == name.trim());
    found.ok_or_else(|| Failure::new(format!("there is no flood called '{name}'")))
}

/// Runs `flood` on a stack of its own.
pub async fn run(flood: &'static Flood, backend: Backend, scale: Scale) -> Result<Verdict> {
    let mut builder = Stack::builder().without_limits().gateways(2).backend(backend);
    for (setting, value) in PRODUCTION.iter().chain(flood.settings) {
        builder = builder.gateway(setting, value);
    }
    let stack = builder.start().await?;
    let ground = Arc::new(Ground::new(&stack).await?);
    let ordinary = Ordinary::new(&stack).await?;
    let attack = Attacker::prepare(flood, ground).await?;
    let calm = ordinary.weigh(scale.window).await.explain(|| "before the flood".to_owned())?;
    let watched = stack.gateways[0].service.cell();
    let mut ended = attack.begin();
    let (flooded, memory_kib) = tokio::select! {
        seen = ordinary.weigh_watched(scale.window, &watched) => seen.explain(|| format!("under {}", flood.name))?,
        failure = &mut ended => {
            let failure = failure.unwrap_or_else(|_| Failure::new("its thread panicked"));
            return Err(failure).explain(|| format!("the flood {}", flood.name));
        }
    };
    drop(ended);
    let violations = judge(&calm, &flooded, memory_kib, scale);
    Ok(Verdict {
        name: flood.name,
        calm,
        flooded,
        memory_kib,
        violations,
    })
}

/// An attack that is ready, on a thread of its own: what it costs must not delay those who are weighed.
struct Attacker {
    begin: oneshot::Sender<()>,
    ended: oneshot::Receiver<Failure>,
}

impl Attacker {
    async fn prepare(flood: &'static Flood, ground: Arc<Ground>) -> Result<Self> {
        let (is_ready, ready) = oneshot::channel();
        let (begin, signal) = oneshot::channel::<()>();
        let (mut end, ended) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let attack = match (flood.prepare)(ground).await {
                    Ok(attack) => attack,
                    Err(failure) => return drop(is_ready.send(Err(failure))),
                };
                if is_ready.send(Ok(())).is_err() || signal.await.is_err() {
                    return;
                }
                tokio::select! {
                    () = end.closed() => {}
                    outcome = attack => {
                        let failure = outcome.err().unwrap_or_else(|| Failure::new("it ended by itself"));
                        let _ = end.send(failure);
                    }
                }
            });
        });
        let prepared = ready.await.explain(|| "preparing".to_owned())?;
        prepared.explain(|| format!("preparing {}", flood.name))?;
        Ok(Self { begin, ended })
    }

    /// Lets it begin. It ends when what is returned is dropped, which else holds why it could not be carried on.
    fn begin(self) -> oneshot::Receiver<Failure> {
        // Should the thread be gone, the other channel tells.
        let _ = self.begin.send(());
        self.ended
    }
}

fn judge(calm: &Seen, flooded: &Seen, memory_kib: u64, scale: Scale) -> Vec<String> {
    let mut violations = Vec::new();
    let longest = (calm.posts.p99 * SLOWER).max(scale.floor.as_secs_f64() * 1_000.0);
    if flooded.posts.p99 > longest {
        let (calm, flooded) = (calm.posts.p99, flooded.posts.p99);
        violations.push(format!("the slowest of a hundred posts took {flooded:.1} ms and not {calm:.1} ms"));
    }
    if flooded.revoked_ms > scale.revoked_within.as_secs_f64() * 1_000.0 {
        violations.push(format!("a revoked session was served for {:.0} ms", flooded.revoked_ms));
    }
    if memory_kib > MEMORY_KIB {
        violations.push(format!("the gateway took {} MiB", memory_kib / 1024));
    }
    violations.extend(flooded.failures.iter().map(|failure| format!("an ordinary user met: {failure}")));
    violations
}
