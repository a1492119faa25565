//! Each promise is broken once on paper: an oracle that cannot fail proves nothing.

mod changes;
mod edited_room;
mod fixture;
mod members;
mod messages;
mod readers;
mod server;
mod user_streams;
