//! Parses the URL of a Redis installation.
//!
//! ```text
//! redis://[user:password@]host:port[/db]
//! redis+sentinel://[user:password@]host:port,host:port/<master name>[/db]
//! redis+cluster://[user:password@]host:port,host:port
//! ```
//!
//! With `rediss` in place of `redis` every connection uses TLS. The URL crates know neither several hosts nor these schemes, so
//! this module parses the URL itself. No error repeats a part of the URL: any part could be the password.

use std::fmt;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use crate::settings::Secret;

/// Port of a server whose URL names none.
const PORT: u16 = 6379;

/// Port of a sentinel whose URL names none.
const SENTINEL_PORT: u16 = 26379;

/// One server: a host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// Name or address. It is shared, since each command names its server.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How the servers at the address are deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deployment {
    /// One server.
    Single(Node),
    /// A master with replicas, and sentinels that know which of them is the master.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<Node>,
        /// The sentinels' name of the master.
        master: String,
    },
    /// Masters that share the keys, each with or without replicas.
    Cluster(Vec<Node>),
}

/// A Redis installation, and the login of each of its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// How its servers are deployed.
    pub(super) deployment: Deployment,
    /// Whether connections are encrypted.
    pub(super) tls: bool,
    /// User of the servers' access control list.
    pub(super) user: Option<String>,
    /// Its password, or that of the default user.
    pub(super) password: Option<Secret>,
    /// Number of the database.
    pub(super) db: i64,
}

/// A URL that names no Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// It begins with another scheme.
    #[error(
        "it begins with none of redis://, rediss://, redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://"
    )]
    Scheme,
    /// A host or port is malformed.
    #[error("'host:port' cannot be read")]
    Host,
    /// Several hosts where one is needed.
    #[error("several hosts are for redis+sentinel:// and redis+cluster://")]
    ManyHosts,
    /// The name of the master is missing after the sentinels.
    #[error("the name of the master is missing after the sentinels, as in redis+sentinel://host:port/mymaster")]
    NoMaster,
    /// The text after the hosts is not the number of a database.
    #[error("what follows the hosts is not the number of a database")]
    Database,
    /// User or password are not UTF-8 after decoding.
    #[error("user or password are not readable: write special characters as %xx")]
    Credentials,
}

impl Address {
    /// Parses a URL.
    pub(super) fn parse(url: &str) -> Result<Self, InvalidAddress> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidAddress::Scheme)?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match base {
            "redis" => false,
            "rediss" => true,
            _ => return Err(InvalidAddress::Scheme),
        };
        let (login, location) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, path) = location.split_once('/').unwrap_or((location, ""));
        let (deployment, db) = match kind {
            "" => (Deployment::Single(one(nodes(hosts, PORT)?)?), path),
            "cluster" if path.is_empty() => (Deployment::Cluster(nodes(hosts, PORT)?), path),
            "cluster" => return Err(InvalidAddress::Database),
            "sentinel" => {
                let (master, db) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(InvalidAddress::NoMaster);
                }
                let (sentinels, master) = (nodes(hosts, SENTINEL_PORT)?, decode(master)?);
                (Deployment::Sentinel { sentinels, master }, db)
            }
            _ => return Err(InvalidAddress::Scheme),
        };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        Ok(Self {
            deployment,
            tls,
            user: Some(decode(user)?).filter(|user| !user.is_empty()),
            password: Some(decode(password)?).filter(|password| !password.is_empty()).map(|raw| raw.as_str().into()),
            db: if db.is_empty() {
                0
            } else {
                db.parse().map_err(|_| InvalidAddress::Database)?
            },
        })
    }
}

fn nodes(hosts: &str, default_port: u16) -> Result<Vec<Node>, InvalidAddress> {
    hosts.split(',').map(|host| node(host, default_port)).collect()
}

fn node(raw: &str, default_port: u16) -> Result<Node, InvalidAddress> {
    // An IPv6 address stands in brackets, so that its colons do not look like that of the port.
    let (host, port) = match raw.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or(InvalidAddress::Host)?)),
        None => raw.split_once(':').map_or((raw, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(default_port), str::parse).map_err(|_| InvalidAddress::Host)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    if host.is_empty() || port == 0 || !host.bytes().all(allowed) {
        return Err(InvalidAddress::Host);
    }
    Ok(Node {
        host: host.into(),
        port,
    })
}

fn one(mut nodes: Vec<Node>) -> Result<Node, InvalidAddress> {
    let first = nodes.pop().ok_or(InvalidAddress::Host)?;
    if nodes.is_empty() {
        Ok(first)
    } else {
        Err(InvalidAddress::ManyHosts)
    }
}

fn decode(raw: &str) -> Result<String, InvalidAddress> {
    let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| InvalidAddress::Credentials)?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: u16) -> Node {
        Node {
            host: host.into(),
            port,
        }
    }

    #[test]
    fn single_server_is_parsed_with_all_its_parts() {
        let address = Address::parse("rediss://ann:p%40ss@redis.example.org:6380/3").unwrap();
        assert_eq!(address.deployment, Deployment::Single(node("redis.example.org", 6380)));
        assert!(address.tls);
        assert_eq!(address.user.as_deref(), Some("ann"));
        assert_eq!(address.password.as_ref().map(Secret::expose), Some("p@ss"));
        assert_eq!(address.db, 3);
        assert!(!format!("{address:?}").contains("p@ss"));

        let address = Address::parse("redis://:only@[::1]").unwrap();
        assert_eq!(address.deployment, Deployment::Single(node("::1", 6379)));
        assert_eq!((address.user, address.db), (None, 0));
        assert_eq!(address.password.as_ref().map(Secret::expose), Some("only"));
    }

    #[test]
    fn sentinels_and_clusters_have_several_hosts() {
        let address = Address::parse("redis+sentinel://u:p@a:1,b,[::1]:3/chat/2").unwrap();
        let sentinels = vec![node("a", 1), node("b", 26379), node("::1", 3)];
        assert_eq!(
            address.deployment,
            Deployment::Sentinel {
                sentinels,
                master: "chat".to_owned()
            }
        );
        assert_eq!(address.db, 2);
        let address = Address::parse("rediss+cluster://a:1,b:2").unwrap();
        assert_eq!(address.deployment, Deployment::Cluster(vec![node("a", 1), node("b", 2)]));
        assert!(address.tls);
    }

    #[test]
    fn error_never_repeats_the_url() {
        for (url, error) in [
            ("", InvalidAddress::Scheme),
            ("http://host", InvalidAddress::Scheme),
            ("redis+magic://host", InvalidAddress::Scheme),
            ("redis://", InvalidAddress::Host),
            ("redis://host:port", InvalidAddress::Host),
            ("redis://host:99999", InvalidAddress::Host),
            ("redis://a b", InvalidAddress::Host),
            ("redis://host?protocol=resp3", InvalidAddress::Host),
            ("redis://a:1,b:2", InvalidAddress::ManyHosts),
            ("redis://host/x", InvalidAddress::Database),
            ("redis+cluster://host/1", InvalidAddress::Database),
            ("redis+sentinel://host", InvalidAddress::NoMaster),
            ("redis://u:%ff@host", InvalidAddress::Credentials),
        ] {
            assert_eq!(Address::parse(url).unwrap_err(), error, "{url}");
        }
        let error = Address::parse("redis://user:hidden word@ho st").unwrap_err();
        assert!(!error.to_string().contains("hidden"));
    }
}
