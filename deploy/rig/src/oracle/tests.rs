//! Each promise is broken once on paper: an oracle that cannot fail proves nothing.

mod fixture;
mod messages;
mod readers;
mod server;
