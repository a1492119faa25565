//! What every store must do. One behaviour a test, one database a test.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod accounts;
mod append;
mod connect;
mod history;
mod rooms;
mod support;
