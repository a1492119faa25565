//! A modest load by which a flood is judged: posts at a steady pace, streams that must get them, and sessions that are ended at
//! another gateway.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::api_client::ApiClient;
use crate::failure::{Explain as _, Failure, Result};
use crate::latencies::{Latencies, Percentiles};
use crate::restartable_process::ProcessHandle;
use crate::sse::EventStream;
use crate::stack::Stack;

/// Users, each with a room; every other one uses HTTP/2.
const USERS: usize = 4;
/// Time between two posts of one user; slower than the limit of posts a second.
const PACE: Duration = Duration::from_millis(125);
/// Time between two samples of the memory.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Time between two sessions that are ended.
const REVOKE_EVERY: Duration = Duration::from_secs(2);
/// Longest time anything may take before it counts as failed.
const WITHIN: Duration = Duration::from_secs(10);
/// Failures that are reported.
const REPORTED: usize = 5;

/// The users.
pub(super) struct BaselineLoad {
    users: Vec<ApiClient>,
    /// The other gateway, at which sessions are ended.
    other_gateway: String,
}

/// What the users measured in a window.
pub struct BaselineMeasurement {
    /// Times of posts.
    pub posts: Percentiles,
    /// The longest time from the end of a session until its stream ended, in milliseconds.
    pub revoked_ms: f64,
    /// What failed for them.
    pub failures: Vec<String>,
}

impl BaselineLoad {
    pub(super) async fn new(stack: &Stack) -> Result<Self> {
        let url = stack.gateways[0].url();
        let mut users = Vec::new();
        for number in 0..USERS {
            let name = format!("user-{number}");
            let user = ApiClient::at(&url)?.register(&name).await?;
            user.create_room(&name).await?;
            users.push(if number % 2 == 0 {
                user
            } else {
                ApiClient::over_http2(&url)?.with_token(user.token())
            });
        }
        Ok(Self {
            users,
            other_gateway: stack.gateways[1].url(),
        })
    }

    /// Measures the load for `window`.
    pub(super) async fn measure(&self, window: Duration) -> Result<BaselineMeasurement> {
        let times = Mutex::new(Latencies::new());
        let failures = Mutex::new(Vec::new());
        let fail = |failure: Failure| {
            let mut failures = failures.lock();
            if failures.len() < REPORTED {
                failures.push(failure.to_string());
            }
        };
        let posting = self.users.iter().enumerate().map(|(number, user)| {
            let (times, fail) = (&times, &fail);
            async move {
                if let Err(failure) = post_and_follow(user, &format!("user-{number}"), window, times).await {
                    fail(failure);
                }
                Ok::<_, Failure>(())
            }
        });
        let (_, revoked) = tokio::join!(try_join_all(posting), self.revoke(window));
        let revoked_ms = revoked.unwrap_or_else(|failure| {
            fail(failure);
            0.0
        });
        let posts = times.into_inner().percentiles();
        Ok(BaselineMeasurement {
            posts: posts.ok_or_else(|| Failure::new("nobody posted anything"))?,
            revoked_ms,
            failures: failures.into_inner(),
        })
    }

    /// The same, with the most memory that `process` used meanwhile, in KiB.
    pub(super) async fn measure_with_memory(
        &self,
        window: Duration,
        process: &ProcessHandle,
    ) -> Result<(BaselineMeasurement, u64)> {
        let mut most = 0;
        let sampling = async {
            loop {
                most = most.max(process.resident_kib().unwrap_or(0));
                sleep(SAMPLE_EVERY).await;
            }
        };
        let measured = tokio::select! {
            measured = self.measure(window) => measured?,
            () = sampling => return Err(Failure::new("sampling never ends")),
        };
        Ok((measured, most))
    }

    /// Logs in, and ends that session at the other gateway, until `window` is over; returns the longest time that a stream
    /// outlived its session, in milliseconds.
    async fn revoke(&self, window: Duration) -> Result<f64> {
        let began = Instant::now();
        let mut longest = 0.0_f64;
        while began.elapsed() < window {
            let here = self.users[0].login("user-0").await.explain(|| "logging in".to_owned())?;
            let elsewhere = self.users[0].moved_to(&self.other_gateway)?.with_token(here.token());
            let mut stream = timeout(WITHIN, here.stream("user-0").open()).await.explain(|| "opening".to_owned())??;
            elsewhere.logout().await?;
            let ended = Instant::now();
            let reason = stream.bye(WITHIN).await?;
            if reason != "revoked" {
                return Err(Failure::new(format!("a revoked session's stream ended with {reason}")));
            }
            longest = longest.max(ended.elapsed().as_secs_f64() * 1_000.0);
            sleep(REVOKE_EVERY.min(window.saturating_sub(began.elapsed()))).await;
        }
        Ok(longest)
    }
}

/// Posts at the pace for `window`, and then checks that every message has come over the user's stream.
async fn post_and_follow(user: &ApiClient, room: &str, window: Duration, times: &Mutex<Latencies>) -> Result<()> {
    let mut stream: EventStream = user.stream(room).open().await?;
    let began = Instant::now();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut count = 0;
    while began.elapsed() < window {
        pace.tick().await;
        let asked = Instant::now();
        user.post(room, "a message of the baseline load").await?;
        let micros = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        times.lock().record(micros);
        count += 1;
    }
    stream.messages(count, WITHIN).await.map(drop)
}
