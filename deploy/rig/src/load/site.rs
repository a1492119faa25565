//! What is under load: where it is, who speaks to it, about what, and in which words.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use super::order::Order;
use super::scanner::Position;
use super::stamp::Stamp;
use super::wire::Origin;

/// Kinds of clients that come from addresses of their own: second numbers of loopback addresses.
pub(super) mod kinds {
    /// Who follow rooms.
    pub(in crate::load) const READERS: u8 = 101;
    /// Who follow rooms, and will stall.
    pub(in crate::load) const STALLERS: u8 = 103;
    /// Who post and read history.
    pub(in crate::load) const CALLERS: u8 = 102;
}

/// What the JSON of a message adds to its text. Nchan sends what it is given, and is given this much more, so that both
/// send events of the same length.
const ENVELOPE: usize = 200;

/// The server that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Ours.
    Roomcast,
    /// nginx with the module nchan.
    Nchan,
}

impl Dialect {
    /// What figures call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Roomcast => "roomcast",
            Self::Nchan => "nchan",
        }
    }
}

/// An installation and the clients it has.
#[derive(Debug, Clone)]
pub struct Site {
    pub(super) dialect: Dialect,
    /// Its addresses; clients take them in turn.
    pub(super) doors: Vec<SocketAddr>,
    /// Tokens of the users, who share the streams and posts evenly; at least one, and none for Nchan.
    pub(super) tokens: Vec<String>,
    /// Names of the rooms, all empty at first.
    pub(super) rooms: Vec<String>,
    /// Server processes whose time and memory is told.
    pub(super) processes: Vec<Process>,
    /// Logs of gateways that tell the statements they send.
    pub(super) logs: Vec<PathBuf>,
}

/// A process, with all that descend from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What the figures call it.
    pub name: String,
    /// Its id.
    pub pid: u32,
}

/// A request that is written once and sent often; of a post the stamp is written anew each time.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Number of the room.
    pub(super) room: usize,
    bytes: Vec<u8>,
    /// Where the text of a post begins.
    stamp_at: Option<usize>,
}

impl Request {
    /// Stamps it, if it is a post.
    pub(super) fn stamp(&mut self, stamp: Stamp) {
        if let Some(at) = self.stamp_at {
            stamp.write(&mut self.bytes[at..]);
        }
    }

    /// True for a post.
    pub(super) fn is_post(&self) -> bool {
        self.stamp_at.is_some()
    }

    /// All bytes to send.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Site {
    /// The door of client `number`.
    pub(super) fn door(&self, number: usize) -> SocketAddr {
        self.doors[number % self.doors.len()]
    }

    /// Where clients come from; `kind` tells kinds of clients apart.
    pub(super) fn origin(&self, number: usize, kind: u8) -> Origin {
        Origin::of(self.door(number), kind)
    }

    /// How streams are judged, with so many lanes in a room.
    pub(super) fn order(&self, lanes: usize) -> Order {
        match self.dialect {
            Dialect::Roomcast => Order::dense(),
            Dialect::Nchan => Order::lanes(lanes),
        }
    }

    /// The request for a stream of `room`, from `position` on if there is one.
    pub(super) fn subscribe(&self, door: SocketAddr, room: usize, user: usize, position: Option<Position>) -> Vec<u8> {
        let room = &self.rooms[room];
        let path = match self.dialect {
            Dialect::Roomcast => format!("/chat/{room}/message"),
            Dialect::Nchan => format!("/sub/{room}"),
        };
        let authorization = self.authorization(user);
        let resume = position.map(|at| format!("Last-Event-ID: {}-{}\r\n", at.epoch, at.seq)).unwrap_or_default();
        format!("GET {path} HTTP/1.1\r\nHost: {door}\r\nAccept: text/event-stream\r\n{authorization}{resume}\r\n")
            .into()
    }

    /// The request to post a text of `length` bytes to `room`.
    pub(super) fn publish(&self, door: SocketAddr, room: usize, user: usize, length: usize) -> Request {
        let name = &self.rooms[room];
        let text = |length: usize| "x".repeat(length.max(Stamp::LEN));
        let (path, before, text, after) = match self.dialect {
            Dialect::Roomcast => (format!("/chat/{name}/message"), r#"{"message":""#, text(length), r#""}"#),
            Dialect::Nchan => (format!("/pub/{name}"), "", text(length + ENVELOPE), ""),
        };
        let authorization = self.authorization(user);
        let body = before.len() + text.len() + after.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {door}\r\nContent-Type: application/json\r\nContent-Length: {body}\r\n{authorization}\r\n"
        );
        Request {
            room,
            stamp_at: Some(head.len() + before.len()),
            bytes: format!("{head}{before}{text}{after}").into(),
        }
    }

    /// The request for the newest page of the history of `room`, or for the one before the seq `before`.
    pub(super) fn history(&self, door: SocketAddr, room: usize, user: usize, before: Option<u64>) -> Request {
        let name = &self.rooms[room];
        let query = before.map(|seq| format!("?before={seq}")).unwrap_or_default();
        let authorization = self.authorization(user);
        let head = format!("GET /chat/{name}/messagehistory{query} HTTP/1.1\r\nHost: {door}\r\n{authorization}\r\n");
        Request {
            room,
            bytes: head.into(),
            stamp_at: None,
        }
    }

    /// True if `status` answers a request as it should be.
    pub(super) fn is_good(&self, status: u16) -> bool {
        match self.dialect {
            Dialect::Roomcast => matches!(status, 200 | 204),
            // 201 with subscribers, 202 without.
            Dialect::Nchan => matches!(status, 201 | 202),
        }
    }

    /// The user of stream `number` of `streams`, which take the rooms in turn: the streams of a user are in few rooms, and no
    /// user has more than others.
    pub(super) fn user_of_stream(&self, number: usize, streams: usize) -> usize {
        let rooms = self.rooms.len();
        let each_room = streams.div_ceil(rooms);
        let place = number % rooms * each_room + number / rooms;
        place * self.tokens.len() / (each_room * rooms)
    }

    /// The users who post to `room` in turn: those of its streams.
    pub(super) fn users_of_room(&self, room: usize) -> Range<usize> {
        let first = |room: usize| room * self.tokens.len() / self.rooms.len();
        first(room)..first(room + 1).max(first(room) + 1)
    }

    fn authorization(&self, user: usize) -> String {
        let token = self.tokens.get(user);
        token.map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(rooms: usize, tokens: usize) -> Site {
        Site {
            dialect: Dialect::Roomcast,
            doors: vec![([127, 0, 0, 1], 5000).into()],
            tokens: vec!["token".to_owned(); tokens],
            rooms: vec!["lobby".to_owned(); rooms],
            processes: Vec::new(),
            logs: Vec::new(),
        }
    }

    #[test]
    fn users_share_streams_and_rooms_evenly() {
        for (streams, rooms, users) in [(110, 5, 11), (1_000, 1, 100), (100, 10, 3), (7, 3, 8)] {
            let site = site(rooms, users);
            let mut held = vec![0; users];
            for number in 0..streams {
                held[site.user_of_stream(number, streams)] += 1;
            }
            let most = (rooms * streams.div_ceil(rooms)).div_ceil(users);
            assert!(held.iter().all(|held| *held <= most), "{held:?}");
            for room in 0..rooms {
                assert!(site.users_of_room(room).all(|user| user < users), "{room} of {rooms}, {users} users");
            }
        }
    }

    #[test]
    fn a_post_says_how_long_it_is_and_carries_its_stamp() {
        let site = site(1, 1);
        let mut request = site.publish(site.door(0), 0, 0, 100);
        let stamp = Stamp {
            lane: 1,
            count: 2,
            posted: 3,
        };
        request.stamp(stamp);
        let text = String::from_utf8(request.bytes().to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /chat/lobby/message HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        let message: serde_json::Value = serde_json::from_str(body).unwrap();
        let message = message["message"].as_str().unwrap();
        assert_eq!((message.len(), Stamp::read(message.as_bytes())), (100, Some(stamp)));
    }
}
