//! What one connection has in hand, and what it may still take.
//!
//! Two things lead here: a request, from its head until its handler has answered ([`RequestBudget`]), and an answer until
//! it is sent ([`ResponseCharge`]). Each gives back what it took when it is dropped.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::client_budget::{ClientBudget, ClientBudgets, OverBudget, REQUESTS_BEFORE_TOKEN, Traffic};

/// Bytes of requests that a connection may hold without being charged: an ordinary request has a token of some 400 bytes
/// and a short text.
const ALLOWANCE: usize = 2 * 1024;

/// What a header costs beside its bytes, and what a request costs beside its headers.
const HEADER_OVERHEAD: usize = 64;
const REQUEST_OVERHEAD: usize = 512;

/// Requests of an HTTP/2 connection that are worked on at once until a valid token was seen on it. The others wait.
const EARLY_REQUESTS: usize = 8;

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
    answers: AtomicUsize,
}

#[derive(Debug, Default)]
struct HeldBytes {
    bytes: usize,
    /// How much of it the address and the process are charged for.
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
            answers: AtomicUsize::new(0),
        })
    }

    /// Takes `bytes` of a request in hand.
    pub(super) fn add(&self, bytes: usize) -> Result<(), OverBudget> {
        let mut held = self.held();
        let whole = held.bytes.saturating_add(bytes);
        if whole > self.most() && held.bytes > 0 {
            return Err(OverBudget::Client);
        }
        let more = whole.saturating_sub(ALLOWANCE).saturating_sub(held.charged);
        if more > 0 {
            self.charge(Traffic::Requests, more)?;
            held.charged += more;
        }
        held.bytes = whole;
        Ok(())
    }

    /// Gives `bytes` of a request back.
    pub(super) fn remove(&self, bytes: usize) {
        let mut held = self.held();
        held.bytes = held.bytes.saturating_sub(bytes);
        let less = held.charged - held.charged.min(held.bytes.saturating_sub(ALLOWANCE));
        if less > 0 {
            self.give_back(Traffic::Requests, less);
            held.charged -= less;
        }
    }

    /// Counts `bytes` that were read of the connection; returns how long to wait before more is read.
    pub(super) fn pace(&self, bytes: usize) -> Duration {
        match &self.client {
            Some(client) if self.is_paced() => client.early(bytes),
            _ => Duration::ZERO,
        }
    }

    /// Whether its reads have a rate: until a token was seen, and never where nobody is charged.
    pub(super) fn is_paced(&self) -> bool {
        self.client.is_some() && !self.token_seen.load(Ordering::Relaxed)
    }

    fn most(&self) -> usize {
        if self.token_seen.load(Ordering::Relaxed) {
            Traffic::Requests.limits().connection
        } else {
            REQUESTS_BEFORE_TOKEN
        }
    }

    fn charge(&self, kind: Traffic, bytes: usize) -> Result<(), OverBudget> {
        if let Some(client) = &self.client {
            client.charge(kind, bytes)?;
        }
        self.budgets.charge(kind, bytes).inspect_err(|_| {
            if let Some(client) = &self.client {
                client.give_back(kind, bytes);
            }
        })
    }

    fn give_back(&self, kind: Traffic, bytes: usize) {
        if let Some(client) = &self.client {
            client.give_back(kind, bytes);
        }
        self.budgets.give_back(kind, bytes);
    }

    fn held(&self) -> MutexGuard<'_, HeldBytes> {
        // Nothing that panics runs under the lock.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one request has in hand, from its head until its handler has answered. It lies in the extensions of the request.
#[derive(Debug)]
pub(crate) struct RequestBudget {
    connection: Arc<ConnectionBudget>,
    /// Behind a trusted proxy, the client.
    client: Option<Arc<ClientBudget>>,
    /// Whoever its token stands for.
    caller: OnceLock<i64>,
    bytes: AtomicUsize,
    refused: Option<OverBudget>,
}

impl RequestBudget {
    /// Takes the head of a request in hand. If there is no room for it, whoever answers finds it [refused](Self::refused).
    pub(super) fn of_head(
        connection: &Arc<ConnectionBudget>,
        client: Option<ClientBudget>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Self {
        let of_headers: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD).sum();
        let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
        let mut budget = Self {
            connection: Arc::clone(connection),
            client: client.map(Arc::new),
            caller: OnceLock::new(),
            bytes: AtomicUsize::new(0),
            refused: None,
        };
        budget.refused = budget.grow(REQUEST_OVERHEAD + path + of_headers).err();
        budget
    }

    /// Notes that there is no room for the request.
    pub(super) fn refuse(&mut self) {
        self.refused = Some(OverBudget::Client);
    }

    /// Why the request may not be worked on.
    pub(crate) fn refused(&self) -> Option<OverBudget> {
        self.refused
    }

    /// Takes `bytes` more in hand, such as a part of the body.
    pub(crate) fn grow(&self, bytes: usize) -> Result<(), OverBudget> {
        if let Some(client) = &self.client {
            client.charge(Traffic::Requests, bytes)?;
        }
        self.connection.add(bytes).inspect_err(|_| {
            if let Some(client) = &self.client {
                client.give_back(Traffic::Requests, bytes);
            }
        })?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Whether there would be room for `bytes` more now. They are not taken in hand: to announce them costs the client nothing.
    pub(crate) fn has_room_for(&self, bytes: usize) -> Result<(), OverBudget> {
        self.grow(bytes)?;
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.give_back(bytes);
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.connection.remove(bytes);
        if let Some(client) = &self.client {
            client.give_back(Traffic::Requests, bytes);
        }
    }

    /// Notes that the client has shown a valid token, which stands for `caller`.
    pub(crate) fn token_seen(&self, caller: i64) {
        let _ = self.caller.set(caller);
        let connection = &self.connection;
        if !connection.token_seen.load(Ordering::Relaxed) && !connection.token_seen.swap(true, Ordering::Relaxed) {
            connection.early.close();
        }
    }

    /// Waits for its turn among the requests of an HTTP/2 connection on which no token was seen; nothing if there are no
    /// turns any more.
    pub(super) async fn early_turn(&self) -> Result<Option<OwnedSemaphorePermit>, OverBudget> {
        let turn = timeout(EARLY_WAIT, Arc::clone(&self.connection.early).acquire_owned()).await;
        turn.map(Result::ok).map_err(|_| OverBudget::Client)
    }

    /// Takes an answer of `bytes` in hand until it is sent.
    pub(super) fn answer(&self, bytes: usize) -> Result<ResponseCharge, OverBudget> {
        let connection = &self.connection;
        let before = connection.answers.fetch_add(bytes, Ordering::Relaxed);
        let within = before == 0 || before.saturating_add(bytes) <= Traffic::Responses.limits().connection;
        let charged = if within {
            self.charge_answer(bytes)
        } else {
            Err(OverBudget::Client)
        };
        let charged = charged.inspect_err(|_| {
            connection.answers.fetch_sub(bytes, Ordering::Relaxed);
        })?;
        Ok(ResponseCharge {
            connection: Arc::clone(connection),
            _charged: charged,
            bytes,
        })
    }

    /// Charges the caller, the client behind a proxy and the connection's own holder; returns the first two.
    fn charge_answer(&self, bytes: usize) -> Result<[Option<ClientCharge>; 2], OverBudget> {
        let caller = self.caller.get().map(|caller| Arc::new(self.connection.budgets.of_caller(*caller)));
        let caller = caller.map(|client| ClientCharge::charge(client, bytes)).transpose()?;
        let client = self.client.clone().map(|client| ClientCharge::charge(client, bytes)).transpose()?;
        self.connection.charge(Traffic::Responses, bytes)?;
        Ok([caller, client])
    }
}

/// Bytes of an answer that an account is charged for until this is dropped.
#[derive(Debug)]
struct ClientCharge {
    client: Arc<ClientBudget>,
    bytes: usize,
}

impl ClientCharge {
    fn charge(client: Arc<ClientBudget>, bytes: usize) -> Result<Self, OverBudget> {
        client.charge(Traffic::Responses, bytes)?;
        Ok(Self { client, bytes })
    }
}

impl Drop for ClientCharge {
    fn drop(&mut self) {
        self.client.give_back(Traffic::Responses, self.bytes);
    }
}

/// An answer that is not sent yet.
#[derive(Debug)]
pub(super) struct ResponseCharge {
    connection: Arc<ConnectionBudget>,
    _charged: [Option<ClientCharge>; 2],
    bytes: usize,
}

impl Drop for ResponseCharge {
    fn drop(&mut self) {
        self.connection.answers.fetch_sub(self.bytes, Ordering::Relaxed);
        self.connection.give_back(Traffic::Responses, self.bytes);
    }
}

impl Drop for RequestBudget {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.give_back(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client_budget::{REQUESTS, RESPONSES};

    fn connection() -> Arc<ConnectionBudget> {
        let budgets = ClientBudgets::new(0);
        let client = budgets.of([10, 0, 0, 1].into());
        ConnectionBudget::new(budgets, Some(client))
    }

    fn request(connection: &Arc<ConnectionBudget>) -> RequestBudget {
        RequestBudget::of_head(connection, None, &Uri::from_static("/"), &HeaderMap::new())
    }

    #[test]
    fn a_connection_gets_more_once_a_token_was_seen() {
        let connection = connection();
        let (first, second) = (request(&connection), request(&connection));
        assert_eq!(first.refused(), None);
        assert_eq!(first.grow(REQUESTS_BEFORE_TOKEN - 2 * REQUEST_OVERHEAD - 2), Ok(()));
        assert_eq!(second.grow(1), Err(OverBudget::Client));
        second.token_seen(1);
        assert_eq!(second.grow(1), Ok(()));
        assert_eq!(second.grow(REQUESTS.connection), Err(OverBudget::Client));
        drop(first);
        drop(second);
        assert_eq!(connection.held().bytes, 0);
        assert_eq!(connection.held().charged, 0);
        // Whatever is alone is let through.
        assert_eq!(connection.add(2 * REQUESTS.connection), Ok(()));
    }

    #[test]
    fn reads_have_a_rate_until_a_token_was_seen() {
        let budgets = ClientBudgets::new(1);
        let client = budgets.of([10, 0, 0, 1].into());
        let connection = ConnectionBudget::new(Arc::clone(&budgets), Some(client));
        assert!(!connection.pace(1 << 20).is_zero());
        request(&connection).token_seen(1);
        assert!(!connection.is_paced());
        assert!(connection.pace(1 << 20).is_zero());
        let of_proxy = ConnectionBudget::new(budgets, None);
        assert!(of_proxy.pace(1 << 20).is_zero());
    }

    /// Or a hundred bytes would keep others out as well as 64 KiB do.
    #[test]
    fn a_length_that_is_announced_is_not_taken_in_hand() {
        let connection = connection();
        let announced: Vec<_> = (0..100).map(|_| request(&connection)).collect();
        for request in &announced {
            assert_eq!(request.has_room_for(REQUESTS_BEFORE_TOKEN / 2), Ok(()));
        }
        assert_eq!(announced[0].has_room_for(REQUESTS_BEFORE_TOKEN), Err(OverBudget::Client));
        drop(announced);
        assert_eq!(connection.held().bytes, 0);
    }

    #[test]
    fn answers_that_nobody_takes_leave_no_room_for_others() {
        let connection = connection();
        let request = request(&connection);
        let large = request.answer(RESPONSES.connection).unwrap();
        assert_eq!(request.answer(1).err(), Some(OverBudget::Client));
        drop(large);
        assert!(request.answer(1).is_ok());
    }

    #[test]
    fn a_caller_who_comes_from_everywhere_has_one_share() {
        let budgets = ClientBudgets::new(0);
        let from = |last: u8| {
            let client = budgets.of([10, 0, 0, last].into());
            request(&ConnectionBudget::new(Arc::clone(&budgets), Some(client)))
        };
        let requests: Vec<_> = (1..=9).map(from).collect();
        for request in &requests {
            request.token_seen(7);
        }
        let each = RESPONSES.address / 8;
        let unsent: Vec<_> = requests[..8].iter().map(|request| request.answer(each).unwrap()).collect();
        assert_eq!(requests[8].answer(1).err(), Some(OverBudget::Client));
        let other = from(10);
        other.token_seen(8);
        assert!(other.answer(each).is_ok());
        drop(unsent);
        assert!(requests[8].answer(each).is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_turn_once_a_token_was_seen() {
        let connection = connection();
        let request = request(&connection);
        let mut turns = Vec::new();
        for _ in 0..EARLY_REQUESTS {
            turns.push(request.early_turn().await.unwrap());
        }
        let waiting = request.early_turn();
        request.token_seen(1);
        assert!(waiting.await.unwrap().is_none());
    }
}
