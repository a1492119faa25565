//! The client behind trusted proxies, by `X-Forwarded-For` or `Forwarded` (RFC 7239).
//!
//! The operator chooses which of the two is believed: a proxy that adds to one of them passes the other on as the client wrote
//! it. No crate is used: those for RFC 7239 refuse a whole header for a parameter that they do not know, and cut quoted strings.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use poem::http::{HeaderMap, HeaderName, header};
use shared::telemetry::LogEvent;

use crate::config::{Config, ForwardedHeader};

static UNTRUSTED: LogEvent = LogEvent::refusal(
    "untrusted_proxy",
    "a header that names the client came from an address that is not trusted: if a proxy of yours is there, name it with --trusted-proxy",
)
.warning();

impl ForwardedHeader {
    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => header::FORWARDED,
        }
    }

    /// The addresses in one value, the nearest last; `None` stands for an element without one.
    fn hops(self, value: &str) -> Vec<Option<IpAddr>> {
        match self {
            Self::XForwardedFor => value.split(',').map(|hop| address(hop.trim())).collect(),
            Self::Forwarded => split(value, ',').into_iter().map(forwarded_for).collect(),
        }
    }
}

/// Which proxies are trusted, and the header in which they name the client.
#[derive(Debug, Clone)]
pub(super) struct TrustedProxies {
    trusted: Vec<IpNet>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    /// The proxies that the operator trusts.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            trusted: config.trusted_proxies.clone(),
            header: config.forwarded_header,
        }
    }

    /// The nearest address that is not a trusted proxy: what proxies further away claim, the client may have made up.
    pub(super) fn client_of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trusts(peer) {
            if [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded]
                .iter()
                .any(|header| headers.contains_key(header.name()))
            {
                UNTRUSTED.report(format_args!("peer:{}", peer.to_canonical()), "");
            }
            return peer;
        }
        let values = headers.get_all(self.header.name()).iter();
        // A value that is not ASCII names nobody, and stops the search.
        let hops: Vec<Option<IpAddr>> = values
            .flat_map(|value| value.to_str().map_or(vec![None], |value| self.header.hops(value)))
            .collect();
        let mut client = peer;
        for hop in hops.into_iter().rev() {
            let Some(hop) = hop.filter(|_| self.trusts(client)) else {
                break;
            };
            client = hop;
        }
        client
    }

    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address.to_canonical()))
    }
}

/// Parses an address in any of its spellings: with a port, in brackets, both or neither.
fn address(raw: &str) -> Option<IpAddr> {
    let in_brackets = || raw.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let plain = raw.parse().ok();
    plain
        .or_else(|| raw.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))
        .or_else(in_brackets)
}

/// The address in the parameter `for` of an element of `Forwarded`; `None` for `unknown` and for obfuscated names.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let parameters = split(element, ';').into_iter().filter_map(|parameter| parameter.split_once('='));
    let mut of_client = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, node) = of_client.next()?;
    let node = node.trim();
    match node.strip_prefix('"') {
        // A quoted pair may stand for any character (RFC 9110, section 5.6.4).
        Some(quoted) => address(&quoted.strip_suffix('"')?.replace('\\', "")),
        None => address(node),
    }
}

/// Splits at `separator`, except within quotes.
fn split(value: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (index, character) in value.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                parts.push(&value[start..index]);
                start = index + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&value[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn client(header: ForwardedHeader, peer: &str, values: &[&str]) -> String {
        let trusted = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header.name(), HeaderValue::from_str(value).unwrap());
        }
        let proxies = TrustedProxies { trusted, header };
        proxies.client_of(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn a_client_cannot_choose_its_address() {
        let client = |peer, values: &[&str]| client(ForwardedHeader::XForwardedFor, peer, values);
        assert_eq!(client("1.2.3.4", &["9.9.9.9"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["9.9.9.9, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["9.9.9.9, 1.2.3.4, 10.0.0.2"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["9.9.9.9", "1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["9.9.9.9, garbage, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &["garbage"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("::ffff:10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
    }

    #[test]
    fn an_address_is_read_in_all_its_spellings() {
        for raw in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:4711"] {
            assert_eq!(client(ForwardedHeader::XForwardedFor, "10.0.0.1", &[raw]), "2001:db8::1", "{raw}");
        }
        assert_eq!(client(ForwardedHeader::XForwardedFor, "10.0.0.1", &["1.2.3.4:567"]), "1.2.3.4");
        let cases = [
            ("for=1.2.3.4;proto=https;by=10.0.0.1", "1.2.3.4"),
            ("For=\"1.2.3.4:80\" ; host=\"a,b;c\"", "1.2.3.4"),
            ("proto=http;for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=\"[2001:db8::1]\";ext=\"a\\\"b, for=9.9.9.9\"", "2001:db8::1"),
            ("for=9.9.9.9, for=1.2.3.4, for=10.0.0.2", "1.2.3.4"),
            ("for=9.9.9.9, for=unknown", "10.0.0.1"),
            ("for=_hidden", "10.0.0.1"),
            ("by=9.9.9.9", "10.0.0.1"),
        ];
        for (value, expected) in cases {
            assert_eq!(client(ForwardedHeader::Forwarded, "10.0.0.1", &[value]), expected, "{value}");
        }
    }

    #[test]
    fn only_the_header_that_the_proxies_write_is_believed() {
        let mut headers = HeaderMap::new();
        headers.insert(header::FORWARDED, HeaderValue::from_static("for=9.9.9.9"));
        let proxies = TrustedProxies {
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            header: ForwardedHeader::XForwardedFor,
        };
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(proxies.client_of(peer, &headers), peer);
    }

    proptest! {
        /// Whatever the client put in front, the last hop is what the proxy wrote.
        #[test]
        fn client_input_never_moves_the_last_hop(made_up in "[ -~]{0,80}", last in any::<[u8; 4]>()) {
            let real = IpAddr::from(last);
            prop_assume!(last[0] != 10);
            let by_list = client(ForwardedHeader::XForwardedFor, "10.0.0.1", &[&made_up, &real.to_string()]);
            prop_assert_eq!(by_list, real.to_string());
            let by_element = client(ForwardedHeader::Forwarded, "10.0.0.1", &[&made_up, &format!("for={real}")]);
            prop_assert_eq!(by_element, real.to_string());
        }
    }
}
