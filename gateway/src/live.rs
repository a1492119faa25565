//! Live streams: one feed per room and process, one cursor per stream.
//!
//! ```text
//! Redis channel ──► subscriber ──► feed (ring of finished frames) ──► stream ──► socket, by a thread of the fan-out
//!                                   ▲  gap: filled once per room        │        or the body of an HTTP library
//!                                   │                                   │ behind the ring: reads history in
//!                                   └────────────── SQL ◄──── pages ◄───┘ shared pages, then the ring again
//! ```
//!
//! A room event is only a hint. A feed appends the message after its head and nothing else: a smaller seq is a repetition, a
//! larger one a gap that is filled from SQL. A comparison of heads every second finds what no event brought. So what a stream
//! sends is the history of the room, and a client that reconnects reads on from its position.
//!
//! A stream opens in the steps of [`crate::streams`], and ends by itself or by its entry in the registry: when its session, its membership
//! or its room ends, when a newer stream of its client takes its lease, or when the process stops.

mod block;
mod bye_reason;
mod client_name;
mod damage;
mod event_kind;
pub mod feed;
pub mod frame;
mod hub;
mod open_stream;
mod past_seqs;
mod peer_liveness;
mod replay_pages;
mod resync_queue;
mod ring_budget;
pub mod room_events;
mod room_positions;
mod stream;
mod stream_events;
mod stream_filter;
mod stream_quota;
mod stream_registry;
mod stream_start;
mod subscriber;
#[cfg(test)]
pub(crate) mod test_fixture;
mod topics;
mod typing;
mod user_cursor;
mod user_events;
mod user_inbox;
mod user_plan;
mod user_progress;
mod user_rooms;
mod user_stream;

pub use bye_reason::ByeReason;
pub use client_name::ClientName;
pub use frame::Framing;
pub use hub::{HorizonUse, Hub, OpenError, OpenFeed};
pub use open_stream::OpenStream;
pub use peer_liveness::TcpEndpoints;
pub use room_events::entry_name;
pub use stream::{LiveStream, Opened, StreamSettings};
pub use stream_events::ResetReason;
pub use stream_filter::StreamFilter;
pub use stream_quota::{LeaseRequest, QuotaError, StreamLease, StreamQuota};
pub use stream_registry::{Followed, RegisteredStream, StreamRegistry};
pub use stream_start::{StreamBounds, StreamStart};
pub use subscriber::{EventHandler, Subscriber, SubscriberTask};
pub use topics::{UserTopic, UserTopics, room_topic};
pub use user_cursor::{Base, ClientCursor, PagingCursor, UserCursor};
pub use user_events::PresentUser;
pub use user_inbox::UserInbox;
#[cfg(test)]
pub(crate) use user_plan::tests::plan_for_tests;
pub use user_plan::{PlannedRoom, UserPlan};
pub use user_stream::{UserOpened, UserStream, room_states};
