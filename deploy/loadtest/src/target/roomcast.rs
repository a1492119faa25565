//! Prepares an installation of Roomcast for a run: registers users, creates rooms, and lets the users join them.
//!
//! The limits of the installation come from `/info`, and as many users are registered as these limits require, from
//! loopback addresses of their own where the gateway is on this machine. Rooms are created for each run, so that they
//! have no messages, and are deleted afterwards. Users stay, since no call deletes a user.
//!
//! Where streams follow all rooms of a user, an installation of the run gets its users and memberships by SQL.
//!
//! Each join is an entry of the room's log, which every stream of the room receives. All joins are in the logs before the first stream
//! is opened, so that only messages are counted and timed.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rig::{ApiClient, Explain as _, Failure, Method, Population, Process, Result, Stack, eventually};
use uuid::Uuid;

use crate::client::client_socket::SourceAddresses;
use crate::plan::{Plan, Work, ceil};
use crate::target::{POSTERS, ServerKind, Target, posters_of_room};

/// Users where no limit requires more.
const FEWEST_USERS: usize = 8;
/// Posts that the users' rate limits allow, for each post of the load: no post shall be refused because several came
/// close together.
const RATE_MARGIN: f64 = 1.25;
/// Most users that are registered for a run: each costs the gateway the hashing of a password.
const MOST_USERS: usize = 2_000;
/// Registrations an hour that a gateway allows from one address by default.
const REGISTRATIONS_PER_ADDRESS: usize = 60;
/// Registrations in flight: a gateway bounds the hashing of passwords, and refuses what would wait too long.
const REGISTRATIONS_IN_FLIGHT: usize = 2;
/// Calls in flight that create, join or delete rooms.
const CALLS_IN_FLIGHT: usize = 8;
/// How long a registration is repeated when the gateway refuses it because it is busy.
const REGISTER_WITHIN: Duration = Duration::from_secs(20);
/// Longest time until the log of a room has the joins of all its members. Workers look every second for those whose notification was lost.
const JOINED_WITHIN: Duration = Duration::from_secs(30);
/// Members of a page, the most that a gateway lists at once.
const MEMBERS_PER_PAGE: usize = 1_000;

/// An installation that runs, with the users and rooms of one run.
pub struct PreparedTarget {
    /// The server under load.
    pub target: Target,
    owner: ApiClient,
}

/// Registers users for `plan`, at least `users`, creates its rooms, and lets the users join those that they follow or post to. With
/// `tokens`, no user is registered, and the owners of the tokens share the streams and posts.
pub async fn prepare(plan: &Plan, urls: &[String], users: usize, tokens: &[String]) -> Result<PreparedTarget> {
    let addresses = urls.iter().map(|url| address(url)).collect::<Result<Vec<_>>>()?;
    let first = urls.first().ok_or_else(|| Failure::new("no address of a gateway"))?;
    let run = Uuid::new_v4().simple().to_string()[..8].to_owned();
    let tokens = if tokens.is_empty() {
        let users = users.max(users_needed(plan, &ApiClient::at(first)?).await?);
        register(&run, first, addresses[0], users).await?
    } else {
        tokens.to_vec()
    };
    // The creator of a room is a member of it: where streams follow all rooms of a user, a user without a stream creates them.
    let owner = if plan.user_rooms.is_some() {
        tokens.last()
    } else {
        tokens.first()
    };
    let owner = ApiClient::at(first)?.with_token(owner.map(String::as_str).unwrap_or_default());
    let rooms: Vec<String> = (0..plan.rooms).map(|room| format!("load-{run}-{room}")).collect();
    let creating = rooms.iter().map(|room| owner.create_room(room));
    stream::iter(creating).buffer_unordered(CALLS_IN_FLIGHT).try_collect::<()>().await?;
    let mut target = Target {
        kind: ServerKind::Roomcast,
        addresses,
        tokens,
        user_rooms: plan.user_rooms.map(|user_rooms| Arc::new(user_rooms.draw(plan.streams, plan.rooms))),
        rooms,
        other_entries: Vec::new(),
        processes: Vec::new(),
        logs: Vec::new(),
    };
    target.other_entries = join(&target, plan.streams, &owner).await?;
    Ok(PreparedTarget { target, owner })
}

/// Adds users, rooms and memberships for `plan`, whose streams follow all rooms of a user, to the database of `stack`. The gateways must
/// be started anew afterwards.
pub async fn prepare_population(plan: &Plan, stack: &Stack) -> Result<PreparedTarget> {
    let user_rooms = plan.user_rooms.ok_or_else(|| Failure::new("each stream follows one room"))?;
    let user_rooms = user_rooms.draw(plan.streams, plan.rooms);
    let user = |number: usize| format!("load-user-{number}");
    let users = user_rooms.iter().enumerate().map(|(number, rooms)| (user(number), rooms.clone()));
    let posters = (0..POSTERS).map(|poster| {
        let rooms = (0..plan.rooms).filter(|room| posters_of_room(*room, plan.rooms).contains(&poster));
        (user(plan.streams + poster), rooms.collect())
    });
    let population = Population {
        rooms: (0..plan.rooms).map(|room| format!("load-{room}")).collect(),
        users: users.chain(posters).collect(),
    };
    let tokens = stack.populate(&population).await?;
    let urls = stack.gateway_urls();
    Ok(PreparedTarget {
        owner: stack.client()?.with_token(tokens.first().map(String::as_str).unwrap_or_default()),
        target: Target {
            kind: ServerKind::Roomcast,
            addresses: urls.iter().map(|url| address(url)).collect::<Result<_>>()?,
            tokens,
            user_rooms: Some(Arc::new(user_rooms)),
            rooms: population.rooms,
            // What is written into the database makes no entries.
            other_entries: Vec::new(),
            processes: Vec::new(),
            logs: Vec::new(),
        },
    })
}

/// Lets the users of `streams` streams, and those who post, join their rooms. Returns how many entries the log of each room has
/// when that is in it.
async fn join(target: &Target, streams: usize, owner: &ApiClient) -> Result<Vec<u64>> {
    let of_streams = (0..streams).flat_map(|number| {
        let user = target.user_of_stream(number, streams);
        let one = [number % target.rooms.len()];
        let rooms = target.rooms_of_user(user).map_or_else(|| one.to_vec(), <[usize]>::to_vec);
        rooms.into_iter().map(move |room| (room, user))
    });
    let rooms = 0..target.rooms.len();
    let of_posts = rooms.flat_map(|room| target.users_of_room(room).map(move |user| (room, user)));
    let joins: BTreeSet<(usize, usize)> = of_streams.chain(of_posts).collect();
    let joining = joins.into_iter().map(|(room, user)| async move {
        let user = owner.with_token(target.tokens.get(user).map(String::as_str).unwrap_or_default());
        user.call(Method::POST, &format!("/chat/{}/join", target.rooms[room])).await?.expect(204).map(drop)
    });
    stream::iter(joining).buffer_unordered(CALLS_IN_FLIGHT).try_collect::<()>().await?;
    let counting = target.rooms.iter().map(|room| other_entries(owner, room));
    stream::iter(counting).buffered(CALLS_IN_FLIGHT).try_collect().await
}

/// Waits until the log of `room` has an entry for each member, and returns how many entries it has. The entry of the room's creation
/// is that of its owner.
async fn other_entries(owner: &ApiClient, room: &str) -> Result<u64> {
    let members = count_members(owner, room).await?;
    eventually(JOINED_WITHIN, "everybody has joined", async || {
        let page = owner.get(&format!("/chat/{room}/messagehistory?limit=1")).await?.expect(200)?;
        let position = page.header("last-event-id").and_then(|id| id.rsplit_once('-')?.1.parse::<u64>().ok());
        match position {
            Some(head) if head >= members => Ok(head),
            _ => Err(Failure::new(format!("the log of {room} has {position:?} entries for {members} members"))),
        }
    })
    .await
}

/// How many members `room` has.
async fn count_members(owner: &ApiClient, room: &str) -> Result<u64> {
    let mut last: Option<String> = None;
    let mut members = 0;
    loop {
        let after = last.as_deref().unwrap_or_default();
        let request = owner.request(Method::GET, &format!("/chat/{room}/users"));
        let request = request.query(&[("limit", &*MEMBERS_PER_PAGE.to_string()), ("after", after)]);
        let page: Vec<String> = serde_json::from_value(owner.send(request).await?.expect(200)?.json()?)?;
        members += page.len() as u64;
        if page.len() < MEMBERS_PER_PAGE {
            return Ok(members);
        }
        last = page.into_iter().next_back();
    }
}

impl PreparedTarget {
    /// Sets the server processes whose processor time and memory are measured.
    pub fn watch_processes(&mut self, processes: Vec<Process>) {
        self.target.processes = processes;
    }

    /// Sets the log files of gateways that log their SQL statements.
    pub fn watch_statement_logs(&mut self, logs: Vec<PathBuf>) {
        self.target.logs = logs;
    }

    /// Deletes the rooms.
    pub async fn delete_rooms(self) -> Result<()> {
        let owner = &self.owner;
        let deleting = self.target.rooms.iter().map(|room| async move {
            owner.call(Method::DELETE, &format!("/chat/{room}")).await?.expect(204).map(drop)
        });
        stream::iter(deleting).buffer_unordered(CALLS_IN_FLIGHT).try_collect().await
    }
}

/// The socket address of `url`.
fn address(url: &str) -> Result<SocketAddr> {
    let invalid =
        || Failure::new(format!("'{url}' is not of the form http://host:port (TLS ends before it gets here)"));
    let rest = url.trim_end_matches('/').strip_prefix("http://").ok_or_else(invalid)?;
    let mut addresses = rest.to_socket_addrs().explain(|| invalid().to_string())?;
    addresses.next().ok_or_else(invalid)
}

/// How many users the installation's limits require, so that no stream and no post is refused.
async fn users_needed(plan: &Plan, client: &ApiClient) -> Result<usize> {
    let info = client.get("/info").await?.expect(200)?.json()?;
    let limit = |name: &str| {
        let limit = info["limits"][name].as_u64().unwrap_or(0);
        usize::try_from(limit).ok().filter(|limit| *limit > 0)
    };
    if plan.user_rooms.is_some() {
        return at_most(plan.streams + POSTERS);
    }
    // Users share streams in blocks of whole rooms, see `Target::user_of_stream`.
    let slots = plan.rooms * plan.streams.div_ceil(plan.rooms);
    let for_streams = limit("streams_per_user").map_or(0, |each| slots.div_ceil(each));
    let for_posts = match (limit("post_per_s"), plan.work) {
        (Some(each), Work::Rate(per_s)) => ceil(per_s * RATE_MARGIN).div_ceil(each),
        _ => 0,
    };
    at_most(FEWEST_USERS.max(for_streams).max(for_posts))
}

/// So many users, unless they are too many.
fn at_most(users: usize) -> Result<usize> {
    if users > MOST_USERS {
        return Err(Failure::new(format!(
            "{users} users would be needed: raise the limits of a user (STREAMS_PER_USER, POST_PER_S; 0 for no limit); streams of \
             all rooms of a user need one each"
        )));
    }
    Ok(users)
}

async fn register(run: &str, url: &str, address: SocketAddr, users: usize) -> Result<Vec<String>> {
    // Each run uses a network of its own: the addresses of an earlier run have used up their registrations of the hour.
    let sources = SourceAddresses::toward(address, 1 + Uuid::new_v4().as_bytes()[0] % 100);
    let registering = (0..users).map(|number| async move {
        let address = sources.of_group(number / REGISTRATIONS_PER_ADDRESS);
        let client = ApiClient::at_from(url, address.map(Into::into))?;
        let name = format!("load-{run}-{number}");
        let user = eventually(REGISTER_WITHIN, "a user is registered", async || client.register(&name).await).await;
        Result::Ok(user.explain(|| "see REGISTER_PER_ADDRESS".to_owned())?.token().to_owned())
    });
    stream::iter(registering).buffered(REGISTRATIONS_IN_FLIGHT).try_collect().await
}
