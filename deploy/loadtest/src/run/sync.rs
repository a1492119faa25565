//! Users who catch up with all their rooms: without a cursor, with a few rooms changed since, and by streams that have missed nothing.

use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rig::{ApiClient, Explain as _, Failure, Latencies, Result, eventually};
use serde_json::Value;

use super::Run;
use super::posting::STORE_WITHIN;
use crate::plan::CHANGED_ROOMS;
use crate::results::history_reads::StatementLogs;
use crate::results::sync_times::{CallTimes, SyncTimes};

/// Pages after which a user who catches up gives up: each brings rooms.
const MOST_PAGES: usize = 10_000;

/// Users who ask what they have before memory is measured, and how many at once: what they read fills the page caches of SQLite, a few
/// megabytes.
const WARMING_USERS: usize = 1_000;
const WARMING_CALLS: usize = 8;

/// A user, and the cursor of what they have.
struct SyncingUser {
    client: ApiClient,
    cursor: String,
}

impl Run<'_> {
    /// Lets users make `calls` calls of each kind, over so many connections.
    pub(super) async fn sync(&self, connections: usize, calls: usize) -> Result<SyncTimes> {
        let mut users = self.syncing_users()?;
        // Everybody has everything before anything is timed, and the gateways know how far history has come.
        self.progress.step("catching up", users.len() as u64);
        let catching_up = users.iter_mut().map(async |user| user.catch_up().await);
        stream::iter(catching_up).buffer_unordered(connections).try_collect::<()>().await?;
        let cold = self.calls("cold starts", connections, each_in_turn(&users, calls), SyncingUser::first_page).await?;
        let changed = self.changed_calls(connections, &mut users, calls).await?;
        let ready = self.calls("streams", connections, each_in_turn(&users, calls), SyncingUser::open).await?;
        Ok(SyncTimes { cold, changed, ready })
    }

    /// Lets users ask once what they have, so that the servers have cached of the database what they can: that is not the memory of streams.
    pub(super) async fn warm_up(&self) -> Result<()> {
        let users = self.syncing_users()?;
        let users = &users[..users.len().min(WARMING_USERS)];
        self.progress.step("warming up", users.len() as u64);
        let asking = users.iter().map(SyncingUser::first_page);
        stream::iter(asking).buffer_unordered(WARMING_CALLS).try_collect::<()>().await
    }

    fn syncing_users(&self) -> Result<Vec<SyncingUser>> {
        let target = &self.workers.target;
        let clients: Vec<ApiClient> = target
            .addresses
            .iter()
            .map(|address| ApiClient::at(&format!("http://{address}")))
            .collect::<Result<_>>()?;
        let tokens = target.tokens.iter().take(self.plan.streams).enumerate();
        let user = |(number, token): (usize, &String)| SyncingUser {
            client: clients[number % clients.len()].with_token(token),
            cursor: String::new(),
        };
        Ok(tokens.map(user).collect())
    }

    /// Makes a call for each of `users`, and measures them.
    async fn calls<'u>(
        &self,
        step: &'static str,
        connections: usize,
        users: impl Iterator<Item = &'u SyncingUser>,
        call: impl AsyncFn(&'u SyncingUser) -> Result<()>,
    ) -> Result<CallTimes> {
        let logs = StatementLogs::mark(&self.workers.target.logs)?;
        self.progress.step(step, 1);
        let made = users.map(async |user| {
            let began = Instant::now();
            call(user).await?;
            Result::Ok(began.elapsed())
        });
        let times: Vec<_> = stream::iter(made).buffer_unordered(connections).try_collect().await?;
        let mut latencies = Latencies::new();
        for time in &times {
            latencies.record(u64::try_from(time.as_micros())?);
        }
        CallTimes::new(&latencies, logs.statements_since_mark()?)
    }

    /// Again and again posts a message to the rooms that everybody is in, and lets everybody catch up.
    async fn changed_calls(&self, connections: usize, users: &mut [SyncingUser], calls: usize) -> Result<CallTimes> {
        let mut latencies = Latencies::new();
        let mut statements: Option<usize> = None;
        for _ in 0..calls.div_ceil(users.len().max(1)) {
            self.post_to_common_rooms().await?;
            let logs = StatementLogs::mark(&self.workers.target.logs)?;
            self.progress.step("changed rooms", 1);
            let made = users.iter_mut().map(async |user| {
                let began = Instant::now();
                let answer = user.page().await?;
                let time = began.elapsed();
                user.check_changes(&answer)?;
                Result::Ok(time)
            });
            let times: Vec<_> = stream::iter(made).buffer_unordered(connections).try_collect().await?;
            for time in &times {
                latencies.record(u64::try_from(time.as_micros())?);
            }
            statements = logs.statements_since_mark()?.map(|count| count + statements.unwrap_or(0));
        }
        CallTimes::new(&latencies, statements)
    }

    /// Posts a message to each of the rooms that everybody is in, and waits until it is stored.
    async fn post_to_common_rooms(&self) -> Result<()> {
        let target = &self.workers.target;
        let client = ApiClient::at(&format!("http://{}", target.address(0)))?;
        for (number, room) in target.rooms.iter().enumerate().take(CHANGED_ROOMS) {
            let token = target.tokens.get(target.users_of_room(number).start);
            let poster = client.with_token(token.map(String::as_str).unwrap_or_default());
            let id = poster.post(room, &"x".repeat(self.plan.text.max(1))).await?;
            eventually(STORE_WITHIN, "the message is stored", async || {
                let newest = poster.history(room, "?limit=1").await?;
                let is_stored = newest.first().is_some_and(|message| message["id"] == id.as_str());
                is_stored.then_some(()).ok_or_else(|| Failure::new(format!("the newest of {room} is another one")))
            })
            .await?;
        }
        Ok(())
    }
}

/// So many of `users`, each in turn.
fn each_in_turn(users: &[SyncingUser], calls: usize) -> impl Iterator<Item = &SyncingUser> {
    users.iter().cycle().take(calls)
}

impl SyncingUser {
    /// Gets everything there is.
    async fn catch_up(&mut self) -> Result<()> {
        for _ in 0..MOST_PAGES {
            let answer = self.page().await?;
            self.take_cursor(&answer)?;
            if answer["more"] == false {
                return Ok(());
            }
        }
        Err(Failure::new(format!("there is still more after {MOST_PAGES} pages")))
    }

    /// The first page, without a cursor.
    async fn first_page(&self) -> Result<()> {
        self.client.get("/user/sync").await?.expect(200).map(drop)
    }

    /// The next page.
    async fn page(&self) -> Result<Value> {
        let path = if self.cursor.is_empty() {
            "/user/sync".to_owned()
        } else {
            format!("/user/sync?since={}", self.cursor)
        };
        self.client.get(&path).await?.expect(200)?.json()
    }

    fn take_cursor(&mut self, answer: &Value) -> Result<()> {
        let cursor = answer["cursor"].as_str();
        cursor.ok_or_else(|| Failure::new(format!("no cursor in {answer}")))?.clone_into(&mut self.cursor);
        Ok(())
    }

    /// Checks that `answer` has one new message in each of the rooms that have changed, and nothing else.
    fn check_changes(&mut self, answer: &Value) -> Result<()> {
        let rooms = answer["rooms"].as_array().map_or(&[][..], Vec::as_slice);
        let are_whole = rooms.iter().all(|room| room["entries"].as_array().is_some_and(|entries| entries.len() == 1));
        if rooms.len() != CHANGED_ROOMS || !are_whole || answer["more"] != false {
            return Err(Failure::new(format!(
                "{CHANGED_ROOMS} rooms have one new message each, and the answer is {answer}"
            )));
        }
        self.take_cursor(answer)
    }

    /// Opens a stream, and closes it when it has begun.
    async fn open(&self) -> Result<()> {
        let stream = self.client.user_events().after(&self.cursor).open().await?;
        let ready = stream.ready().json()?;
        let is_empty = ready["rooms"].as_array().is_some_and(Vec::is_empty);
        if ready["recovered"] == true && is_empty {
            return Ok(());
        }
        Err(Failure::new(format!("nothing was missed, and `ready` is {ready}"))).explain(|| self.cursor.clone())
    }
}
