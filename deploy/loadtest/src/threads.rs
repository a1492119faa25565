//! The threads of a run: reader threads hold the streams, a request thread posts or asks for history.

pub(crate) mod clock;
pub(crate) mod control;
pub(crate) mod reader_thread;
pub(crate) mod request_cycle;
pub(crate) mod request_thread;
pub(crate) mod schedule;
pub(crate) mod workers;
