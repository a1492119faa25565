//! Puts load on an installation and says what it costs and whether every client saw what it must see.
//!
//! ```text
//! Preset ──► Plan ──► run ──► Figures ──► table, JSON
//!                      │
//!   Site ──────────────┤   an installation (roomcast) or a peer (nchan), furnished with users and rooms
//!                      ├── crew     the threads, what they are told (orders) and what they tell (boards):
//!                      ├── reader   threads that hold the streams: reply ► framing ► scanner ► order
//!                      ├── caller   a thread whose connections post, or ask for history
//!                      ├── queues   what servers have written to clients that do not read
//!                      └── watch    processor time and memory of the servers
//! ```
//!
//! It must cost little beside the servers it measures: nothing is shared on the hot paths, a message costs a reader the
//! search for its id, and only some streams take the times of their messages.

mod agenda;
pub mod bench;
mod caller;
mod clock;
mod crew;
mod descriptors;
mod figures;
mod fountain;
mod framing;
mod line;
mod nchan;
mod order;
mod orders;
mod plan;
mod progress;
mod queues;
mod reader;
mod reads;
mod reply;
mod roomcast;
mod run;
mod scanner;
mod script;
mod sequence;
mod site;
mod stamp;
mod stream;
mod table;
mod watch;
mod wire;

pub use descriptors::raise_descriptors;
pub use figures::{Cpu, Figures, Memory, Window};
pub use fountain::Fountain;
pub use nchan::Nchan;
pub use plan::{KeyKind, Pages, Plan, Preset, Work};
pub use progress::Progress;
pub use queues::Stalled;
pub use reads::Reads;
pub use roomcast::{Furnished, furnish};
pub use run::run;
pub use site::Site;
pub use table::comparison;
pub(crate) use table::grouped;
