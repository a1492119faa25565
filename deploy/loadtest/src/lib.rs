//! Puts load on a server, and measures what it carries, what that costs, and whether every client saw every message
//! once and in order.
//!
//! ```text
//! Preset ──► Plan ──► run ──► Figures ──► table, JSON
//!                      │
//!   target ────────────┤   the server: an installation of Roomcast, nchan to compare with, or a synthetic server
//!   threads ───────────┤   workers start reader threads and a request thread, whose clients follow the control of the run
//!   client ────────────┤   what clients parse and check: responses, events, and the order of messages
//!   results ───────────┘   figures, and what /proc and logs show of the servers
//!
//! bench                    all loads and all criterion benches, compared with their thresholds
//! ```
//!
//! The tool must cost little beside the servers it measures. Threads share nothing on the hot paths, a message costs
//! its reader the search for its id, and latency is measured on some of the streams only.

pub mod bench;
mod client;
mod file_limit;
mod plan;
mod progress;
mod results;
mod run;
mod target;
mod threads;

pub use file_limit::raise_file_limit;
pub use plan::{KeyKind, Pages, Plan, Preset, UserRooms, Work};
pub use progress::Progress;
pub use results::figures::Figures;
pub use results::history_reads::HistoryReads;
pub use results::process_cost::{ProcessCpu, ProcessMemory};
pub use results::send_queues::StalledStreams;
pub use results::sync_times::{CallTimes, SyncTimes};
pub use results::table::comparison;
pub use results::typing::{TypingCalls, TypingEffect};
pub use results::window::Window;
pub use run::{run, run_on_stack};
pub use target::Target;
pub use target::nchan::Nchan;
pub use target::roomcast::{PreparedTarget, prepare, prepare_population};
pub use target::synthetic_server::SyntheticServer;
