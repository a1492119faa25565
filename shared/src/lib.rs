//! What the gateway and the fanout-worker must agree on, and nothing else.
//!
//! ```text
//!   gateway ──append──►  accept log (Redis)  ──read──► fanout-worker
//!      ▲                                                │       │
//!      └──── room events, receipts (Redis pub/sub) ◄────┘     commit
//!      │                                                        ▼
//!      └──────────────── history, accounts, rooms ◄──────── SQL store
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`domain`] | what is valid: parsed types, no I/O, no framework |
//! | [`storage`] | how it is kept: SQL behind one method per use case |
//! | [`bus`] | how it travels: names in Redis, entries of the accept log, events, connections |
//! | [`batcher`] | batches the calls of many tasks |
//! | [`blocking`] | work on many bytes, beside the other tasks of a thread |
//! | [`bootstrap`], [`settings`], [`telemetry`], [`lifecycle`] | how a binary starts, logs and stops |
//!
//! HTTP, tokens and anything that only one of the two binaries uses do not belong here.
//!
//! # Words
//!
//! - **Accept log**: one Redis stream per partition. A message in it is accepted, and never lost.
//! - **Partition**: a share of the rooms. All messages of a room go through one partition, which keeps their order.
//! - **Claim, fence, cursor**: a worker claims a partition in SQL; the claim raises the partition's fence, which excludes the
//!   former owner, and returns the cursor, the last entry that is stored.
//! - **Seq**: the number of a message in its room, dense and in the order of the commits.
//! - **Room event, receipt, control event**: publications. They are hints: a process that misses one asks SQL.
//! - **Epoch**: a history without gaps. A restore from a backup begins a new one.
//! - **Stored watermark**: how far SQL had stored a partition, as Redis remembers it; it reveals a restore.
//!
//! Begin with [`domain`], then [`bus::KeySpace`] and the methods of [`storage::Store`].

pub mod batcher;
pub mod blocking;
pub mod bootstrap;
pub mod bus;
pub mod domain;
pub mod lifecycle;
pub mod settings;
pub mod storage;
pub mod telemetry;
