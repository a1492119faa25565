//! When a client does the next thing.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How far a client that was held up may be behind its pace: it does not make up for a whole outage at once.
const BEHIND_AT_MOST: Duration = Duration::from_millis(500);

/// Exponential gaps: what all clients do together comes at random.
pub(super) struct Pace {
    mean: Duration,
    due: Instant,
}

impl Pace {
    /// A pace with this mean time between two things; the first gap begins now.
    pub(super) fn new(mean: Duration) -> Self {
        let due = Instant::now();
        Self { mean, due }
    }

    /// The mean time between two things of each of `clients`, which do `per_second` together.
    pub(super) fn shared(clients: usize, per_second: f64) -> Duration {
        Duration::from_secs_f64(f64::from(u32::try_from(clients).unwrap_or(u32::MAX)) / per_second)
    }

    /// Waits until the next thing is due; false if `stop` came first.
    pub(super) async fn wait(&mut self, rng: &mut StdRng, stop: &CancellationToken) -> bool {
        self.due += self.mean.mul_f64(-f64::ln(rng.random_range(0.001..1.0)));
        self.due = self.due.max(Instant::now().checked_sub(BEHIND_AT_MOST).unwrap_or(self.due));
        tokio::select! {
            () = stop.cancelled() => false,
            () = sleep_until(self.due) => true,
        }
    }
}
