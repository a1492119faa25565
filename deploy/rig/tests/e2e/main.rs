//! Tests of the whole installation against real processes, from the point of view of users and operators.
//!
//! Each test starts a stack of its own and shares nothing with the others, so they run concurrently.

#![expect(
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails, and unwrap says where"
)]

mod ack_stored;
mod architecture;
mod back_pressure;
mod bounded_streams;
mod client_disconnect;
mod cors;
mod cross_gateway_consistency;
mod cursors;
mod damaged_history;
mod dead_letters;
mod direct_rooms;
mod documentation;
mod error_shape;
mod event_format;
mod fixture;
mod forged_notifications;
mod gateway_faults;
mod history_paging;
mod hostile_parameters;
mod hostile_tokens;
mod http_semantics;
mod http_versions;
mod idempotency_keys;
mod installations;
mod limits_across_gateways;
mod log_privacy;
mod logout;
mod lost_notifications;
mod malformed_http;
mod member_entries;
mod message_changes;
mod message_texts;
mod outage_logs;
mod path_and_token_forms;
mod presence;
mod private_rooms;
mod readiness;
mod redis_deployments;
mod redis_faults;
mod rejoining;
mod repeated_posts;
mod resume;
mod reused_room_names;
mod room_calls;
mod run_script;
mod search;
mod shared_partitions;
mod sign_in;
mod signals;
mod specification_scenario;
mod startup;
mod stream_ends;
mod stream_quota;
mod stream_start;
mod swagger_page;
mod typing;
mod upgrade;
mod user_calls;
mod user_day;
mod user_device;
mod user_rooms;
mod user_stream;
mod user_sync;
mod worker_faults;
mod worker_takeover;
