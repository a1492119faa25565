//! The threads of a run, and the clients that they drive: reader threads hold streams, which check what they receive; a request
//! thread posts or asks for history over connections that are kept alive.

pub(crate) mod clock;
pub(crate) mod control;
pub(crate) mod keep_alive_connection;
pub(crate) mod reader_thread;
pub(crate) mod request_cycle;
pub(crate) mod request_thread;
pub(crate) mod schedule;
pub(crate) mod stream_client;
pub(crate) mod workers;
