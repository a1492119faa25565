//! Settings of the gateway: one struct for command line and environment.

use std::net::IpAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::ForwardedHeader;
use crate::api::cors::parse_origin;
use crate::live::StreamSettings;
use crate::server::listen::ListenAddress;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use shared::settings::{LogArgs, RedisArgs, ShutdownArgs, StorageArgs};

/// Shortest accepted password if nothing else is set, in characters.
pub(crate) const PASSWORD_MIN_LENGTH: u16 = 8;

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
    pub storage: StorageArgs,

    #[expect(missing_docs, reason = "the help of a flattened group is that of its parts")]
    #[command(flatten)]
    pub redis: RedisArgs,

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

    /// The header in which the proxies name the client. Of the other one nothing is believed: proxies pass it on as it came.
    #[arg(long, env = "FORWARDED_HEADER", value_enum, default_value = "x-forwarded-for")]
    pub forwarded_header: ForwardedHeader,

    /// Origins whose pages may call the API, such as `https://chat.example.org` or `capacitor://localhost`.
    #[arg(long = "cors-origin", env = "CORS_ORIGINS", value_delimiter = ',', value_parser = parse_origin)]
    pub cors_origins: Vec<String>,

    #[expect(missing_docs, reason = "the help of a flattened group is that of its parts")]
    #[command(flatten)]
    pub shutdown: ShutdownArgs,

    #[expect(missing_docs, reason = "the help of a flattened group is that of its parts")]
    #[command(flatten)]
    pub log: LogArgs,

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

/// What a 204 on a post stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ack {
    /// The accept log on Redis's disk.
    Logged,
    /// The worker's commit in SQL.
    Stored,
}

/// Accounts and tokens.
#[derive(Debug, Clone, Args)]
pub struct AccountArgs {
    /// File with the keys of access tokens, one a line in hexadecimal; made with a random key if it is not there.
    ///
    /// The first key signs, all of them verify. Every gateway needs the same file. At least 32 bytes a key.
    #[arg(long, env = "SIGNING_KEY_FILE", default_value = ".data/signing.key")]
    pub signing_key_file: PathBuf,

    /// Seconds until an access token expires.
    #[arg(long, env = "TOKEN_TTL_S", default_value_t = 30 * 24 * 3600, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub token_ttl_s: u64,

    /// Shortest accepted password, in characters.
    #[arg(long, env = "PASSWORD_MIN_LENGTH", default_value_t = PASSWORD_MIN_LENGTH, value_parser = clap::value_parser!(u16).range(1..=128))]
    pub password_min_length: u16,

    /// Take passwords that many people use, or that are the user's own name. For trying out only.
    #[arg(long, env = "ALLOW_WEAK_PASSWORDS")]
    pub allow_weak_passwords: bool,

    /// Demand e-mail addresses of the form `name@host.tld`.
    #[arg(long, env = "STRICT_EMAIL")]
    pub strict_email: bool,

    /// Make the first user who registers an admin. For trying out only.
    #[arg(long, env = "FIRST_USER_IS_ADMIN")]
    pub first_user_is_admin: bool,
}

impl AccountArgs {
    /// The life of a token as a duration.
    #[must_use]
    pub fn token_ttl(&self) -> Duration {
        Duration::from_secs(self.token_ttl_s)
    }
}

/// Live streams.
#[derive(Debug, Clone, Args)]
pub struct StreamArgs {
    /// Seconds of silence after which a stream sends a ping.
    #[arg(long, env = "STREAM_HEARTBEAT_S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub heartbeat_s: u64,

    /// Longest life of a stream in seconds; each ends after 80–100 % of it, so that they do not return together.
    #[arg(long, env = "STREAM_MAX_AGE_S", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub stream_max_age_s: u64,

    /// Threads that write to streams, each with its own rooms; one for every two cores if not set, and requests have the others.
    #[arg(long, env = "FANOUT_THREADS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub fanout_threads: Option<u16>,
}

impl StreamArgs {
    /// Threads of the fan-out: as many as are set, or one for every two cores.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.fanout_threads.map_or_else(|| cores().div_ceil(2), usize::from)
    }

    /// Threads for requests: one for each of the other cores. More of them would take turns with the fan-out, and wake each
    /// other for work that one of them is at already.
    #[must_use]
    pub fn request_threads(&self) -> usize {
        cores().saturating_sub(self.threads()).max(1)
    }

    /// The settings as streams take them.
    #[must_use]
    pub fn settings(&self) -> StreamSettings {
        StreamSettings {
            heartbeat: Duration::from_secs(self.heartbeat_s),
            max_age: Duration::from_secs(self.stream_max_age_s),
        }
    }
}

/// What one client may take. 0 switches a limit off.
#[derive(Debug, Clone, Args)]
pub struct LimitArgs {
    /// Connections this gateway holds at most.
    #[arg(long, env = "GATEWAY_MAX_CONNECTIONS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// Connections one address may have; never more than half of all. Trusted proxies may have any number.
    ///
    /// A client behind a trusted proxy may have as many requests under way. Connections of an address on which no token was seen
    /// are read at 4 KiB a second for each that it may have, all together; those of trusted proxies at any rate.
    #[arg(long, env = "CONNECTIONS_PER_ADDRESS", default_value_t = 1_000)]
    pub connections_per_address: u32,

    /// Messages a user may post a second, on average.
    #[arg(long, env = "POST_PER_S", default_value_t = 10)]
    pub post_per_s: u32,

    /// Messages a user may post at once.
    #[arg(long, env = "POST_BURST", default_value_t = 30)]
    pub post_burst: u32,

    /// Wrong passwords for one account in 5 minutes, from each network and each device that has signed in before.
    #[arg(long, env = "LOGIN_PER_ACCOUNT", default_value_t = 10)]
    pub login_per_account: u32,

    /// Wrong passwords in 10 minutes from one address that has not signed in before.
    #[arg(long, env = "LOGIN_PER_ADDRESS", default_value_t = 30)]
    pub login_per_address: u32,

    /// Users registered from one address in an hour.
    #[arg(long, env = "REGISTER_PER_ADDRESS", default_value_t = 60)]
    pub register_per_address: u32,

    /// Rooms one user may own.
    #[arg(long, env = "ROOMS_PER_USER", default_value_t = 100)]
    pub rooms_per_user: u32,

    /// Rooms one user may create in an hour.
    #[arg(long, env = "CREATE_ROOM_PER_HOUR", default_value_t = 60)]
    pub create_room_per_hour: u32,

    /// Rooms one user may join or leave in a minute.
    #[arg(long, env = "JOIN_PER_MIN", default_value_t = 60)]
    pub join_per_min: u32,

    /// Streams one user may have open.
    #[arg(long, env = "STREAMS_PER_USER", default_value_t = 10)]
    pub streams_per_user: u32,

    /// Streams one address may have open; a school or an office is one.
    #[arg(long, env = "STREAMS_PER_ADDRESS", default_value_t = 1_000)]
    pub streams_per_address: u32,

    /// KiB a second of history that a user reads, in pages (uncompressed) and on streams that missed something, after twice as much at
    /// once.
    #[arg(long, env = "REPLAY_KIB_PER_S", default_value_t = 4096)]
    pub replay_kib_per_s: u32,

    /// Accepted messages of a partition that may wait for the worker before posts are refused with 503.
    #[arg(long, env = "BACKLOG_PER_PARTITION", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub backlog_per_partition: u32,
}

impl LimitArgs {
    /// Connections one address may have: the setting, and never so many that nobody else gets in; 0 for any number.
    #[must_use]
    pub fn connections_of_one(&self) -> u32 {
        self.connections_per_address.min((self.max_connections / 2).max(1))
    }
}

/// Cores this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
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
    fn requests_get_the_cores_that_the_fan_out_leaves() {
        let streams = |fanout_threads| StreamArgs {
            heartbeat_s: 15,
            stream_max_age_s: 3_600,
            fanout_threads,
        };
        assert_eq!(streams(Some(256)).request_threads(), cores().saturating_sub(256).max(1));
        let unset = streams(None);
        assert_eq!(unset.threads() + unset.request_threads(), cores().max(2));
    }

    #[test]
    fn the_settings_page_is_up_to_date() {
        let page = include_str!("../../deploy/docs/settings.md");
        let section = shared::settings::markdown_table(&Config::command());
        assert!(page.contains(&section), "run `make settings`: deploy/docs/settings.md lacks\n{section}");
    }
}
