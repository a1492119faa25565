//! Settings of the gateway: one struct for command line and environment.

mod accounts;
mod limits;
mod streams;
mod web_origin;

use std::net::IpAddr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use shared::bootstrap::{Binary, BinarySettings};
use shared::settings::BinaryArgs;
use shared::storage::Role;

pub(crate) use self::accounts::{AccountArgs, PASSWORD_MIN_LENGTH};
pub(crate) use self::limits::LimitArgs;
pub(crate) use self::streams::StreamArgs;
use self::web_origin::parse_origin;
use crate::listen::ListenAddress;

/// Serves the HTTP API and the live streams.
#[derive(Debug, Clone, Parser)]
#[command(name = "gateway", version = env!("ROOMCAST_VERSION"))]
pub struct Config {
    /// Address to listen on: `127.0.0.1:5000`, `[::1]:5000`, `localhost:5000`, or `:5000` for every address.
    ///
    /// Of the addresses of a name the first that this machine has is taken, those of IPv4 before those of IPv6.
    #[arg(long, env = "GATEWAY_LISTEN", default_value = "127.0.0.1:5000")]
    pub listen: ListenAddress,

    #[expect(missing_docs, reason = "the help of a flattened group is that of its parts")]
    #[command(flatten)]
    pub common: BinaryArgs,

    #[expect(missing_docs, reason = "the help of a flattened group is that of its parts")]
    #[command(flatten)]
    pub accounts: AccountArgs,

    #[expect(missing_docs, reason = "the help of a flattened group is that of its parts")]
    #[command(flatten)]
    pub streams: StreamArgs,

    /// Days for which the name of a deleted room stays with its owner; 0: none.
    ///
    /// Apps post by name: whoever got the name of a private room could read what its members go on posting. An admin can
    /// take the name before.
    #[arg(long, env = "ROOM_NAME_KEPT_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub room_name_kept_days: u32,

    /// When a post is answered with 204: `logged` once Redis has it on disk, `stored` once it is in history.
    ///
    /// `stored` is for a Redis that fails over to a replica, which can lose what it had acknowledged. A post then takes
    /// as long as a worker needs for its commit, and gets 503 while no worker is at work.
    #[arg(long, env = "ACK", value_enum, default_value = "logged")]
    pub ack: Ack,

    #[expect(missing_docs, reason = "the help of a flattened group is that of its parts")]
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Proxies in front of this gateway, as addresses or networks such as `10.0.0.0/8`.
    ///
    /// Only from these is the header believed that names the client, read from the right.
    #[arg(long = "trusted-proxy", env = "TRUSTED_PROXIES", value_delimiter = ',', value_parser = parse_network)]
    pub trusted_proxies: Vec<IpNet>,

    /// The header in which the trusted proxies name the client. The other one is ignored: proxies pass it on as the client sent it.
    #[arg(long, env = "FORWARDED_HEADER", value_enum, default_value = "x-forwarded-for")]
    pub forwarded_header: ForwardedHeader,

    /// Origins whose pages may call the API, such as `https://chat.example.org` or `capacitor://localhost`.
    #[arg(long = "cors-origin", env = "CORS_ORIGINS", value_delimiter = ',', value_parser = parse_origin)]
    pub cors_origins: Vec<String>,

    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Config {
    /// How long the name of a deleted room stays with its owner.
    #[must_use]
    pub fn room_name_kept(&self) -> Duration {
        Duration::from_secs(u64::from(self.room_name_kept_days) * 86_400)
    }
}

fn parse_network(raw: &str) -> Result<IpNet, String> {
    let network = raw.parse().or_else(|_| raw.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "not an address or network".to_owned())
}

/// What to do instead of serving.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print the OpenAPI document and exit.
    Openapi,
    /// Print all settings as a Markdown table and exit.
    Settings,
    /// Make the keys in the key file those that this installation signs with, and exit. Logs everybody out.
    ReplaceKeys,
    /// Make a registered user an admin and exit.
    GrantAdmin {
        /// The user's name.
        username: String,
    },
}

/// This binary.
pub const BINARY: Binary = Binary {
    name: "gateway",
    version: env!("ROOMCAST_VERSION"),
    role: Role::Gateway,
};

impl BinarySettings for Config {
    fn common(&self) -> &BinaryArgs {
        &self.common
    }

    fn threads(&self) -> Option<usize> {
        Some(self.streams.request_threads())
    }
}

/// The header in which trusted proxies name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// What a 204 on a post stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ack {
    /// The accept log on Redis's disk.
    Logged,
    /// The worker's commit in SQL.
    Stored,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn the_settings_page_is_up_to_date() {
        let page = include_str!("../../deploy/docs/settings.md");
        let section = shared::settings::markdown_table(&Config::command());
        assert!(page.contains(&section), "run `make settings`: deploy/docs/settings.md lacks\n{section}");
    }
}
