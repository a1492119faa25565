//! Users and rooms of an installation for the time of a run.
//!
//! What an installation allows is asked at `/info`, and so many users are registered that it is enough; they come from
//! addresses of their own where the gateway is on this machine. Rooms are made anew for each run, so that they are empty,
//! and deleted afterwards. (Users stay: there is no call to delete one.)

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rig::{ApiClient, Explain as _, Failure, Method, Process, Result, eventually};
use uuid::Uuid;

use crate::plan::{Plan, Work, ceil};
use crate::site::{Dialect, Site};
use crate::wire::Origin;

/// Users where nothing demands more.
const USERS: usize = 8;
/// Posts that users could do, for one that they do: nobody shall be refused because some came closely together.
const MARGIN: f64 = 1.25;
/// Most users that are registered for a run: each costs the gateway the time of hashing a password.
const MOST_USERS: usize = 2_000;
/// Registrations that an address is allowed in an hour unless the operator says otherwise.
const REGISTRATIONS_PER_ADDRESS: usize = 60;
/// Registrations at the same time: hashing passwords is bounded, and refuses what would wait too long.
const REGISTERING: usize = 2;
/// Calls at the same time that make and delete rooms.
const CALLING: usize = 8;
/// How long a user may be refused, since the gateway has others to do for.
const REGISTER_WITHIN: Duration = Duration::from_secs(20);

/// An installation that runs, furnished for one run.
pub struct Furnished {
    /// What is put under load.
    pub site: Site,
    owner: ApiClient,
}

/// Registers users for `plan`, at least `users`, and makes its rooms. With `tokens` nobody is registered, and they share
/// everything.
pub async fn furnish(plan: &Plan, urls: &[String], users: usize, tokens: &[String]) -> Result<Furnished> {
    let doors = urls.iter().map(|url| door(url)).collect::<Result<Vec<_>>>()?;
    let first = urls.first().ok_or_else(|| Failure::new("no address to go to"))?;
    let run = Uuid::new_v4().simple().to_string()[..8].to_owned();
    let tokens = if tokens.is_empty() {
        let users = users.max(users_needed(plan, &ApiClient::at(first)?).await?);
        register(&run, first, doors[0], users).await?
    } else {
        tokens.to_vec()
    };
    let owner = ApiClient::at(first)?.with_token(tokens.first().map(String::as_str).unwrap_or_default());
    let rooms: Vec<String> = (0..plan.rooms).map(|room| format!("load-{run}-{room}")).collect();
    let creating = rooms.iter().map(|room| owner.create_room(room));
    stream::iter(creating).buffer_unordered(CALLING).try_collect::<()>().await?;
    Ok(Furnished {
        site: Site {
            dialect: Dialect::Roomcast,
            doors,
            tokens,
            rooms,
            processes: Vec::new(),
            logs: Vec::new(),
        },
        owner,
    })
}

impl Furnished {
    /// Names the server processes whose time and memory is told.
    pub fn watch(&mut self, processes: Vec<Process>) {
        self.site.processes = processes;
    }

    /// Names the logs of gateways that tell the statements they send.
    pub fn watch_reads(&mut self, logs: Vec<PathBuf>) {
        self.site.logs = logs;
    }

    /// Deletes the rooms.
    pub async fn clear(self) -> Result<()> {
        let owner = &self.owner;
        let deleting = self.site.rooms.iter().map(|room| async move {
            owner.call(Method::DELETE, &format!("/chat/{room}")).await?.expect(204).map(drop)
        });
        stream::iter(deleting).buffer_unordered(CALLING).try_collect().await
    }
}

/// The socket address of `url`.
fn door(url: &str) -> Result<SocketAddr> {
    let wrong = || Failure::new(format!("'{url}' is not of the form http://host:port (TLS ends before it gets here)"));
    let rest = url.trim_end_matches('/').strip_prefix("http://").ok_or_else(wrong)?;
    let mut addresses = rest.to_socket_addrs().explain(|| wrong().to_string())?;
    addresses.next().ok_or_else(wrong)
}

/// How many users it takes so that none is limited.
async fn users_needed(plan: &Plan, client: &ApiClient) -> Result<usize> {
    let info = client.get("/info").await?.expect(200)?.json()?;
    let limit = |name: &str| {
        let limit = info["limits"][name].as_u64().unwrap_or(0);
        usize::try_from(limit).ok().filter(|limit| *limit > 0)
    };
    // Users share streams in blocks of whole rooms, see `Site::user_of_stream`.
    let places = plan.rooms * plan.streams.div_ceil(plan.rooms);
    let for_streams = limit("streams_per_user").map_or(0, |each| places.div_ceil(each));
    let for_posts = match (limit("post_per_s"), plan.work) {
        (Some(each), Work::Rate(per_s)) => ceil(per_s * MARGIN).div_ceil(each),
        _ => 0,
    };
    let users = USERS.max(for_streams).max(for_posts);
    if users > MOST_USERS {
        return Err(Failure::new(format!(
            "{users} users would be needed: let each have more (STREAMS_PER_USER, POST_PER_S; 0 for no limit)"
        )));
    }
    Ok(users)
}

async fn register(run: &str, url: &str, door: SocketAddr, users: usize) -> Result<Vec<String>> {
    // Another network for each run: those of an earlier one have had their share of the hour.
    let origin = Origin::of(door, 1 + Uuid::new_v4().as_bytes()[0] % 100);
    let registering = (0..users).map(|number| async move {
        let address = origin.address(number / REGISTRATIONS_PER_ADDRESS);
        let client = ApiClient::at_from(url, address.map(Into::into))?;
        let name = format!("load-{run}-{number}");
        let user = eventually(REGISTER_WITHIN, "a user is registered", async || client.register(&name).await).await;
        Result::Ok(user.explain(|| "see REGISTER_PER_ADDRESS".to_owned())?.token().to_owned())
    });
    stream::iter(registering).buffered(REGISTERING).try_collect().await
}
