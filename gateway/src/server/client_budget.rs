//! What every address, and this process altogether, has in hand: connections, bytes of requests that are not through, and
//! bytes of answers that nobody has taken; and how fast an address sends before it has shown a token.
//!
//! An address is charged for what its connections hold beyond a small allowance each, so that an ordinary request touches
//! nothing that connections share. Trusted proxies are not charged; the client behind them is, for each of its requests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::network;

/// Bytes that may be in hand at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByteLimits {
    /// On one connection. What is alone there is always let through.
    pub(crate) connection: usize,
    /// Of one address; of answers also of one caller, wherever from.
    pub(crate) address: usize,
    /// In this process.
    pub(crate) process: usize,
}

/// Requests that are not through: their heads and bodies. Past a share the request is refused and forgotten.
///
/// A connection may hold 64 heads of the size that apps send, or several of the largest heads and bodies; an address, some
/// hundred phones that send their largest at the same moment. The process's share is what 400 MiB leave beside 20,000 connections.
pub(crate) const REQUESTS: ByteLimits = ByteLimits {
    connection: 256 * 1024,
    address: 8 * 1024 * 1024,
    process: 64 * 1024 * 1024,
};

/// The same while no valid token was seen on the connection.
pub(crate) const REQUESTS_BEFORE_TOKEN: usize = 128 * 1024;

/// Bytes a second that are read of the connections of one address on which no valid token was seen, for each connection it
/// may have; as many are read at once before that.
///
/// An ordinary head has half a kilobyte, a large one 16 KiB. Decoding one of HTTP/2 takes 10 ns a byte, refused or not: a
/// thousand connections are 4 MiB a second and a twentieth of a core.
pub(super) const EARLY_BYTES: u64 = 4 * 1024;

/// For how long an address may be ahead of that.
const EARLY_BURST: Duration = Duration::from_secs(1);

/// How long one read waits at most, and so also that of a neighbour behind the same address: well within the deadlines of
/// heads and of signs of life. Past it an address is read faster than it should be.
const EARLY_WAIT: Duration = Duration::from_secs(3);

/// Answers that are not sent yet. Past a share the answer is replaced by a refusal.
///
/// A page of history has 1 MiB at most, so a connection may wait for two of the largest, and an address for sixteen.
pub(crate) const RESPONSES: ByteLimits = ByteLimits {
    connection: 2 * 1024 * 1024,
    address: 16 * 1024 * 1024,
    process: 96 * 1024 * 1024,
};

/// Whose share is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverBudget {
    /// That of the connection or of its address: the client's own doing.
    Client,
    /// That of the process: everybody's.
    Process,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traffic {
    Requests,
    Responses,
}

impl Traffic {
    pub(super) fn limits(self) -> ByteLimits {
        match self {
            Self::Requests => REQUESTS,
            Self::Responses => RESPONSES,
        }
    }
}

#[derive(Debug, Default)]
struct Usage {
    connections: AtomicUsize,
    multiplexed: AtomicUsize,
    requests: AtomicUsize,
    answers: AtomicUsize,
    early: EarlyRate,
}

impl Usage {
    fn of(&self, kind: Traffic) -> &AtomicUsize {
        match kind {
            Traffic::Requests => &self.requests,
            Traffic::Responses => &self.answers,
        }
    }
}

/// The early bytes of an address, by the generic cell rate algorithm (ITU-T I.371).
#[derive(Debug, Default)]
struct EarlyRate {
    /// When everything that was read is paid for, in microseconds after the budgets began.
    paid_at: AtomicU64,
}

impl EarlyRate {
    /// Counts `bytes` at `now`, of which there may be so many `per_s`; returns how long to wait then.
    fn take(&self, bytes: u64, per_s: u64, now: Duration) -> Duration {
        let cost = bytes.saturating_mul(1_000_000) / per_s;
        let now = whole_micros(now);
        let latest = now + whole_micros(EARLY_BURST + EARLY_WAIT);
        let after = |paid_at: u64| paid_at.max(now).saturating_add(cost).min(latest);
        let before = self.paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_at| Some(after(paid_at)));
        let (Ok(before) | Err(before)) = before;
        Duration::from_micros(after(before).saturating_sub(now)).saturating_sub(EARLY_BURST)
    }

    fn is_paid(&self, now: Duration) -> bool {
        self.paid_at.load(Ordering::Relaxed) <= whole_micros(now)
    }
}

fn whole_micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Adds `more` unless that exceeds `most`.
fn add(count: &AtomicUsize, more: usize, most: usize) -> bool {
    let added = count.fetch_add(more, Ordering::Relaxed).saturating_add(more);
    if added > most {
        count.fetch_sub(more, Ordering::Relaxed);
    }
    added <= most
}

/// Who is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum BudgetOwner {
    /// An address.
    Address(IpAddr),
    /// Whoever a token stands for, by a number that the endpoint gives.
    Caller(i64),
}

/// The accounts of all holders. Only those are kept that have something in hand, or have sent faster than they may.
#[derive(Debug)]
pub(crate) struct ClientBudgets {
    table: Mutex<ClientTable>,
    process: Usage,
    /// Connections of one address; any number if 0, and then it may send as fast as it likes, too.
    connections: usize,
    began: Instant,
}

#[derive(Debug, Default)]
struct ClientTable {
    by_owner: HashMap<BudgetOwner, Arc<Usage>>,
    /// How many there may be until those that only had something to pay for are swept out.
    sweep_above: usize,
}

/// The smallest number of accounts that are swept.
const FEW_ACCOUNTS: usize = 1024;

impl ClientTable {
    fn of(&mut self, owner: BudgetOwner, now: Duration) -> Arc<Usage> {
        if self.by_owner.len() > self.sweep_above.max(FEW_ACCOUNTS) {
            self.by_owner.retain(|_, usage| Arc::strong_count(usage) > 1 || !usage.early.is_paid(now));
            self.sweep_above = self.by_owner.len() * 2;
        }
        Arc::clone(self.by_owner.entry(owner).or_default())
    }
}

impl ClientBudgets {
    pub(super) fn new(connections_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::default(),
            process: Usage::default(),
            connections: connections_per_address,
            began: Instant::now(),
        })
    }

    /// The client of `address`, or of the IPv6 network it can choose addresses from.
    pub(super) fn of(self: &Arc<Self>, address: IpAddr) -> ClientBudget {
        self.client(BudgetOwner::Address(network(address)))
    }

    /// The client of a caller.
    pub(super) fn of_caller(self: &Arc<Self>, caller: i64) -> ClientBudget {
        self.client(BudgetOwner::Caller(caller))
    }

    fn client(self: &Arc<Self>, owner: BudgetOwner) -> ClientBudget {
        let usage = self.lock().of(owner, self.began.elapsed());
        ClientBudget {
            budgets: Arc::clone(self),
            owner,
            usage,
            connected: false,
            multiplexed: false,
        }
    }

    /// Charges the process.
    pub(super) fn charge(&self, kind: Traffic, bytes: usize) -> Result<(), OverBudget> {
        let within = add(self.process.of(kind), bytes, kind.limits().process);
        within.then_some(()).ok_or(OverBudget::Process)
    }

    pub(super) fn give_back(&self, kind: Traffic, bytes: usize) {
        self.process.of(kind).fetch_sub(bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, ClientTable> {
        // It is whole after each statement.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The account of one holder, kept for as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct ClientBudget {
    budgets: Arc<ClientBudgets>,
    owner: BudgetOwner,
    usage: Arc<Usage>,
    /// It is held for a connection, or for a request that stands for one behind a proxy.
    connected: bool,
    /// And for one of HTTP/2.
    multiplexed: bool,
}

impl ClientBudget {
    /// Counts a connection.
    pub(super) fn connect(&mut self) -> Result<(), OverBudget> {
        let most = match self.budgets.connections {
            0 => usize::MAX,
            most => most,
        };
        self.connected = add(&self.usage.connections, 1, most);
        self.connected.then_some(()).ok_or(OverBudget::Client)
    }

    /// Counts its connection as one of HTTP/2, of which the address may have `most`.
    pub(super) fn multiplex(&mut self, most: usize) -> Result<(), OverBudget> {
        self.multiplexed = add(&self.usage.multiplexed, 1, most);
        self.multiplexed.then_some(()).ok_or(OverBudget::Client)
    }

    pub(super) fn charge(&self, kind: Traffic, bytes: usize) -> Result<(), OverBudget> {
        let within = add(self.usage.of(kind), bytes, kind.limits().address);
        within.then_some(()).ok_or(OverBudget::Client)
    }

    pub(super) fn give_back(&self, kind: Traffic, bytes: usize) {
        self.usage.of(kind).fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts `bytes` that come from somebody who has shown no token; returns how long to wait before more is read.
    pub(super) fn early(&self, bytes: usize) -> Duration {
        match EARLY_BYTES.saturating_mul(self.budgets.connections as u64) {
            0 => Duration::ZERO,
            per_s => self.usage.early.take(bytes as u64, per_s, self.budgets.began.elapsed()),
        }
    }
}

impl Drop for ClientBudget {
    fn drop(&mut self) {
        if self.connected {
            self.usage.connections.fetch_sub(1, Ordering::Relaxed);
        }
        if self.multiplexed {
            self.usage.multiplexed.fetch_sub(1, Ordering::Relaxed);
        }
        let mut table = self.budgets.lock();
        // The map and this one: nobody else has it, and under the lock nobody can get it.
        if Arc::strong_count(&self.usage) == 2 && self.usage.early.is_paid(self.budgets.began.elapsed()) {
            table.by_owner.remove(&self.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn an_address_is_forgotten_with_its_last_connection() {
        let budgets = ClientBudgets::new(1);
        let mut first = budgets.of(ONE);
        assert_eq!(first.connect(), Ok(()));
        let mut second = budgets.of(ONE);
        assert_eq!(second.connect(), Err(OverBudget::Client));
        drop((first, second));
        assert!(budgets.lock().by_owner.is_empty());
        assert_eq!(budgets.of(ONE).connect(), Ok(()));
    }

    #[test]
    fn a_share_that_is_used_up_takes_nothing_more_until_some_is_given_back() {
        let budgets = ClientBudgets::new(0);
        let client = budgets.of(ONE);
        assert_eq!(client.charge(Traffic::Requests, REQUESTS.address), Ok(()));
        assert_eq!(client.charge(Traffic::Requests, 1), Err(OverBudget::Client));
        assert_eq!(client.charge(Traffic::Responses, 1), Ok(()));
        client.give_back(Traffic::Requests, 1);
        assert_eq!(client.charge(Traffic::Requests, 1), Ok(()));
        assert_eq!(budgets.charge(Traffic::Requests, REQUESTS.process + 1), Err(OverBudget::Process));
    }

    #[test]
    fn early_bytes_of_an_address_are_read_at_their_rate_whatever_connections_they_come_over() {
        let budgets = ClientBudgets::new(1_000);
        let (first, second, other) = (budgets.of(ONE), budgets.of(ONE), budgets.of([10, 0, 0, 2].into()));
        assert_eq!(first.early(1024), Duration::ZERO);
        // Two seconds' worth beyond what is let through at once; the clock goes on meanwhile.
        let wait = first.early(3 * 1_000 * usize::try_from(EARLY_BYTES).unwrap());
        assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&wait), "{wait:?}");
        assert!(second.early(1024) > Duration::from_secs(1));
        assert_eq!(second.early(usize::MAX), EARLY_WAIT, "nobody waits for longer");
        assert_eq!(other.early(1024), Duration::ZERO);
        // Closing all connections makes nobody a stranger.
        drop((first, second, other));
        assert!(budgets.of(ONE).early(1024) > Duration::from_secs(1));
    }

    #[test]
    fn accounts_that_are_paid_for_do_not_stay() {
        let mut table = ClientTable::default();
        let address = |n: usize| BudgetOwner::Address(std::net::Ipv4Addr::from(u32::try_from(n).unwrap()).into());
        for n in 0..2 * FEW_ACCOUNTS {
            table.of(address(n), Duration::ZERO).early.take(EARLY_BYTES, EARLY_BYTES, Duration::ZERO);
        }
        assert_eq!(table.by_owner.len(), 2 * FEW_ACCOUNTS, "each has a second to pay for");
        let used = table.of(address(0), Duration::ZERO);
        table.sweep_above = 0;
        table.of(address(1), Duration::from_mins(1));
        assert_eq!(table.by_owner.len(), 2);
        drop(used);
    }

    #[test]
    fn addresses_that_are_not_told_apart_are_not_slowed_down() {
        let budgets = ClientBudgets::new(0);
        assert_eq!(budgets.of(ONE).early(usize::MAX), Duration::ZERO);
    }
}
