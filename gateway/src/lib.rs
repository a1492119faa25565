//! The gateway: HTTP in, server-sent events out.
//!
//! ```text
//!                  ┌─► accounts ─► auth ──────────────────────────────► SQL
//!  server ─► api ──┼─► rooms ────► room_directory ────────────────────► SQL
//!  (HTTP)          ├─► messages ─► accept ─► accept log ─► worker ────► SQL
//!    │             │           └─► history ◄─────────────────────────── SQL
//!    │             ├─► user_rooms ────────────────────────────────────► SQL
//!    │ hijack      └─► streams ──► live: hub ─► feeds ◄──────────────── SQL
//!    ▼                                          │ frames
//!  fanout ─► sockets of streams ◄───────────────┘
//!
//!  Redis channels ─► subscriber ─► event_dispatch ─► hub (a room has news), caches and streams (something has ended)
//! ```
//!
//! A handler of [`api`] extracts, calls one service and converts. The services ([`accounts`], [`rooms`], [`messages`],
//! [`user_rooms`], [`streams`], [`health`]) know no HTTP; [`policy`] is the table of who may do what. `services` builds and connects
//! them, `serve` runs the whole. A gateway holds nothing that is not in SQL or Redis: add copies of it, and kill them, at will.
//!
//! # Words
//!
//! - **accept log**: the Redis streams into which messages are accepted, before a worker commits them to SQL.
//! - **backlog**: accepted messages of a partition that are not committed yet.
//! - **budget**: bytes and connections that one connection, client or the process may hold.
//! - **caller**: the user and session of a valid token.
//! - **change**: a write to SQL that ends something and is announced to all gateways.
//! - **control event**: what a gateway or a worker announces to all gateways.
//! - **cursor**: a position in a room's history; what `Last-Event-ID` holds.
//! - **direct room**: the one room of two users, which nobody else sees.
//! - **epoch**: version of the whole history; it changes when history is restored or cut.
//! - **fan-out**: writing one message to all streams of a room, by threads with sockets of their own.
//! - **feed**: the latest frames of one room in this process.
//! - **fresh**: cached sessions, rooms and members that are proven to be current.
//! - **frame**: the bytes of one event of a stream, encoded once.
//! - **head**: the last seq of a room.
//! - **hijack**: the socket of a request goes from hyper to the fan-out.
//! - **hub**: all feeds of this process.
//! - **incarnation**: which of the rooms that have had one name.
//! - **installation**: one database and one Redis, with their gateways and workers.
//! - **known client**: a device or network from which a user has logged in.
//! - **lease**: the right to one open stream, counted in Redis.
//! - **membership**: one stay of a user in a room; leaving and joining again is another one.
//! - **partition**: a share of all rooms, with an accept log of its own.
//! - **read mark**: the seq up to which a user has read a room.
//! - **receipt**: a worker's notice that a message is committed.
//! - **replay**: history that a stream sends before live messages.
//! - **revocation**: the end of a session, a membership or a room.
//! - **room**: where users post messages and follow them.
//! - **seq**: number of a message in its room, without gaps.
//! - **session**: what a login opens and a token carries.
//! - **state**: what a room is for one of its members: what is unread, the read mark, notifications.
//! - **stream**: the server-sent events of one room for one client.
//! - **topic**: what connections of the fan-out follow: a room, or all that concerns one user.
//! - **worker**: the process that commits accepted messages (`fanout-worker`).
//!
//! # Where to begin
//!
//! - A call over HTTP: its file in [`api`], then the service that it calls.
//! - Who may do what: [`policy`].
//! - How a message is posted: [`messages`], then [`accept`].
//! - How a stream opens: [`streams`]; how messages reach it: [`live`], then [`fanout`].
//! - How a logout, a removal or a deletion takes effect everywhere: [`event_dispatch`], [`revocation_watcher`] and `freshness`.
//! - Connections and what a client may hold: [`server`].

pub mod accept;
pub mod accounts;
pub mod api;
pub mod auth;
pub mod change_json;
mod client_network;
mod clock_check;
mod commands;
mod config;
pub mod control_channel;
mod digest;
mod encoding;
mod epoch_watch;
pub mod event_dispatch;
pub mod fanout;
mod freshness;
pub mod health;
pub mod history;
pub mod invalidating_cache;
mod json;
pub mod listen;
pub mod live;
pub mod message_json;
pub mod messages;
mod outbox_hints;
mod own_rooms_watch;
pub mod policy;
pub mod presence;
pub mod rate_limits;
pub mod revocation_watcher;
pub mod room_directory;
pub mod room_state_json;
pub mod rooms;
pub mod search;
mod serve;
pub mod server;
mod services;
mod start_error;
pub mod streams;
pub mod swagger_ui;
pub mod sync;
pub mod typing;
mod user_lookup;
pub mod user_rooms;
mod worker_watch;

pub use commands::{grant_admin, replace_keys};
pub use config::{Ack, BINARY, Command, Config};
pub use serve::run;
pub use services::Services;
pub use start_error::StartError;
