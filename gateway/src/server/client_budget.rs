//! Budgets of clients: how many connections, bytes of unfinished requests and bytes of unsent responses each address and the
//! whole process hold, and how fast an address may send before it has shown a token.
//!
//! An address is charged for what its connections hold beyond a small allowance each, so that an ordinary request touches
//! nothing that connections share. Trusted proxies are not charged; the client behind them is, for each of its requests.

mod byte_limits;
mod early_rate;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

#[cfg(test)]
pub(super) use self::byte_limits::RESPONSES;
pub(super) use self::byte_limits::{EARLY_BYTES, REQUESTS_BEFORE_TOKEN, Traffic};
pub(crate) use self::byte_limits::{OverBudget, REQUESTS};
use self::early_rate::EarlyRate;
use crate::client_network::network;

#[derive(Debug, Default)]
struct Usage {
    connections: AtomicUsize,
    http2_connections: AtomicUsize,
    requests: AtomicUsize,
    responses: AtomicUsize,
    early: EarlyRate,
}

impl Usage {
    fn of(&self, traffic: Traffic) -> &AtomicUsize {
        match traffic {
            Traffic::Requests => &self.requests,
            Traffic::Responses => &self.responses,
        }
    }
}

/// Adds `more` unless that exceeds `most`.
fn try_add(count: &AtomicUsize, more: usize, most: usize) -> bool {
    let added = count.fetch_add(more, Ordering::Relaxed).saturating_add(more);
    if added > most {
        count.fetch_sub(more, Ordering::Relaxed);
    }
    added <= most
}

/// Who is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum BudgetOwner {
    Address(IpAddr),
    /// The user of a token, by a number that the endpoint gives.
    Caller(i64),
}

/// The budgets of all clients. Only those are kept that hold something, or have sent faster than they may.
#[derive(Debug)]
pub(crate) struct ClientBudgets {
    table: Mutex<ClientTable>,
    process: Usage,
    /// Connections that one address may have; any number if 0, and then it may send as fast as it likes, too.
    connections: usize,
    began: Instant,
}

#[derive(Debug, Default)]
struct ClientTable {
    by_owner: HashMap<BudgetOwner, Arc<Usage>>,
    /// How many entries there may be until those that only had an early rate to pay off are removed.
    sweep_above: usize,
}

/// The smallest number of entries at which the table is swept.
const SMALLEST_SWEEP: usize = 1024;

impl ClientTable {
    fn of(&mut self, owner: BudgetOwner, now: Duration) -> Arc<Usage> {
        if self.by_owner.len() > self.sweep_above.max(SMALLEST_SWEEP) {
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

    /// The budget of `address`, or of the IPv6 network that it can choose addresses from.
    pub(super) fn of(self: &Arc<Self>, address: IpAddr) -> ClientBudget {
        self.of_owner(BudgetOwner::Address(network(address)))
    }

    /// The budget of a caller.
    pub(super) fn of_caller(self: &Arc<Self>, caller: i64) -> ClientBudget {
        self.of_owner(BudgetOwner::Caller(caller))
    }

    fn of_owner(self: &Arc<Self>, owner: BudgetOwner) -> ClientBudget {
        let usage = self.table().of(owner, self.began.elapsed());
        ClientBudget {
            budgets: Arc::clone(self),
            owner,
            usage,
            is_connected: false,
            is_http2: false,
        }
    }

    /// Charges the process.
    pub(super) fn charge(&self, traffic: Traffic, bytes: usize) -> Result<(), OverBudget> {
        let within = try_add(self.process.of(traffic), bytes, traffic.limits().process);
        within.then_some(()).ok_or(OverBudget::Process)
    }

    pub(super) fn release(&self, traffic: Traffic, bytes: usize) {
        self.process.of(traffic).fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A panic leaves the table whole, because each statement does.
    fn table(&self) -> MutexGuard<'_, ClientTable> {
        self.table.lock()
    }
}

/// The budget of one client, kept for as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct ClientBudget {
    budgets: Arc<ClientBudgets>,
    owner: BudgetOwner,
    usage: Arc<Usage>,
    /// It counts a connection, or a request that stands for one behind a proxy.
    is_connected: bool,
    /// That connection is one of HTTP/2.
    is_http2: bool,
}

impl ClientBudget {
    /// Counts a connection.
    pub(super) fn connect(&mut self) -> Result<(), OverBudget> {
        let most = match self.budgets.connections {
            0 => usize::MAX,
            most => most,
        };
        self.is_connected = try_add(&self.usage.connections, 1, most);
        self.is_connected.then_some(()).ok_or(OverBudget::Client)
    }

    /// Counts its connection as one of HTTP/2, of which the address may have `most`.
    pub(super) fn connect_http2(&mut self, most: usize) -> Result<(), OverBudget> {
        self.is_http2 = try_add(&self.usage.http2_connections, 1, most);
        self.is_http2.then_some(()).ok_or(OverBudget::Client)
    }

    pub(super) fn charge(&self, traffic: Traffic, bytes: usize) -> Result<(), OverBudget> {
        let within = try_add(self.usage.of(traffic), bytes, traffic.limits().address);
        within.then_some(()).ok_or(OverBudget::Client)
    }

    pub(super) fn release(&self, traffic: Traffic, bytes: usize) {
        self.usage.of(traffic).fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts `bytes` of a connection on which no token was seen; returns how long to wait before more is read.
    pub(super) fn delay_early(&self, bytes: usize) -> Duration {
        match EARLY_BYTES.saturating_mul(self.budgets.connections as u64) {
            0 => Duration::ZERO,
            per_s => self.usage.early.count(bytes as u64, per_s, self.budgets.began.elapsed()),
        }
    }
}

impl Drop for ClientBudget {
    fn drop(&mut self) {
        if self.is_connected {
            self.usage.connections.fetch_sub(1, Ordering::Relaxed);
        }
        if self.is_http2 {
            self.usage.http2_connections.fetch_sub(1, Ordering::Relaxed);
        }
        let mut table = self.budgets.table();
        // Two holders are the table and this one: nobody else has it, and under the lock nobody can get it.
        if Arc::strong_count(&self.usage) == 2 && self.usage.early.is_paid(self.budgets.began.elapsed()) {
            table.by_owner.remove(&self.owner);
        }
    }
}

#[cfg(test)]
mod tests;
