//! The server under load: its addresses, the users and rooms of the run, and the requests that clients send.
//!
//! A target is an installation of Roomcast ([`roomcast`]), nginx with the module nchan to compare with ([`nchan`]), or
//! a server of this tool that measures the tool alone ([`synthetic_server`]).

pub(crate) mod nchan;
pub(crate) mod request;
pub(crate) mod roomcast;
pub(crate) mod synthetic_server;

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use rig::Process;

use crate::client::client_socket::SourceAddresses;
use crate::client::order_check::OrderCheck;

/// The second number of the loopback addresses that clients connect from: one network for each kind of client, so that
/// the kernel's tables tell them apart.
pub(crate) mod source_nets {
    /// Clients that read a stream.
    pub(crate) const STREAMS: u8 = 101;
    /// Clients that post and ask for history.
    pub(crate) const REQUESTS: u8 = 102;
    /// Clients that read a stream and stop reading later.
    pub(crate) const STALLED_STREAMS: u8 = 103;
}

/// Which server software is under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// Roomcast.
    Roomcast,
    /// nginx with the module nchan.
    Nchan,
}

impl ServerKind {
    /// The name of the server in the figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Roomcast => "roomcast",
            Self::Nchan => "nchan",
        }
    }
}

/// A server that runs, with the users and rooms of the run.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) kind: ServerKind,
    /// Addresses of the server; clients take them in turn.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Tokens of the users, who share the streams and posts evenly: at least one of Roomcast, none of nchan.
    pub(crate) tokens: Vec<String>,
    /// Names of the rooms, none of which has a message at first.
    pub(crate) rooms: Vec<String>,
    /// How many entries the log of each room begins with that are no messages: that it was created, and who has joined. None
    /// follow, since everybody has joined.
    pub(crate) other_entries: Vec<u64>,
    /// Server processes whose processor time and memory are measured.
    pub(crate) processes: Vec<Process>,
    /// Log files of gateways that log their SQL statements.
    pub(crate) logs: Vec<PathBuf>,
}

impl Target {
    /// The address that client `number` connects to.
    pub(crate) fn address(&self, number: usize) -> SocketAddr {
        self.addresses[number % self.addresses.len()]
    }

    /// The addresses that client `number` connects from; `net` is one of [`source_nets`].
    pub(crate) fn source_addresses(&self, number: usize, net: u8) -> SourceAddresses {
        SourceAddresses::toward(self.address(number), net)
    }

    /// How many entries the log of `room` begins with that are no messages.
    pub(crate) fn other_entries(&self, room: usize) -> u64 {
        self.other_entries.get(room).copied().unwrap_or(0)
    }

    /// The check of a stream of `room`, to which `connections` post. A message of either server costs its reader the same: tags
    /// are read on sampled streams alone.
    pub(crate) fn order_check(&self, room: usize, connections: usize, is_sampled: bool) -> OrderCheck {
        match self.kind {
            ServerKind::Roomcast => OrderCheck::dense(self.other_entries(room)),
            ServerKind::Nchan if is_sampled => OrderCheck::per_connection(connections),
            ServerKind::Nchan => OrderCheck::rising(),
        }
    }

    /// True if `status` is the one of a request that succeeded.
    pub(crate) fn is_success(&self, status: u16) -> bool {
        match self.kind {
            ServerKind::Roomcast => matches!(status, 200 | 204),
            // 201 with subscribers, 202 without.
            ServerKind::Nchan => matches!(status, 201 | 202),
        }
    }

    /// The user of stream `number` of `streams`, which take the rooms in turn. The streams of a user are in few rooms,
    /// and no user has more streams than others.
    pub(crate) fn user_of_stream(&self, number: usize, streams: usize) -> usize {
        let rooms = self.rooms.len();
        let each_room = streams.div_ceil(rooms);
        let index_by_room = number % rooms * each_room + number / rooms;
        index_by_room * self.tokens.len() / (each_room * rooms)
    }

    /// The users who post to `room` in turn: the users of its streams.
    pub(crate) fn users_of_room(&self, room: usize) -> Range<usize> {
        let first = |room: usize| room * self.tokens.len() / self.rooms.len();
        first(room)..first(room + 1).max(first(room) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Roomcast with so many rooms and users.
    pub(super) fn target(rooms: usize, tokens: usize) -> Target {
        Target {
            kind: ServerKind::Roomcast,
            addresses: vec![([127, 0, 0, 1], 5000).into()],
            tokens: vec!["token".to_owned(); tokens],
            rooms: vec!["lobby".to_owned(); rooms],
            other_entries: Vec::new(),
            processes: Vec::new(),
            logs: Vec::new(),
        }
    }

    #[test]
    fn users_share_streams_and_rooms_evenly() {
        for (streams, rooms, users) in [(110, 5, 11), (1_000, 1, 100), (100, 10, 3), (7, 3, 8)] {
            let target = target(rooms, users);
            let mut held = vec![0; users];
            for number in 0..streams {
                held[target.user_of_stream(number, streams)] += 1;
            }
            let most = (rooms * streams.div_ceil(rooms)).div_ceil(users);
            assert!(held.iter().all(|held| *held <= most), "{held:?}");
            for room in 0..rooms {
                assert!(target.users_of_room(room).all(|user| user < users), "{room} of {rooms}, {users} users");
            }
        }
    }
}
