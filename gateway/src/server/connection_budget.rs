//! Budget of one connection: which bytes of unfinished requests and unsent responses it holds, and whether it may hold more.
//!
//! Requests are charged through [`RequestBudget`](super::request_budget::RequestBudget), headers that have come in part through
//! [`ConnectionState`](super::connection_state::ConnectionState).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::client_budget::{ClientBudget, ClientBudgets, OverBudget, REQUESTS_BEFORE_TOKEN, Traffic};

/// Bytes of requests that a connection may hold without being charged: an ordinary request has a token of some 400 bytes
/// and a short text.
const ALLOWANCE: usize = 2 * 1024;

/// Requests of an HTTP/2 connection that are worked on at once until a valid token was seen on it. The others wait.
pub(super) const EARLY_REQUESTS: usize = 8;

/// How long they wait.
const EARLY_WAIT: Duration = Duration::from_secs(10);

/// The budget of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionBudget {
    budgets: Arc<ClientBudgets>,
    /// Who is charged; nobody for a trusted proxy.
    client: Option<ClientBudget>,
    token_seen: AtomicBool,
    /// Closed as soon as a token was seen: then nobody waits.
    early: Arc<Semaphore>,
    requests: Mutex<HeldBytes>,
    responses: AtomicUsize,
}

#[derive(Debug, Default)]
struct HeldBytes {
    bytes: usize,
    /// How many of them the address and the process are charged for.
    charged: usize,
}

impl ConnectionBudget {
    pub(super) fn new(budgets: Arc<ClientBudgets>, client: Option<ClientBudget>) -> Arc<Self> {
        Arc::new(Self {
            budgets,
            client,
            token_seen: AtomicBool::new(false),
            early: Arc::new(Semaphore::new(EARLY_REQUESTS)),
            requests: Mutex::default(),
            responses: AtomicUsize::new(0),
        })
    }

    /// Charges `bytes` of a request.
    pub(super) fn charge(&self, bytes: usize) -> Result<(), OverBudget> {
        let mut held = self.held();
        let whole = held.bytes.saturating_add(bytes);
        if whole > self.most() && held.bytes > 0 {
            return Err(OverBudget::Client);
        }
        let more = whole.saturating_sub(ALLOWANCE).saturating_sub(held.charged);
        if more > 0 {
            self.charge_client(Traffic::Requests, more)?;
            held.charged += more;
        }
        held.bytes = whole;
        Ok(())
    }

    /// Releases `bytes` of a request.
    pub(super) fn release(&self, bytes: usize) {
        let mut held = self.held();
        held.bytes = held.bytes.saturating_sub(bytes);
        let less = held.charged - held.charged.min(held.bytes.saturating_sub(ALLOWANCE));
        if less > 0 {
            self.release_client(Traffic::Requests, less);
            held.charged -= less;
        }
    }

    /// Charges a response of `bytes`, of which one that is alone on its connection is always let through. `others` charges
    /// whoever else pays for it; nothing stays charged if that fails.
    pub(super) fn charge_response<T>(
        &self,
        bytes: usize,
        others: impl FnOnce() -> Result<T, OverBudget>,
    ) -> Result<T, OverBudget> {
        let before = self.responses.fetch_add(bytes, Ordering::Relaxed);
        let within = before == 0 || before.saturating_add(bytes) <= Traffic::Responses.limits().connection;
        let charged = if within {
            others().and_then(|charged| self.charge_client(Traffic::Responses, bytes).map(|()| charged))
        } else {
            Err(OverBudget::Client)
        };
        charged.inspect_err(|_| {
            self.responses.fetch_sub(bytes, Ordering::Relaxed);
        })
    }

    /// Releases a response of `bytes`.
    pub(super) fn release_response(&self, bytes: usize) {
        self.responses.fetch_sub(bytes, Ordering::Relaxed);
        self.release_client(Traffic::Responses, bytes);
    }

    /// The budget of the user of a token, by the number that the endpoint gives.
    pub(super) fn of_caller(&self, caller: i64) -> ClientBudget {
        self.budgets.of_caller(caller)
    }

    /// Counts `bytes` that were read of the connection; returns how long to wait before more is read.
    pub(super) fn read_delay(&self, bytes: usize) -> Duration {
        match &self.client {
            Some(client) if self.has_read_rate() => client.delay_early(bytes),
            _ => Duration::ZERO,
        }
    }

    /// Whether reads have a rate: until a token was seen, and never where nobody is charged.
    pub(super) fn has_read_rate(&self) -> bool {
        self.client.is_some() && !self.token_seen.load(Ordering::Relaxed)
    }

    /// Notes that a valid token was seen on this connection.
    pub(super) fn on_token(&self) {
        if !self.token_seen.load(Ordering::Relaxed) && !self.token_seen.swap(true, Ordering::Relaxed) {
            self.early.close();
        }
    }

    /// Waits for a permit among the requests of an HTTP/2 connection on which no token was seen; none is needed once a token
    /// was seen.
    pub(super) async fn early_permit(&self) -> Result<Option<OwnedSemaphorePermit>, OverBudget> {
        let permit = timeout(EARLY_WAIT, Arc::clone(&self.early).acquire_owned()).await;
        permit.map(Result::ok).map_err(|_| OverBudget::Client)
    }

    fn most(&self) -> usize {
        if self.token_seen.load(Ordering::Relaxed) {
            Traffic::Requests.limits().connection
        } else {
            REQUESTS_BEFORE_TOKEN
        }
    }

    fn charge_client(&self, traffic: Traffic, bytes: usize) -> Result<(), OverBudget> {
        if let Some(client) = &self.client {
            client.charge(traffic, bytes)?;
        }
        self.budgets.charge(traffic, bytes).inspect_err(|_| {
            if let Some(client) = &self.client {
                client.release(traffic, bytes);
            }
        })
    }

    fn release_client(&self, traffic: Traffic, bytes: usize) {
        if let Some(client) = &self.client {
            client.release(traffic, bytes);
        }
        self.budgets.release(traffic, bytes);
    }

    fn held(&self) -> MutexGuard<'_, HeldBytes> {
        self.requests.lock()
    }

    /// Bytes of requests that are held, and how many of them are charged.
    #[cfg(test)]
    pub(super) fn held_and_charged(&self) -> (usize, usize) {
        let held = self.held();
        (held.bytes, held.charged)
    }
}
