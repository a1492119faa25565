//! The load tool against real processes: what it measures, and what its reports say.
//!
//! Each test starts an installation of its own and shares nothing with the others, so they run side by side.

#![expect(
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails, and unwrap says where"
)]

mod bench;
mod load;
mod users;
