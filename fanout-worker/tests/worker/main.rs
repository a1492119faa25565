//! The worker's loop against a real Redis and a real database, with several workers in one process.

#![expect(
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails, and unwrap says where"
)]

mod checkpoints;
mod failover;
mod fixture;
mod identity;
mod persist;
mod poison;
mod restore;
mod settings;
mod sharing;
mod upgrade;
