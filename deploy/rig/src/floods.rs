//! Floods: what one attacker can do to a gateway, and how much other users are affected.
//!
//! Each flood is a row of a table ([`FLOODS`]) whose function prepares it and returns a future that runs until it is dropped.
//! [`run`] measures the same modest baseline load twice in one stack, first without the flood and then under it, and judges:
//! posts stay as fast, no other user is refused, a revoked session ends, and the gateway stays within its memory. A new
//! flood is a new file and a new row.

mod answers;
mod attack_thread;
mod baseline_load;
mod connections;
mod context;
mod logins;
mod reads;
mod replay;
mod request_headers;
mod rooms;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::attack_thread::AttackThread;
use self::baseline_load::BaselineLoad;
pub use self::baseline_load::BaselineMeasurement;
use self::context::{FloodContext, Prepare};
use crate::failure::{Explain as _, Failure, Result};
use crate::latencies::Percentiles;
use crate::stack::{Backend, Stack};

/// Resident memory that a gateway may use under any flood.
const MEMORY_KIB: u64 = 400 * 1024;

/// One line of the table.
pub struct Flood {
    /// Its name there.
    pub name: &'static str,
    /// What the attacker does, in a few words.
    pub title: &'static str,
    /// Settings of the gateways beside those of production.
    settings: &'static [(&'static str, &'static str)],
    /// Prepares what the attack needs, such as a large room, and returns the attack.
    prepare: Prepare,
}

/// All floods.
pub const FLOODS: &[Flood] = &[
    Flood {
        name: "headers",
        title: "large headers and unfinished bodies, without a token",
        settings: &[],
        prepare: |context| Box::pin(async { Ok(request_headers::attack(context)) }),
    },
    Flood {
        name: "answers",
        title: "pages of history that nobody reads",
        settings: &[],
        prepare: |context| Box::pin(answers::prepare(context)),
    },
    Flood {
        name: "reads",
        title: "one user reads as much history as can be asked for",
        settings: &[],
        prepare: |context| Box::pin(reads::prepare(context)),
    },
    Flood {
        name: "connections",
        title: "every connection of the gateway from one address",
        settings: &[("GATEWAY_MAX_CONNECTIONS", connections::LIMIT)],
        prepare: |context| Box::pin(async { Ok(connections::attack(context)) }),
    },
    Flood {
        name: "replay",
        title: "streams from the start of a large room, again and again",
        settings: &[],
        prepare: |context| Box::pin(replay::prepare(context)),
    },
    Flood {
        name: "logins",
        title: "wrong passwords for many accounts",
        // The limit is lifted, as if each login came from another address.
        settings: &[("LOGIN_PER_ADDRESS", "0")],
        prepare: |context| Box::pin(async { Ok(logins::attack(context)) }),
    },
    Flood {
        name: "rooms",
        title: "rooms created, joined, left, listed and deleted",
        // The limits are lifted, as if the requests came from many users.
        settings: &[("CREATE_ROOM_PER_HOUR", "0"), ("JOIN_PER_MIN", "0")],
        prepare: |context| Box::pin(async { Ok(rooms::attack(context)) }),
    },
];

/// Limits of production that are not lifted, because floods are to meet them.
const PRODUCTION: [(&str, &str); 7] = [
    ("CONNECTIONS_PER_ADDRESS", "1000"),
    ("REPLAY_KIB_PER_S", "4096"),
    ("LOGIN_PER_ACCOUNT", "10"),
    ("LOGIN_PER_ADDRESS", "30"),
    ("ROOMS_PER_USER", "100"),
    ("CREATE_ROOM_PER_HOUR", "60"),
    ("JOIN_PER_MIN", "60"),
];

/// How long a flood is measured, and how strictly.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// How long the baseline load is measured, once without the flood and again under it.
    pub window: Duration,
    /// How many times longer than without the flood the slowest of a hundred posts may take.
    pub slower: f64,
    /// The slowest of a hundred posts may take as long as this, however fast it is without the flood: the machine varies as
    /// much.
    pub floor: Duration,
    /// Longest time from a logout at another gateway until the session's stream ends.
    pub revoked_within: Duration,
}

impl Scale {
    /// A slice of it, beside other tests and with programs that are not optimised: only a hang is a failure, and memory.
    pub const SHORT: Self = Self {
        window: Duration::from_secs(4),
        slower: 20.0,
        floor: Duration::from_secs(5),
        revoked_within: Duration::from_secs(9),
    };
    /// All of it, for a machine that does nothing else.
    pub const LONG: Self = Self {
        window: Duration::from_secs(30),
        slower: 2.0,
        floor: Duration::from_millis(15),
        // One second is promised.
        revoked_within: Duration::from_millis(1_500),
    };
}

/// The result of a flood.
pub struct Verdict {
    /// The flood.
    pub name: &'static str,
    /// The baseline load before it.
    pub calm: BaselineMeasurement,
    /// The baseline load during it.
    pub flooded: BaselineMeasurement,
    /// Most memory that the flooded gateway held, in KiB.
    pub memory_kib: u64,
    /// The broken promises.
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

/// The flood with this name.
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
    let context = Arc::new(FloodContext::new(&stack).await?);
    let baseline = BaselineLoad::new(&stack).await?;
    let attack = AttackThread::prepare(flood.name, flood.prepare, context).await?;
    let calm = baseline.measure(scale.window).await.explain(|| "before the flood".to_owned())?;
    let gateway = stack.gateways[0].process.handle();
    let mut ended = attack.begin();
    let (flooded, memory_kib) = tokio::select! {
        measured = baseline.measure_with_memory(scale.window, &gateway) => measured.explain(|| format!("under {}", flood.name))?,
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

fn judge(calm: &BaselineMeasurement, flooded: &BaselineMeasurement, memory_kib: u64, scale: Scale) -> Vec<String> {
    let mut violations = Vec::new();
    let longest = (calm.posts.p99 * scale.slower).max(scale.floor.as_secs_f64() * 1_000.0);
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
    violations.extend(flooded.failures.iter().map(|failure| format!("a user of the baseline load met: {failure}")));
    violations
}
