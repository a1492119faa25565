//! Settings of live streams and of the threads that write to them.

use std::num::NonZero;
use std::time::Duration;

use clap::Args;

/// Live streams.
#[derive(Debug, Clone, Args)]
pub struct StreamArgs {
    /// Seconds of silence after which a stream sends a ping.
    #[arg(long, env = "STREAM_HEARTBEAT_S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub heartbeat_s: u64,

    /// Longest life of a stream in seconds; each ends after 80–100 % of it, so that clients do not reconnect together.
    #[arg(long, env = "STREAM_MAX_AGE_S", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub stream_max_age_s: u64,

    /// Tell users which of those they share a direct room with are there. It costs a look at each of them every half minute.
    #[arg(long, env = "PRESENCE")]
    pub presence: bool,

    /// Threads that write to streams, each with its own connections; without it one for every two cores. The other cores serve requests.
    #[arg(long, env = "FANOUT_THREADS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub fanout_threads: Option<u16>,
}

impl StreamArgs {
    /// Threads of the fan-out: as many as are set, or one for every two cores.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.fanout_threads.map_or_else(|| cores().div_ceil(2), usize::from)
    }

    /// Threads for requests: one for each of the other cores. More of them would compete with the fan-out, and wake each
    /// other for work that one of them does already.
    #[must_use]
    pub fn request_threads(&self) -> usize {
        cores().saturating_sub(self.threads()).max(1)
    }

    /// Silence after which a stream sends a ping.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_s)
    }

    /// The longest life of a stream.
    #[must_use]
    pub fn max_age(&self) -> Duration {
        Duration::from_secs(self.stream_max_age_s)
    }
}

/// Cores this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_get_the_cores_that_the_fan_out_leaves() {
        let streams = |fanout_threads| StreamArgs {
            heartbeat_s: 15,
            stream_max_age_s: 3_600,
            presence: false,
            fanout_threads,
        };
        assert_eq!(streams(Some(256)).request_threads(), cores().saturating_sub(256).max(1));
        let unset = streams(None);
        assert_eq!(unset.threads() + unset.request_threads(), cores().max(2));
    }
}
