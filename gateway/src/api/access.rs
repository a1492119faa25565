//! Who is calling, as far as a request shows it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use poem::web::{Data, RemoteAddr};
use poem::{Addr, FromRequest, Request, RequestBody};
use poem_openapi::SecurityScheme;
use poem_openapi::auth::ApiKey;
use shared::domain::Timestamp;
use shared::telemetry::Event;
use tokio::time::timeout_at;

use super::edge::Arrived;
use super::error::ApiError;
use super::forwarded::TrustedProxies;
use crate::app::App;
use crate::auth::sessions::Caller;
use crate::config::Config;
use crate::limits::network;
use crate::server::{Proxies, RequestBudget};

static INVALID: Event = Event::refusal("invalid_token", "a token is none of ours");

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
    let app: &Arc<App> = Data::from_request_without_body(request).await?.0;
    let Data(arrived) = Data::<&Arrived>::from_request_without_body(request).await?;
    let asking = async {
        app.ensure_fresh().await?;
        Ok(app.sessions.authenticate(token_of(&header.key), Timestamp::now()).await?)
    };
    // Nothing has been done yet.
    let caller: Result<_, ApiError> =
        timeout_at(arrived.prompt_deadline(), asking).await.map_err(|_| ApiError::Unavailable)?;
    if matches!(caller, Err(ApiError::Unauthorized)) {
        INVALID.report(format_args!("network:{}", address_of(request, app)), "");
    }
    let caller = caller?;
    if let Some(budget) = request.extensions().get::<Arc<RequestBudget>>() {
        budget.on_token(caller.session.user.id.0);
    }
    Ok(caller)
}

/// The address that a request is counted for.
fn address_of(request: &Request, app: &App) -> IpAddr {
    let peer = match request.remote_addr() {
        RemoteAddr(Addr::SocketAddr(address)) => address.ip(),
        RemoteAddr(_) => Ipv4Addr::UNSPECIFIED.into(),
    };
    let proxies = TrustedProxies {
        trusted: &app.config.trusted_proxies,
        header: app.config.forwarded_header,
    };
    network(proxies.client_of(peer, request.headers()))
}

/// What the accept loop asks about peers, so that it counts clients and not the proxies in front of us.
pub(crate) fn proxies(config: &Config) -> Proxies {
    let (trusted, header): (Arc<[IpNet]>, _) = (config.trusted_proxies.as_slice().into(), config.forwarded_header);
    let known = Arc::clone(&trusted);
    Proxies {
        are_trusted: Arc::new(move |peer| {
            TrustedProxies {
                trusted: &known,
                header,
            }
            .trusts(peer)
        }),
        client_of: Arc::new(move |peer, headers| {
            let proxies = TrustedProxies {
                trusted: &trusted,
                header,
            };
            proxies.trusts(peer).then(|| proxies.client_of(peer, headers))
        }),
    }
}

/// The token in a header `Authorization`.
fn token_of(header: &str) -> &str {
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => header.trim(),
    }
}

/// The token that a device had before it signs in again: in the header, and of no use but to know it by.
pub struct PreviousToken(pub Option<String>);

impl<'a> FromRequest<'a> for PreviousToken {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(request.header("authorization").map(|header| token_of(header).to_owned())))
    }
}

/// The address limits are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl<'a> FromRequest<'a> for ClientAddress {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let app: &Arc<App> = Data::from_request_without_body(request).await?.0;
        Ok(Self(address_of(request, app)))
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
