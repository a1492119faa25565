//! What clients parse and check: responses, frames and events, and the order of the messages of a stream.
//!
//! ```text
//! ResponseParser ► Framing ─┬► SseParser ─────► PostTag ──► OrderCheck ► Sequence     the stream of a room
//!                           └► UserSseParser ─► PostTag ──► UserCheck ─► Sequence     the stream of all rooms of a user
//! ```
//!
//! All of it is written for this tool and parses no more than it needs, so that a message costs little.

pub(crate) mod client_socket;
pub(crate) mod framing;
pub(crate) mod lines;
pub(crate) mod order_check;
pub(crate) mod post_tag;
pub(crate) mod response_parser;
pub(crate) mod sequence;
pub(crate) mod sse_parser;
pub(crate) mod user_check;
pub(crate) mod user_sse_parser;
