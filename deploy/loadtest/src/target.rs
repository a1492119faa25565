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
use std::sync::Arc;

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

/// Users without a stream who post in turn, where streams follow all rooms of a user.
pub(crate) const POSTERS: usize = 8;

/// Which of the [`POSTERS`] post to `room`, of so many rooms: one of them, or in fewer rooms several, so that none posts more often than
/// the others.
pub(crate) fn posters_of_room(room: usize, rooms: usize) -> Range<usize> {
    let each = (POSTERS / rooms).max(1);
    let first = room * each % POSTERS;
    first..first + each
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
    /// Where streams follow all rooms of a user each: the rooms of each user who has a stream, by number, ascending. The users behind
    /// them post.
    pub(crate) user_rooms: Option<Arc<Vec<Vec<usize>>>>,
    /// Names of the rooms, none of which has a message at first.
    pub(crate) rooms: Vec<String>,
    /// How many entries that are no messages the log of each room begins with: its creation, and the joins of all members. No other
    /// such entry follows.
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
        if self.user_rooms.is_some() {
            return number;
        }
        let rooms = self.rooms.len();
        let each_room = streams.div_ceil(rooms);
        let index_by_room = number % rooms * each_room + number / rooms;
        index_by_room * self.tokens.len() / (each_room * rooms)
    }

    /// The rooms of `user`, where streams follow all rooms of a user.
    pub(crate) fn rooms_of_user(&self, user: usize) -> Option<&[usize]> {
        self.user_rooms.as_ref()?.get(user).map(Vec::as_slice)
    }

    /// The users who post to `room` in turn: the users of its streams, or members without a stream where streams follow all rooms of a
    /// user.
    pub(crate) fn users_of_room(&self, room: usize) -> Range<usize> {
        if let Some(rooms) = &self.user_rooms {
            let posters = posters_of_room(room, self.rooms.len());
            return rooms.len() + posters.start..rooms.len() + posters.end;
        }
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
            user_rooms: None,
            rooms: vec!["lobby".to_owned(); rooms],
            other_entries: Vec::new(),
            processes: Vec::new(),
            logs: Vec::new(),
        }
    }

    #[test]
    fn users_with_streams_of_all_rooms_do_not_post() {
        let mut target = target(20, 3 + POSTERS);
        target.user_rooms = Some(Arc::new(vec![vec![0, 5], vec![1], vec![2, 19]]));
        assert_eq!((target.user_of_stream(2, 3), target.rooms_of_user(2)), (2, Some(&[2, 19][..])));
        assert_eq!(target.rooms_of_user(3), None);
        for room in 0..20 {
            let users = target.users_of_room(room);
            assert!(users.len() == 1 && users.start >= 3 && users.end <= target.tokens.len(), "{users:?}");
        }
    }

    #[test]
    fn posters_share_few_rooms() {
        assert_eq!(posters_of_room(0, 1), 0..8);
        let posters = |rooms| (0..rooms).map(|room| posters_of_room(room, rooms)).collect::<Vec<_>>();
        assert_eq!(posters(3), [0..2, 2..4, 4..6]);
        assert_eq!(posters(10)[7..], [7..8, 0..1, 1..2]);
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
