//! Extractors for the caller, the client's address and the device's earlier token.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use poem::web::{Data, RemoteAddr};
use poem::{Addr, FromRequest, Request, RequestBody};
use poem_openapi::SecurityScheme;
use poem_openapi::auth::ApiKey;
use shared::telemetry::LogEvent;
use tokio::time::timeout_at;

use super::ApiContext;
use super::edge::Arrived;
use super::error::ApiError;
use super::forwarded::TrustedProxies;
use crate::auth::sessions::Caller;
use crate::client_network::network;
use crate::config::Config;
use crate::server::{Proxies, RequestBudget};

static INVALID: LogEvent = LogEvent::refusal("invalid_token", "an invalid token was presented");

/// The token of register or login, as it is or behind `Bearer `.
#[derive(SecurityScheme)]
#[oai(
    rename = "token",
    ty = "api_key",
    key_in = "header",
    key_name = "Authorization",
    checker = "authenticate"
)]
pub struct Authenticated(pub Arc<Caller>);

async fn authenticate(request: &Request, header: ApiKey) -> poem::Result<Arc<Caller>> {
    let context: &Arc<ApiContext> = Data::from_request_without_body(request).await?.0;
    let Data(arrived) = Data::<&Arrived>::from_request_without_body(request).await?;
    let asking = context.accounts.authenticate(token_of(&header.key));
    // Nothing has been done yet.
    let caller = timeout_at(arrived.prompt_deadline(), asking).await.map_err(|_| ApiError::Unavailable)?;
    let caller = caller.map_err(ApiError::from);
    if matches!(caller, Err(ApiError::Unauthorized)) {
        INVALID.report(format_args!("network:{}", address_of(request, &context.proxies)), "");
    }
    let caller = caller?;
    if let Some(budget) = request.extensions().get::<Arc<RequestBudget>>() {
        budget.on_token(caller.session.user.id.0);
    }
    Ok(caller)
}

/// The address that a request is counted for.
fn address_of(request: &Request, proxies: &TrustedProxies) -> IpAddr {
    let peer = match request.remote_addr() {
        RemoteAddr(Addr::SocketAddr(address)) => address.ip(),
        RemoteAddr(_) => Ipv4Addr::UNSPECIFIED.into(),
    };
    network(proxies.client_of(peer, request.headers()))
}

/// What the server asks about peers, so that it counts clients and not the proxies in front of us.
pub(crate) fn proxies(config: &Config) -> Proxies {
    let known = Arc::new(TrustedProxies::new(config));
    let trusted = Arc::clone(&known);
    Proxies {
        are_trusted: Arc::new(move |peer| known.trusts(peer)),
        client_of: Arc::new(move |peer, headers| trusted.trusts(peer).then(|| trusted.client_of(peer, headers))),
    }
}

/// The token in a header `Authorization`.
fn token_of(header: &str) -> &str {
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => header.trim(),
    }
}

/// The token that a device had before it logs in again. It proves nothing but that the device is known.
pub struct PreviousToken(pub Option<String>);

impl<'a> FromRequest<'a> for PreviousToken {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(request.header("authorization").map(|header| token_of(header).to_owned())))
    }
}

/// The address that limits are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl<'a> FromRequest<'a> for ClientAddress {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let context: &Arc<ApiContext> = Data::from_request_without_body(request).await?.0;
        Ok(Self(address_of(request, &context.proxies)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_raw_or_as_bearer() {
        assert_eq!(token_of("a.b.c"), "a.b.c");
        assert_eq!(token_of("Bearer a.b.c"), "a.b.c");
        assert_eq!(token_of("bearer  a.b.c "), "a.b.c");
        assert_eq!(token_of("Basic a.b.c"), "Basic a.b.c");
    }
}
