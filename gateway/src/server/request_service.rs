//! The hyper service of a connection: turns hyper's request into poem's, calls the endpoint once, and turns the response back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::uri::Scheme;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::Service;
use poem::endpoint::BoxEndpoint;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint};

use super::connection_budget::ConnectionBudget;
use super::connection_state::{ActiveRequest, ConnectionState};
use super::forwarded_clients::ForwardedClients;
use super::hijack::HijackOffer;
use super::refusal::RefusalRenderer;
use super::request_budget::RequestBudget;
use super::response_body::{self, ResponseBody};
use super::socket::Protocol;

/// The whole application, as the accept loop sees it.
pub(super) type App = BoxEndpoint<'static, poem::Response>;

/// The endpoint as seen from one connection.
pub(super) struct RequestService {
    pub(super) app: Arc<App>,
    pub(super) refusals: Arc<dyn RefusalRenderer>,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) state: Arc<ConnectionState>,
    pub(super) budget: Arc<ConnectionBudget>,
    /// Finds the client behind the peer, if that is a trusted proxy.
    pub(super) forwarded: Option<ForwardedClients>,
}

impl RequestService {
    /// Charges the headers of a request. A client behind a proxy that has too many requests under way is refused.
    fn budget_of(&self, request: &Request<Incoming>) -> RequestBudget {
        let client = self.forwarded.as_ref().and_then(|forwarded| forwarded.client(self.peer, request.headers()));
        let (client, refused) = match client {
            None => (None, false),
            Some(mut client) => {
                let refused = client.connect().is_err();
                (Some(client), refused)
            }
        };
        let mut budget = RequestBudget::for_headers(&self.budget, client, request.uri(), request.headers());
        if refused {
            budget.refuse();
        }
        budget
    }
}

impl Service<Request<Incoming>> for RequestService {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    /// Boxed, because `poll_without_shutdown` of hyper's connection demands `Unpin`.
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let active = ActiveRequest::start(&self.state);
        let app = Arc::clone(&self.app);
        let local = LocalAddr(Addr::SocketAddr(self.local));
        let peer = RemoteAddr(Addr::SocketAddr(self.peer));
        // Whoever takes the socket writes the rest of the response in chunks, which HTTP/1.0 has not got.
        let offer = (request.version() == Version::HTTP_11).then(|| HijackOffer(Arc::clone(&self.state)));
        let mut budget = self.budget_of(&request);
        let (protocol, refusals) = (self.protocol, Arc::clone(&self.refusals));
        Box::pin(async move {
            let (progress, permit) = match protocol {
                Protocol::Http1 => (None, Ok(None)),
                Protocol::Http2 => (response_body::send_progress(), budget.early_permit().await),
            };
            if permit.is_err() {
                budget.refuse();
            }
            let budget = Arc::new(budget);
            let mut request = poem::Request::from((request, local, peer, Scheme::HTTP));
            if let Some(offer) = offer {
                request.extensions_mut().insert(offer);
            }
            request.extensions_mut().insert(Arc::clone(&budget));
            let response = app.get_response(request).await;
            drop(permit);
            Ok(response_body::begin(response.into(), &budget, &*refusals, active, progress))
        })
    }
}
