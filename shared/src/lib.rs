//! What the `gateway` and the `fanout-worker` must agree on, and nothing else.
//!
//! - [`domain`]: what is valid. Parsed types, no I/O, no framework.
//! - [`storage`]: how it is kept. SQL behind use-case sized methods.
//! - [`bus`]: how it travels. Redis keys, the accept log's entries, the room events.
//! - [`batcher`]: calls of many tasks that are made together.
//! - [`settings`], [`bootstrap`], [`telemetry`], [`lifecycle`]: how a process starts, talks to its operator and stops.
//!
//! What does not belong here: HTTP, tokens, anything only one of the two processes uses.

pub mod batcher;
pub mod bootstrap;
pub mod bus;
pub mod domain;
pub mod lifecycle;
pub mod settings;
pub mod storage;
pub mod telemetry;
