//! From hyper's request to poem's and back: one call of the endpoint.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, Version, uri::Scheme};
use http_body_util::combinators::BoxBody;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    service::Service,
};
use poem::{
    Addr, Endpoint,
    endpoint::BoxEndpoint,
    web::{LocalAddr, RemoteAddr},
};

use super::{
    activity::{Activity, Running},
    takeover::Offer,
};

/// The whole application, as the accept loop sees it.
pub(super) type App = BoxEndpoint<'static, poem::Response>;

/// The endpoint as seen from one connection.
pub(super) struct Exchange {
    pub(super) app: Arc<App>,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) activity: Arc<Activity>,
}

impl Service<Request<Incoming>> for Exchange {
    type Response = Response<Counted>;
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
        Box::pin(async move {
            let mut request = poem::Request::from((request, local, peer, Scheme::HTTP));
            if let Some(offer) = offer {
                request.extensions_mut().insert(offer);
            }
            let response: Response<BoxBody<Bytes, io::Error>> = app.get_response(request).await.into();
            Ok(response.map(|body| Counted {
                body,
                _running: running,
            }))
        })
    }
}

/// A response body that keeps its request counted as running until hyper drops it: at its end, or when the client leaves.
pub(super) struct Counted {
    body: BoxBody<Bytes, io::Error>,
    _running: Running,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
