//! Starts Roomcast as it runs in earnest (real processes, a real Redis, a real database file) and plays clients
//! against it.
//!
//! ```text
//! Stack ── RedisServer, Worker, Gateway…   each a Service: one program on one port, startable again
//!   └───── App ── EventStream              what an app does: calls, and a live stream of events
//! ```
//!
//! It knows the contract with apps, the command lines and the signals; it must not know how the services work inside,
//! and therefore depends on none of their crates. Nothing in it sleeps to get an order of events: whoever waits uses
//! [`eventually()`] and learns why it failed.

mod answer;
mod app;
mod browser;
mod database;
mod eventually;
mod failure;
mod gateway;
mod ledger;
mod ports;
mod postgres_server;
mod programs;
mod redis_cluster;
mod redis_node;
mod redis_sentinels;
mod redis_server;
mod redis_tls;
mod service;
mod sockets;
mod sse;
mod stack;
mod stream_request;
mod worker;

pub use answer::Answer;
pub use app::App;
pub use browser::Browser;
pub use database::Database;
pub use eventually::eventually;
pub use failure::{Explain, Failure, Result};
pub use gateway::Gateway;
pub use ledger::{Ledger, check_dense};
pub use postgres_server::PostgresServer;
pub use redis_cluster::RedisCluster;
pub use redis_node::RedisNode;
pub use redis_sentinels::RedisSentinels;
pub use redis_server::RedisServer;
pub use redis_tls::RedisTls;
pub use reqwest::Method;
pub use service::Service;
pub use sockets::sockets_on_port;
pub use sse::{Event, EventStream};
pub use stack::{Builder, Stack};
pub use stream_request::StreamRequest;
pub use worker::Worker;
