//! Budget of one request, from its head until its handler has answered, and the charge for its response until that is sent.
//!
//! Each releases what it charged when it is dropped.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, Uri};
use tokio::sync::OwnedSemaphorePermit;

use super::client_budget::{ClientBudget, OverBudget, Traffic};
use super::connection_budget::ConnectionBudget;

/// What a header costs beside its bytes, and what a request costs beside its headers.
const HEADER_OVERHEAD: usize = 64;
const REQUEST_OVERHEAD: usize = 512;

/// The bytes that one request holds. It is in the extensions of the request.
#[derive(Debug)]
pub(crate) struct RequestBudget {
    connection: Arc<ConnectionBudget>,
    /// The client behind a trusted proxy.
    client: Option<Arc<ClientBudget>>,
    /// The user of its token.
    caller: OnceLock<i64>,
    bytes: AtomicUsize,
    refused: Option<OverBudget>,
}

impl RequestBudget {
    /// Charges the head of a request. If there is no room for it, whoever answers finds it [refused](Self::refused).
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
        budget.refused = budget.charge(REQUEST_OVERHEAD + path + of_headers).err();
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

    /// Charges `bytes` more, such as a part of the body.
    pub(crate) fn charge(&self, bytes: usize) -> Result<(), OverBudget> {
        if let Some(client) = &self.client {
            client.charge(Traffic::Requests, bytes)?;
        }
        self.connection.charge(bytes).inspect_err(|_| {
            if let Some(client) = &self.client {
                client.release(Traffic::Requests, bytes);
            }
        })?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Whether there would be room for `bytes` more. They are not charged: to announce them costs the client nothing.
    pub(crate) fn check_room(&self, bytes: usize) -> Result<(), OverBudget> {
        self.charge(bytes)?;
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.release(bytes);
        Ok(())
    }

    fn release(&self, bytes: usize) {
        self.connection.release(bytes);
        if let Some(client) = &self.client {
            client.release(Traffic::Requests, bytes);
        }
    }

    /// Notes that the client has shown a valid token, whose user is `caller`.
    pub(crate) fn on_token(&self, caller: i64) {
        let _ = self.caller.set(caller);
        self.connection.on_token();
    }

    /// Waits until the request may be worked on: see [`ConnectionBudget::early_permit`].
    pub(super) async fn early_permit(&self) -> Result<Option<OwnedSemaphorePermit>, OverBudget> {
        self.connection.early_permit().await
    }

    /// Charges a response of `bytes` until it is sent: to the caller, to the client behind a proxy, and to the connection with
    /// its own client.
    pub(super) fn charge_response(&self, bytes: usize) -> Result<ResponseCharge, OverBudget> {
        let clients = self.connection.charge_response(bytes, || {
            let caller = self.caller.get().map(|caller| Arc::new(self.connection.of_caller(*caller)));
            let caller = caller.map(|caller| ClientCharge::new(caller, bytes)).transpose()?;
            let client = self.client.clone().map(|client| ClientCharge::new(client, bytes)).transpose()?;
            Ok([caller, client])
        })?;
        Ok(ResponseCharge {
            connection: Arc::clone(&self.connection),
            _clients: clients,
            bytes,
        })
    }
}

impl Drop for RequestBudget {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.release(bytes);
    }
}

/// Bytes of a response that a client is charged for until this is dropped.
#[derive(Debug)]
struct ClientCharge {
    client: Arc<ClientBudget>,
    bytes: usize,
}

impl ClientCharge {
    fn new(client: Arc<ClientBudget>, bytes: usize) -> Result<Self, OverBudget> {
        client.charge(Traffic::Responses, bytes)?;
        Ok(Self { client, bytes })
    }
}

impl Drop for ClientCharge {
    fn drop(&mut self) {
        self.client.release(Traffic::Responses, self.bytes);
    }
}

/// The charge for a response that is not sent yet.
#[derive(Debug)]
pub(super) struct ResponseCharge {
    connection: Arc<ConnectionBudget>,
    _clients: [Option<ClientCharge>; 2],
    bytes: usize,
}

impl Drop for ResponseCharge {
    fn drop(&mut self) {
        self.connection.release_response(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client_budget::{ClientBudgets, REQUESTS, REQUESTS_BEFORE_TOKEN, RESPONSES};
    use crate::server::connection_budget::EARLY_REQUESTS;

    fn connection() -> Arc<ConnectionBudget> {
        let budgets = ClientBudgets::new(0);
        let client = budgets.of([10, 0, 0, 1].into());
        ConnectionBudget::new(budgets, Some(client))
    }

    fn request(connection: &Arc<ConnectionBudget>) -> RequestBudget {
        RequestBudget::of_head(connection, None, &Uri::from_static("/"), &HeaderMap::new())
    }

    #[test]
    fn a_connection_may_hold_more_after_a_token() {
        let connection = connection();
        let (first, second) = (request(&connection), request(&connection));
        assert_eq!(first.refused(), None);
        assert_eq!(first.charge(REQUESTS_BEFORE_TOKEN - 2 * REQUEST_OVERHEAD - 2), Ok(()));
        assert_eq!(second.charge(1), Err(OverBudget::Client));
        second.on_token(1);
        assert_eq!(second.charge(1), Ok(()));
        assert_eq!(second.charge(REQUESTS.connection), Err(OverBudget::Client));
        drop(first);
        drop(second);
        assert_eq!(connection.held_and_charged(), (0, 0));
        // A request that is alone is let through.
        assert_eq!(connection.charge(2 * REQUESTS.connection), Ok(()));
    }

    #[test]
    fn reads_have_a_rate_until_a_token_was_seen() {
        let budgets = ClientBudgets::new(1);
        let client = budgets.of([10, 0, 0, 1].into());
        let connection = ConnectionBudget::new(Arc::clone(&budgets), Some(client));
        assert!(!connection.read_delay(1 << 20).is_zero());
        request(&connection).on_token(1);
        assert!(!connection.has_read_rate());
        assert!(connection.read_delay(1 << 20).is_zero());
        let of_proxy = ConnectionBudget::new(budgets, None);
        assert!(of_proxy.read_delay(1 << 20).is_zero());
    }

    /// Otherwise a hundred bytes would keep others out as well as 64 KiB do.
    #[test]
    fn an_announced_length_is_not_charged() {
        let connection = connection();
        let announced: Vec<_> = (0..100).map(|_| request(&connection)).collect();
        for request in &announced {
            assert_eq!(request.check_room(REQUESTS_BEFORE_TOKEN / 2), Ok(()));
        }
        assert_eq!(announced[0].check_room(REQUESTS_BEFORE_TOKEN), Err(OverBudget::Client));
        drop(announced);
        assert_eq!(connection.held_and_charged().0, 0);
    }

    #[test]
    fn unsent_responses_leave_no_room_for_others() {
        let connection = connection();
        let request = request(&connection);
        let large = request.charge_response(RESPONSES.connection).unwrap();
        assert_eq!(request.charge_response(1).err(), Some(OverBudget::Client));
        drop(large);
        assert!(request.charge_response(1).is_ok());
    }

    #[test]
    fn a_caller_has_one_budget_from_all_addresses() {
        let budgets = ClientBudgets::new(0);
        let from = |last: u8| {
            let client = budgets.of([10, 0, 0, last].into());
            request(&ConnectionBudget::new(Arc::clone(&budgets), Some(client)))
        };
        let requests: Vec<_> = (1..=9).map(from).collect();
        for request in &requests {
            request.on_token(7);
        }
        let each = RESPONSES.address / 8;
        let unsent: Vec<_> = requests[..8].iter().map(|request| request.charge_response(each).unwrap()).collect();
        assert_eq!(requests[8].charge_response(1).err(), Some(OverBudget::Client));
        let other = from(10);
        other.on_token(8);
        assert!(other.charge_response(each).is_ok());
        drop(unsent);
        assert!(requests[8].charge_response(each).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_permit_once_a_token_was_seen() {
        let connection = connection();
        let request = request(&connection);
        let mut permits = Vec::new();
        for _ in 0..EARLY_REQUESTS {
            permits.push(request.early_permit().await.unwrap());
        }
        assert!(request.early_permit().await.is_err(), "all permits are in use");
        let waiting = request.early_permit();
        request.on_token(1);
        assert!(waiting.await.unwrap().is_none());
    }
}
