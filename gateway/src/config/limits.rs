//! Settings of limits: what one client may do and hold.

use std::time::Duration;

use clap::Args;

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

    /// KiB of history that a user may read a second, in pages (uncompressed) and as replay on streams, beyond a burst of twice as
    /// much.
    #[arg(long, env = "REPLAY_KIB_PER_S", default_value_t = 4096)]
    pub replay_kib_per_s: u32,

    /// Minutes in which the sender of a message may edit it; 0: for ever.
    #[arg(long, env = "EDIT_WINDOW_MIN", default_value_t = 0)]
    pub edit_window_min: u32,

    /// Accepted messages of a partition that may wait for the worker before posts are refused with 503.
    #[arg(long, env = "BACKLOG_PER_PARTITION", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub backlog_per_partition: u32,
}

impl LimitArgs {
    /// How long the sender of a message may edit it; `None`: for ever.
    #[must_use]
    pub fn edit_window(&self) -> Option<Duration> {
        (self.edit_window_min > 0).then(|| Duration::from_mins(self.edit_window_min.into()))
    }

    /// Connections one address may have: the setting, and never so many that nobody else gets in; 0 for any number.
    #[must_use]
    pub fn connections_of_one(&self) -> u32 {
        self.connections_per_address.min((self.max_connections / 2).max(1))
    }
}
