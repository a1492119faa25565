//! Starts Roomcast as it runs in earnest (real processes, a real Redis, a real database file) and plays clients
//! against it.
//!
//! ```text
//! Stack ── RedisServer, Worker, Gateway…   each a Service: one program on one port, startable again
//!   ├───── Link ── Proxy                   what lies between them, and may be cut, dark or slow
//!   ├───── Disk                            what is below them, and may be slow, failing or full
//!   └───── App ── EventStream              what an app does: calls, and a live stream of events
//!
//! Field ── Stack + Traffic + auditor       a stack under seeded load, watched
//!   ├───── faults                          what strikes it
//!   └───── evidence ──► oracle ──► report  what everybody saw, which promises that breaks, and the row of the table
//!
//! floods                                   what one attacker can do, and what others notice of it
//! conformance ── Proxy, App                clients, generators and linters that are not ours
//! ```
//!
//! It knows the contract with apps, the command lines and the signals; it must not know how the services work inside,
//! and therefore depends on none of their crates. Nothing in it sleeps to get an order of events: whoever waits uses
//! [`eventually()`] and learns why it failed.

mod accept_log;
mod answer;
mod app;
mod auditor;
mod browser;
pub mod conformance;
mod database;
mod disk;
mod eventually;
pub mod evidence;
mod failure;
pub mod faults;
pub mod field;
pub mod floods;
mod gateway;
mod latencies;
mod ledger;
mod memory;
pub mod oracle;
mod ports;
mod postgres_server;
mod process;
pub mod programs;
mod proxy;
mod redis_cluster;
mod redis_node;
mod redis_sentinels;
mod redis_server;
mod redis_tls;
pub mod report;
mod service;
mod sockets;
mod sse;
mod stack;
pub mod statements;
mod stream_request;
mod traffic;
mod worker;

pub use answer::Answer;
pub use app::App;
pub use browser::Browser;
pub use database::Database;
pub use disk::{Disk, Health};
pub use eventually::eventually;
pub use failure::{Explain, Failure, Result};
pub use gateway::Gateway;
pub use latencies::{Latencies, Percentiles};
pub use ledger::{Ledger, check_dense};
pub use memory::resident_kib;
pub use ports::free_port;
pub use postgres_server::PostgresServer;
pub use process::Process;
pub use programs::service_binary;
pub use proxy::{Proxy, Weather};
pub use redis_cluster::RedisCluster;
pub use redis_node::RedisNode;
pub use redis_sentinels::RedisSentinels;
pub use redis_server::RedisServer;
pub use redis_tls::RedisTls;
pub use reqwest::Method;
pub use service::Service;
pub use sockets::sockets_on_port;
pub use sse::{Event, EventStream};
pub use stack::{Backend, Backup, Builder, Ends, Link, Spread, Stack, Topology};
pub use stream_request::StreamRequest;
pub use traffic::{Plan, Traffic};
pub use worker::Worker;
