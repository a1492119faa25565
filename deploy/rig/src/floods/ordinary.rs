//! A modest load of ordinary users, by which a flood is judged: posts at a steady pace, streams that must get them, and
//! sessions that are ended at another gateway.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::latencies::{Latencies, Percentiles};
use crate::service::ProcessCell;
use crate::{App, EventStream, Explain as _, Failure, Result, Stack};

/// Users, each with a room; every other one speaks HTTP/2.
const USERS: usize = 4;
/// Between two posts of one user; below what a user may post a second.
const PACE: Duration = Duration::from_millis(125);
/// Between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two sessions that are ended.
const REVOKE_EVERY: Duration = Duration::from_secs(2);
/// Longest time anything may take before it counts as failed.
const WITHIN: Duration = Duration::from_secs(10);
/// Failures that are told.
const TOLD: usize = 5;

/// The users.
pub(super) struct Ordinary {
    users: Vec<App>,
    /// The gateway at which sessions are ended.
    elsewhere: String,
}

/// What they saw in a window.
pub struct Seen {
    /// Times of posts.
    pub posts: Percentiles,
    /// The longest from the end of a session until its stream ended, in milliseconds.
    pub revoked_ms: f64,
    /// What went wrong for them.
    pub failures: Vec<String>,
}

impl Ordinary {
    pub(super) async fn new(stack: &Stack) -> Result<Self> {
        let url = stack.gateways[0].url();
        let mut users = Vec::new();
        for number in 0..USERS {
            let name = format!("user-{number}");
            let user = App::at(&url)?.register(&name).await?;
            user.create_room(&name).await?;
            users.push(if number % 2 == 0 {
                user
            } else {
                App::over_http2(&url)?.with_token(user.token())
            });
        }
        Ok(Self {
            users,
            elsewhere: stack.gateways[1].url(),
        })
    }

    /// Lets them work for `window`.
    pub(super) async fn weigh(&self, window: Duration) -> Result<Seen> {
        let times = Mutex::new(Latencies::new());
        let failures = Mutex::new(Vec::new());
        let fail = |failure: Failure| {
            let mut failures = failures.lock().expect("nobody panics with it");
            if failures.len() < TOLD {
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
        let posts = times.into_inner().expect("nobody panics with it").percentiles();
        Ok(Seen {
            posts: posts.ok_or_else(|| Failure::new("nobody posted anything"))?,
            revoked_ms,
            failures: failures.into_inner().expect("nobody panics with it"),
        })
    }

    /// The same, and the most memory that `process` held meanwhile, in KiB.
    pub(super) async fn weigh_watched(&self, window: Duration, process: &ProcessCell) -> Result<(Seen, u64)> {
        let mut most = 0;
        let looking = async {
            loop {
                most = most.max(process.resident_kib().unwrap_or(0));
                sleep(LOOK_EVERY).await;
            }
        };
        let seen = tokio::select! {
            seen = self.weigh(window) => seen?,
            () = looking => return Err(Failure::new("looking never ends")),
        };
        Ok((seen, most))
    }

    /// Logs in, and ends that session at another gateway, until `window` is over; returns the longest a stream of one lived on, in
    /// ms.
    async fn revoke(&self, window: Duration) -> Result<f64> {
        let began = Instant::now();
        let mut longest = 0.0_f64;
        while began.elapsed() < window {
            let here = self.users[0].login("user-0").await.explain(|| "logging in".to_owned())?;
            let elsewhere = self.users[0].moved_to(&self.elsewhere)?.with_token(here.token());
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

/// Posts at the pace for `window`, and then looks whether everything has come over the user's stream.
async fn post_and_follow(user: &App, room: &str, window: Duration, times: &Mutex<Latencies>) -> Result<()> {
    let mut stream: EventStream = user.stream(room).open().await?;
    let began = Instant::now();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut count = 0;
    while began.elapsed() < window {
        pace.tick().await;
        let asked = Instant::now();
        user.post(room, "an ordinary message").await?;
        let micros = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        times.lock().expect("nobody panics with it").record(micros);
        count += 1;
    }
    stream.messages(count, WITHIN).await.map(drop)
}
