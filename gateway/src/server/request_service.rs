//! From hyper's request to poem's and back: one call of the endpoint.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use futures_util::future::BoxFuture;
use http::{Request, Response, Version, uri::Scheme};
use hyper::{body::Incoming, service::Service};
use poem::{
    Addr, Endpoint,
    endpoint::BoxEndpoint,
    web::{LocalAddr, RemoteAddr},
};

use super::{
    activity::{ActiveRequest, Activity},
    budget::{ConnectionBudget, RequestBudget},
    context::ForwardedClients,
    hijack::HijackOffer,
    refusal::RefusalRenderer,
    response_body::{self, ResponseBody},
    socket::Protocol,
};

/// The whole application, as the accept loop sees it.
pub(super) type App = BoxEndpoint<'static, poem::Response>;

/// The endpoint as seen from one connection.
pub(super) struct RequestService {
    pub(super) app: Arc<App>,
    pub(super) refusals: Arc<dyn RefusalRenderer>,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) activity: Arc<Activity>,
    pub(super) budget: Arc<ConnectionBudget>,
    /// Finds the client behind the peer, if that is a trusted proxy.
    pub(super) forwarded: Option<ForwardedClients>,
}

impl RequestService {
    /// Takes the head of a request in hand.
    fn budget_of(&self, request: &Request<Incoming>) -> RequestBudget {
        let client = self.forwarded.as_ref().and_then(|forwarded| forwarded.client(self.peer, request.headers()));
        let (client, refused) = match client {
            None => (None, false),
            Some(mut client) => {
                let refused = client.connect().is_err();
                (Some(client), refused)
            }
        };
        let mut budget = RequestBudget::of_head(&self.budget, client, request.uri(), request.headers());
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
        let running = ActiveRequest::start(&self.activity);
        let app = Arc::clone(&self.app);
        let local = LocalAddr(Addr::SocketAddr(self.local));
        let peer = RemoteAddr(Addr::SocketAddr(self.peer));
        // The rest of a response is written in chunks, which HTTP/1.0 has not got.
        let offer = (request.version() == Version::HTTP_11).then(|| HijackOffer(Arc::clone(&self.activity)));
        let mut budget = self.budget_of(&request);
        let (protocol, refusals) = (self.protocol, Arc::clone(&self.refusals));
        Box::pin(async move {
            let (sending, turn) = match protocol {
                Protocol::Http1 => (None, Ok(None)),
                Protocol::Http2 => (response_body::sending(), budget.early_turn().await),
            };
            if turn.is_err() {
                budget.refuse();
            }
            let budget = Arc::new(budget);
            let mut request = poem::Request::from((request, local, peer, Scheme::HTTP));
            if let Some(offer) = offer {
                request.extensions_mut().insert(offer);
            }
            request.extensions_mut().insert(Arc::clone(&budget));
            let response = app.get_response(request).await;
            drop(turn);
            Ok(response_body::begin(response.into(), &budget, &*refusals, running, sending))
        })
    }
}
