//! Tests of the store on SQLite and Postgres. Each test checks one behaviour on a database of its own.
//!
//! `TEST_POSTGRES_URL` names the Postgres server, and `make tests` starts one. Without it the tests fail.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod accounts;
mod changes;
mod checkpoints;
mod claim;
mod commit;
mod completeness;
mod connect;
mod copy;
mod dead_letters;
mod direct_rooms;
mod epochs;
mod full_disk;
mod head_positions;
mod history;
mod limits;
mod lists;
mod outbox;
mod positions;
mod revocations;
mod rooms;
mod round_trips;
mod search;
mod sign_ins;
mod stuck_owners;
mod support;
mod user_keys;
mod user_rooms;
