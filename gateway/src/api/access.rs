//! Who is calling, as far as a request shows it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use poem::web::{Data, RemoteAddr};
use poem::{Addr, FromRequest, Request, RequestBody};
use poem_openapi::SecurityScheme;
use poem_openapi::auth::ApiKey;
use shared::domain::Timestamp;
use tokio::time::timeout_at;

use super::edge::Arrived;
use super::error::ApiError;
use crate::app::App;
use crate::auth::sessions::Caller;
use crate::limits::network;
use crate::server::{Proxies, RequestBudget};

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
        app.be_current().await?;
        Ok(app.sessions.authenticate(token_of(&header.key), Timestamp::now()).await?)
    };
    // Nothing has been done yet.
    let caller: Result<_, ApiError> =
        timeout_at(arrived.prompt_deadline(), asking).await.map_err(|_| ApiError::Unavailable)?;
    let caller = caller?;
    if let Some(budget) = request.extensions().get::<Arc<RequestBudget>>() {
        budget.token_seen();
    }
    Ok(caller)
}

/// The token in a header `Authorization`.
fn token_of(header: &str) -> &str {
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => header.trim(),
    }
}

/// The address limits are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl<'a> FromRequest<'a> for ClientAddress {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let app: &Arc<App> = Data::from_request_without_body(request).await?.0;
        let peer = match request.remote_addr() {
            RemoteAddr(Addr::SocketAddr(address)) => address.ip(),
            RemoteAddr(_) => Ipv4Addr::UNSPECIFIED.into(),
        };
        let forwarded = request.headers().get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        Ok(Self(network(client_behind(peer, forwarded, &app.config.trusted_proxies))))
    }
}

/// What the accept loop asks about peers, so that it counts clients and not the proxies in front of us.
pub(crate) fn proxies(trusted: &[IpNet]) -> Proxies {
    let trusted: Arc<[IpNet]> = trusted.into();
    let (known, forwarders) = (Arc::clone(&trusted), trusted);
    let is_trusted = |trusted: &[IpNet], peer: IpAddr| trusted.iter().any(|net| net.contains(&peer.to_canonical()));
    Proxies {
        are_trusted: Arc::new(move |peer| is_trusted(&known, peer)),
        client_of: Arc::new(move |peer, headers| {
            let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
            is_trusted(&forwarders, peer).then(|| client_behind(peer, forwarded, &forwarders))
        }),
    }
}

/// The nearest address that is not a trusted proxy: what proxies further away claim, the client may have made up.
fn client_behind<'a>(peer: IpAddr, forwarded: impl Iterator<Item = &'a str>, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(&address.to_canonical()));
    let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut client = peer;
    for hop in hops.iter().rev() {
        if !is_trusted(&client) {
            break;
        }
        let with_port = || hop.parse::<SocketAddr>().map(|address| address.ip());
        match hop.parse().or_else(|_| with_port()) {
            Ok(address) => client = address,
            Err(_) => break,
        }
    }
    client
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

    #[test]
    fn a_client_cannot_choose_its_address() {
        let trusted: [IpNet; 1] = ["10.0.0.0/8".parse().unwrap()];
        let client = |peer: &str, forwarded: &[&str]| {
            client_behind(peer.parse().unwrap(), forwarded.iter().copied(), &trusted).to_string()
        };
        assert_eq!(client("1.2.3.4", &["9.9.9.9"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["9.9.9.9, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["9.9.9.9, 1.2.3.4, 10.0.0.2"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["9.9.9.9", "1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["1.2.3.4:567"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["garbage"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }
}
