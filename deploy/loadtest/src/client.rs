//! The clients that threads drive: streams that check what they receive, and connections that send requests.
//!
//! ```text
//! StreamClient ──► ResponseParser ► Framing ──► SseParser ► PostTag ──► OrderCheck ► Sequence
//! KeepAliveConnection ──► ResponseParser ► Framing
//! ```
//!
//! All of it is written for this tool and parses no more than it needs, so that a message costs little.

pub(crate) mod client_socket;
pub(crate) mod framing;
pub(crate) mod keep_alive_connection;
pub(crate) mod order_check;
pub(crate) mod post_tag;
pub(crate) mod response_parser;
pub(crate) mod sequence;
pub(crate) mod sse_parser;
pub(crate) mod stream_client;
