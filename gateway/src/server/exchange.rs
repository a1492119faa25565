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
    activity::{Activity, Running},
    answer::{self, Answer},
    budget::{ConnectionBudget, RequestBudget},
    refusal::Refuse,
    shared::Forwarded,
    socket::Protocol,
    takeover::Offer,
};

/// The whole application, as the accept loop sees it.
pub(super) type App = BoxEndpoint<'static, poem::Response>;

/// The endpoint as seen from one connection.
pub(super) struct Exchange {
    pub(super) app: Arc<App>,
    pub(super) refuse: Arc<dyn Refuse>,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) activity: Arc<Activity>,
    pub(super) budget: Arc<ConnectionBudget>,
    /// Finds the client behind the peer, if that is a trusted proxy.
    pub(super) forwarded: Option<Forwarded>,
}

impl Exchange {
    /// Takes the head of a request in hand.
    fn budget_of(&self, request: &Request<Incoming>) -> RequestBudget {
        let client = self.forwarded.as_ref().and_then(|forwarded| forwarded.account(self.peer, request.headers()));
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

impl Service<Request<Incoming>> for Exchange {
    type Response = Response<Answer>;
    type Error = Infallible;
    /// Boxed, because `poll_without_shutdown` of hyper's connection demands `Unpin`.
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let running = Running::start(&self.activity);
        let app = Arc::clone(&self.app);
        let local = LocalAddr(Addr::SocketAddr(self.local));
        let peer = RemoteAddr(Addr::SocketAddr(self.peer));
        // The rest of a response is written in chunks, which HTTP/1.0 has not got.
        let offer = (request.version() == Version::HTTP_11).then(|| Offer(Arc::clone(&self.activity)));
        let mut budget = self.budget_of(&request);
        let (protocol, refuse) = (self.protocol, Arc::clone(&self.refuse));
        Box::pin(async move {
            let (sending, turn) = match protocol {
                Protocol::Http1 => (None, Ok(None)),
                Protocol::Http2 => (answer::sending(), budget.early_turn().await),
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
            Ok(answer::begin(response.into(), &budget, &*refuse, running, sending))
        })
    }
}
