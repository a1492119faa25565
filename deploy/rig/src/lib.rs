//! Starts Roomcast as it runs in production (real processes, a real Redis, a real database) and plays clients against it.
//!
//! ```text
//! Stack ── RedisServer, Worker, Gateway…        each a RestartableProcess: one program on one port
//!   ├───── Link ── Proxy                        the network between them, which can be cut, blocked or slow
//!   ├───── Disk                                 the disk below them, which can be slow, failing or full
//!   └───── ApiClient ── EventStream             what an app does: calls, and a live stream of events
//!
//! FaultRun ── Stack + Traffic + StateSampler    a stack under seeded load, sampled while it runs
//!   ├───── faults                               the faults that are injected
//!   └───── evidence ──► oracle ──► report       what clients saw, the promises that breaks, and the row of the table
//!
//! floods                                        what one attacker can do, and how it affects other users
//! conformance ── Proxy, ApiClient               third-party clients, generators and linters
//! ```
//!
//! The crate knows the contract with apps, the command lines and the signals. It must not know how the services work
//! inside, and therefore depends on none of their crates. Nothing in it sleeps to get an order of events: a test that
//! waits uses [`eventually()`] and fails with the reason. Modules depend on each other without cycles.

mod accept_log;
mod api_client;
mod browser;
pub mod conformance;
mod database;
mod disk;
mod eventually;
pub mod evidence;
mod failure;
pub mod fault_run;
pub mod faults;
pub mod floods;
mod gateway;
mod history_check;
mod http_response;
mod latencies;
pub mod measures;
mod memory;
pub mod oracle;
mod population;
mod ports;
mod postgres_server;
mod process;
pub mod programs;
mod proxy;
mod redis_cluster;
mod redis_connection;
mod redis_node;
mod redis_sentinels;
mod redis_server;
mod redis_tls;
pub mod report;
mod restartable_process;
mod sockets;
mod sse;
mod stack;
mod state_sampler;
pub mod statement_log;
mod stream_request;
mod traffic;
mod worker;

pub use api_client::ApiClient;
pub use browser::Browser;
pub use database::Database;
pub use disk::{Disk, DiskCondition};
pub use eventually::eventually;
pub use failure::{Explain, Failure, Result};
pub use gateway::Gateway;
pub use history_check::{AcknowledgedMessages, FIRST_SEQ, check_dense_seqs};
pub use http_response::HttpResponse;
pub use latencies::{Latencies, Percentiles};
pub use memory::resident_kib;
pub use population::Population;
pub use ports::free_port;
pub use postgres_server::PostgresServer;
pub use process::Process;
pub use programs::service_binary;
pub use proxy::{NetworkCondition, Proxy};
pub use redis_cluster::RedisCluster;
pub use redis_node::RedisNode;
pub use redis_sentinels::RedisSentinels;
pub use redis_server::RedisServer;
pub use redis_tls::RedisTls;
pub use reqwest::Method;
pub use restartable_process::RestartableProcess;
pub use sockets::sockets_on_port;
pub use sse::{EventStream, SseEvent};
pub use stack::{Backend, Backup, Link, LinkEnds, RedisGroup, RedisMode, Stack, StackBuilder};
pub use stream_request::StreamRequest;
pub use traffic::{Traffic, TrafficPlan};
pub use worker::Worker;
