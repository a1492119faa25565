//! Stories of users and operators, played against real processes.
//!
//! Each test starts a stack of its own and shares nothing with the others, so they run side by side.

#![expect(
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails, and unwrap says where"
)]

mod accept;
mod ack_stored;
mod back_pressure;
mod bounds;
mod browsers;
mod bye;
mod calls_chat;
mod calls_users;
mod cursors;
mod damage;
mod dead_letters;
mod documentation;
mod errors;
mod event_lines;
mod floods;
mod forged;
mod forms;
mod gateway_faults;
mod hangup;
mod history;
mod hostile_parameters;
mod hostile_tokens;
mod installations;
mod keys;
mod limits;
mod logs;
mod membership;
mod messages;
mod names_again;
mod not_http;
mod outage_logs;
mod ownership;
mod pages;
mod private_rooms;
mod protocols;
mod readiness;
mod redis_faults;
mod redis_topologies;
mod repair;
mod resume;
mod run_script;
mod scene;
mod sessions;
mod shared_work;
mod sign_in;
mod signals;
mod small_print;
mod starting;
mod stream;
mod stream_quota;
mod two_gateways;
mod usage;
mod worker_faults;
