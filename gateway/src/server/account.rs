//! What every address, and this process altogether, has in hand: connections, bytes of requests that are not through, and
//! bytes of answers that nobody has taken.
//!
//! An address is charged for what its connections hold beyond a small allowance each, so that an ordinary request touches
//! nothing that connections share. Trusted proxies are not charged; the client behind them is, for each of its requests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::network;

/// Bytes that may be in hand at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
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
pub(crate) const REQUESTS: Share = Share {
    connection: 256 * 1024,
    address: 8 * 1024 * 1024,
    process: 64 * 1024 * 1024,
};

/// The same while no valid token was seen on the connection.
pub(crate) const REQUESTS_BEFORE_TOKEN: usize = 128 * 1024;

/// Answers that are not sent yet. Past a share the answer is replaced by a refusal.
///
/// A page of history has 1 MiB at most, so a connection may wait for two of the largest, and an address for sixteen.
pub(crate) const ANSWERS: Share = Share {
    connection: 2 * 1024 * 1024,
    address: 16 * 1024 * 1024,
    process: 96 * 1024 * 1024,
};

/// Whose share is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// That of the connection or of its address: the client's own doing.
    Own,
    /// That of the process: everybody's.
    Process,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Requests,
    Answers,
}

impl Kind {
    pub(super) fn share(self) -> Share {
        match self {
            Self::Requests => REQUESTS,
            Self::Answers => ANSWERS,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    multiplexed: AtomicUsize,
    requests: AtomicUsize,
    answers: AtomicUsize,
}

impl Counts {
    fn of(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Requests => &self.requests,
            Kind::Answers => &self.answers,
        }
    }
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
pub(super) enum Holder {
    /// An address.
    Address(IpAddr),
    /// Whoever a token stands for, by a number that the endpoint gives.
    Caller(i64),
}

/// The accounts of all holders. Only those that have something in hand are kept.
#[derive(Debug)]
pub(crate) struct Accounts {
    by_holder: Mutex<HashMap<Holder, Arc<Counts>>>,
    process: Counts,
    /// Connections of one address; any number if 0.
    connections: usize,
}

impl Accounts {
    pub(super) fn new(connections_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            by_holder: Mutex::default(),
            process: Counts::default(),
            connections: connections_per_address,
        })
    }

    /// The account of `address`, or of the IPv6 network it can choose addresses from.
    pub(super) fn of(self: &Arc<Self>, address: IpAddr) -> Account {
        self.held_by(Holder::Address(network(address)))
    }

    /// The account of a caller.
    pub(super) fn of_caller(self: &Arc<Self>, caller: i64) -> Account {
        self.held_by(Holder::Caller(caller))
    }

    fn held_by(self: &Arc<Self>, holder: Holder) -> Account {
        let counts = Arc::clone(self.lock().entry(holder).or_default());
        Account {
            accounts: Arc::clone(self),
            holder,
            counts,
            connected: false,
            multiplexed: false,
        }
    }

    /// Charges the process.
    pub(super) fn charge(&self, kind: Kind, bytes: usize) -> Result<(), Excess> {
        let within = add(self.process.of(kind), bytes, kind.share().process);
        within.then_some(()).ok_or(Excess::Process)
    }

    pub(super) fn give_back(&self, kind: Kind, bytes: usize) {
        self.process.of(kind).fetch_sub(bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Holder, Arc<Counts>>> {
        // Every change is one call on the map.
        self.by_holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The account of one holder, kept for as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct Account {
    accounts: Arc<Accounts>,
    holder: Holder,
    counts: Arc<Counts>,
    /// It is held for a connection, or for a request that stands for one behind a proxy.
    connected: bool,
    /// And for one of HTTP/2.
    multiplexed: bool,
}

impl Account {
    /// Counts a connection.
    pub(super) fn connect(&mut self) -> Result<(), Excess> {
        let most = match self.accounts.connections {
            0 => usize::MAX,
            most => most,
        };
        self.connected = add(&self.counts.connections, 1, most);
        self.connected.then_some(()).ok_or(Excess::Own)
    }

    /// Counts its connection as one of HTTP/2, of which the address may have `most`.
    pub(super) fn multiplex(&mut self, most: usize) -> Result<(), Excess> {
        self.multiplexed = add(&self.counts.multiplexed, 1, most);
        self.multiplexed.then_some(()).ok_or(Excess::Own)
    }

    pub(super) fn charge(&self, kind: Kind, bytes: usize) -> Result<(), Excess> {
        let within = add(self.counts.of(kind), bytes, kind.share().address);
        within.then_some(()).ok_or(Excess::Own)
    }

    pub(super) fn give_back(&self, kind: Kind, bytes: usize) {
        self.counts.of(kind).fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.connected {
            self.counts.connections.fetch_sub(1, Ordering::Relaxed);
        }
        if self.multiplexed {
            self.counts.multiplexed.fetch_sub(1, Ordering::Relaxed);
        }
        let mut accounts = self.accounts.lock();
        // The map and this one: nobody else has it, and under the lock nobody can get it.
        if Arc::strong_count(&self.counts) == 2 {
            accounts.remove(&self.holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn an_address_is_forgotten_with_its_last_connection() {
        let accounts = Accounts::new(1);
        let mut first = accounts.of(ONE);
        assert_eq!(first.connect(), Ok(()));
        let mut second = accounts.of(ONE);
        assert_eq!(second.connect(), Err(Excess::Own));
        drop((first, second));
        assert!(accounts.lock().is_empty());
        assert_eq!(accounts.of(ONE).connect(), Ok(()));
    }

    #[test]
    fn a_share_that_is_used_up_takes_nothing_more_until_some_is_given_back() {
        let accounts = Accounts::new(0);
        let account = accounts.of(ONE);
        assert_eq!(account.charge(Kind::Requests, REQUESTS.address), Ok(()));
        assert_eq!(account.charge(Kind::Requests, 1), Err(Excess::Own));
        assert_eq!(account.charge(Kind::Answers, 1), Ok(()));
        account.give_back(Kind::Requests, 1);
        assert_eq!(account.charge(Kind::Requests, 1), Ok(()));
        assert_eq!(accounts.charge(Kind::Requests, REQUESTS.process + 1), Err(Excess::Process));
    }
}
