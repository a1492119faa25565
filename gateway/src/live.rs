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
pub mod feed;
pub mod frame;
mod hub;
mod open;
mod peer_liveness;
mod replay_pages;
mod resync_queue;
mod ring_budget;
mod stream;
mod stream_quota;
mod stream_registry;
mod stream_start;
mod subscriber;
#[cfg(test)]
pub(crate) mod test_fixture;

pub use chunks::chunks;
pub use frame::Framing;
pub use hub::{Hub, OpenError, OpenFeed};
pub use open::{NotOpened, StreamParts, StreamRequest, Streams};
pub use peer_liveness::TcpEndpoints;
pub use stream::{LiveStream, Opened, StreamSettings};
pub use stream_quota::{ClientName, LeaseRequest, QuotaError, StreamLease, StreamQuota};
pub use stream_registry::{ByeReason, RegisteredStream, StreamRegistry};
pub use stream_start::{StreamBounds, StreamStart};
pub use subscriber::{Commands, EventHandler, Subscriber, run as run_subscriber};
