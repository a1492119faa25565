//! Budget of one request, from its headers until its handler has answered, and the charge for its response until that is sent.
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
    /// Charges the headers of a request. If there is no room for them, whoever answers finds it [refused](Self::refused).
    pub(super) fn for_headers(
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
mod tests;
