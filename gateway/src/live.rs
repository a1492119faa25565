//! Live streams: one feed per room and process, one cursor per connection.
//!
//! ```text
//! Redis channel ──► subscriber ──► feed (ring of finished frames) ──► stream ──► socket, by a thread of the fan-out
//!                                   ▲  gap: filled once per room        │        or chunks of an HTTP library
//!                                   │                                   │ fell off the ring: reads history in
//!                                   └────────────── SQL ◄──── pages ◄───┘ shared pages, joins again
//! ```
//!
//! A room event is only a hint. A feed takes the seq after its last one and nothing else: a smaller one is a repetition,
//! a larger one a gap that is filled from SQL. A comparison of heads every second finds what no event told. So what a
//! stream sends is the room's history, and a reconnecting client reads on from where it was.

mod block;
mod chunks;
mod connections;
mod doubts;
pub mod feed;
pub mod frame;
mod hub;
mod pages;
mod peers;
mod quota;
mod rings;
#[cfg(test)]
pub(crate) mod scene;
mod start;
mod stream;
mod subscriber;

pub use chunks::chunks;
pub use connections::{ByeReason, Connection, Connections};
pub use frame::Framing;
pub use hub::{Hub, OpenError, OpenFeed};
pub use peers::Ends;
pub use quota::{ClientName, Lease, LeaseRequest, QuotaError, StreamQuota};
pub use start::{Bounds, Start};
pub use stream::{LiveStream, Opened, StreamSettings};
pub use subscriber::{Commands, Listener, Subscriber, run as run_subscriber};
