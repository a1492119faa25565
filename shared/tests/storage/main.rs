//! What every store must do, on SQLite and on Postgres. One behaviour a test, one database a test.
//!
//! The Postgres server is named by `TEST_POSTGRES_URL`; `make tests` starts one. Without it the tests fail.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod accounts;
mod checkpoints;
mod claim;
mod commit;
mod completeness;
mod connect;
mod copy;
mod cut_off;
mod dead_letters;
mod epochs;
mod full_disk;
mod history;
mod limits;
mod lists;
mod revocations;
mod rooms;
mod round_trips;
mod sign_ins;
mod support;
mod user_keys;
