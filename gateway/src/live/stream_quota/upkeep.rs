//! Keeps the leases of this gateway while its streams live, and releases those of ended ones.

use std::time::Duration;

use redis::{AsyncCommands as _, RedisResult};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{LIVENESS_EVERY, StreamQuota, scripts};

/// How often leases are renewed: two failures in a row do no harm.
const RENEW_EVERY: Duration = Duration::from_secs(20);

/// Leases renewed or released by one round trip.
const BATCH: usize = 500;

impl StreamQuota {
    /// Renews the leases of open streams and releases those of ended ones, until `stop` is cancelled and the last stream
    /// has ended.
    pub async fn maintain(mut self, stop: CancellationToken) {
        let (mut renewal, mut liveness) = (interval(RENEW_EVERY), interval(LIVENESS_EVERY));
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        liveness.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(stop.is_cancelled() && self.leases.is_empty()) {
            tokio::select! {
                () = stop.cancelled(), if !stop.is_cancelled() => {}
                () = self.leases.ended() => self.release().await,
                // Without Redis nobody can read the key either.
                _ = liveness.tick() => drop(self.announce().await),
                _ = renewal.tick() => self.renew().await,
            }
        }
        self.release().await;
        // Leases that could not be released count as abandoned from here on.
        let key = self.liveness_key(self.gateway);
        let _: RedisResult<()> = self.redis.del(key).await;
    }

    async fn release(&mut self) {
        for some in self.leases.drain_ended().chunks(BATCH) {
            let mut pipeline = redis::pipe();
            pipeline.load_script(&scripts::RELEASE).ignore();
            for (stream, holder) in some {
                for (keys, _) in self.counted(holder) {
                    pipeline.invoke_script(&scripts::release(&keys, *stream)).ignore();
                }
            }
            // A lease that could not be released is not renewed, and expires.
            let _: RedisResult<()> = pipeline.query_async(&mut self.redis).await;
        }
    }

    async fn renew(&mut self) {
        for some in self.leases.open().chunks(BATCH) {
            let mut pipeline = redis::pipe();
            pipeline.load_script(&scripts::RENEW).ignore();
            let mut renewed = Vec::new();
            for (stream, holder) in some {
                for (keys, _) in self.counted(holder) {
                    pipeline.invoke_script(&scripts::renew(&keys, *stream));
                    renewed.push(*stream);
                }
            }
            let outcome: RedisResult<Vec<bool>> = pipeline.query_async(&mut self.redis).await;
            match outcome {
                // The announcement that a newer stream has taken a lease may not have reached this gateway.
                Ok(held) => {
                    let lost = renewed.into_iter().zip(held).filter(|(_, held)| !held);
                    lost.for_each(|(stream, _)| self.end_replaced(stream));
                }
                Err(error) => {
                    warn!(error = %error, "cannot renew the leases of open streams: {error}");
                    return;
                }
            }
        }
    }
}
