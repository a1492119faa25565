//! What is under load: where it is, who speaks to it, about what, and in which words.

use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use memchr::memmem;
use rig::Process;
use uuid::Uuid;

use crate::order::Order;
use crate::plan::KeyKind;
use crate::scanner::Position;
use crate::stamp::{Stamp, write_decimal};
use crate::wire::Origin;

/// Kinds of clients that come from addresses of their own: second numbers of loopback addresses.
pub(crate) mod kinds {
    /// Who follow rooms.
    pub(crate) const READERS: u8 = 101;
    /// Who follow rooms, and will stall.
    pub(crate) const STALLERS: u8 = 103;
    /// Who post and read history.
    pub(crate) const CALLERS: u8 = 102;
}

/// What the JSON of a message adds to its text. Nchan sends what it is given, and is given this much more, so that both
/// send events of the same length.
const ENVELOPE: usize = 200;

/// The server that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Ours.
    Roomcast,
    /// nginx with the module nchan.
    Nchan,
}

impl Dialect {
    /// What figures call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Roomcast => "roomcast",
            Self::Nchan => "nchan",
        }
    }
}

/// An installation and the clients it has.
#[derive(Debug, Clone)]
pub struct Site {
    pub(crate) dialect: Dialect,
    /// Its addresses; clients take them in turn.
    pub(crate) doors: Vec<SocketAddr>,
    /// Tokens of the users, who share the streams and posts evenly; at least one, and none for Nchan.
    pub(crate) tokens: Vec<String>,
    /// Names of the rooms, all empty at first.
    pub(crate) rooms: Vec<String>,
    /// Server processes whose time and memory is told.
    pub(crate) processes: Vec<Process>,
    /// Logs of gateways that tell the statements they send.
    pub(crate) logs: Vec<PathBuf>,
}

/// A request that is written once and sent often.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Number of the room.
    pub(crate) room: usize,
    /// Bytes that the content of its answer has at least.
    pub(crate) least: usize,
    bytes: Vec<u8>,
    part: Part,
}

/// What is written anew each time.
#[derive(Debug, Clone)]
enum Part {
    /// Nothing.
    None,
    /// The stamp of a post, here, and its idempotency key, there.
    Post { stamp: usize, key: Option<KeySlot> },
    /// The seq of a page, here: one of `seqs`, which so many callers share.
    Before {
        at: usize,
        seqs: RangeInclusive<u64>,
        callers: u64,
    },
}

/// Where in a request its idempotency key is, of which each post has another one.
#[derive(Debug, Clone, Copy)]
struct KeySlot {
    at: usize,
    kind: KeyKind,
}

impl KeySlot {
    /// Writes the next key.
    fn write(self, bytes: &mut [u8]) {
        if let Some(key) = self.kind.fresh() {
            key.hyphenated().encode_lower(&mut bytes[self.at..]);
        }
    }
}

/// Digits of a seq that is written anew.
const SEQ_DIGITS: usize = 12;

impl Request {
    /// Makes it the request that `stamp` counts.
    pub(crate) fn renew(&mut self, stamp: Stamp) {
        match &mut self.part {
            Part::None => {}
            Part::Post { stamp: at, key } => {
                stamp.write(&mut self.bytes[*at..]);
                if let Some(key) = key {
                    key.write(&mut self.bytes);
                }
            }
            Part::Before { at, seqs, callers } => {
                // Multiplicative hashing (Knuth) by a prime: each seq comes once before any comes again.
                let number = (stamp.count * *callers + stamp.lane).wrapping_mul(2_654_435_761);
                let seq = seqs.start() + number % (seqs.end() - seqs.start() + 1);
                let field = &mut self.bytes[*at..*at + SEQ_DIGITS];
                write_decimal(seq, field);
                // Numbers have no leading zeros: the rest of the field is parameters without a name.
                let zeros = field.iter().take_while(|digit| **digit == b'0').count().min(SEQ_DIGITS - 1);
                field.rotate_left(zeros);
                field[SEQ_DIGITS - zeros..].fill(b'&');
            }
        }
    }

    /// True for a post.
    pub(crate) fn is_post(&self) -> bool {
        matches!(self.part, Part::Post { .. })
    }

    /// All bytes to send.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Site {
    /// The door of client `number`.
    pub(crate) fn door(&self, number: usize) -> SocketAddr {
        self.doors[number % self.doors.len()]
    }

    /// Where clients come from; `kind` tells kinds of clients apart.
    pub(crate) fn origin(&self, number: usize, kind: u8) -> Origin {
        Origin::of(self.door(number), kind)
    }

    /// How a stream is judged, with so many lanes in its room. Both servers' messages cost their readers the same: stamps
    /// are read on sampled streams alone.
    pub(crate) fn order(&self, lanes: usize, is_sampled: bool) -> Order {
        match self.dialect {
            Dialect::Roomcast => Order::dense(),
            Dialect::Nchan if is_sampled => Order::lanes(lanes),
            Dialect::Nchan => Order::rising(),
        }
    }

    /// The request for a stream of `room`, from `position` on if there is one.
    pub(crate) fn subscribe(&self, door: SocketAddr, room: usize, user: usize, position: Option<Position>) -> Vec<u8> {
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

    /// The request to post a text of `length` bytes to `room`, to Roomcast with such an idempotency key.
    pub(crate) fn publish(
        &self,
        door: SocketAddr,
        (room, user): (usize, usize),
        length: usize,
        keys: KeyKind,
    ) -> Request {
        const KEY: &str = "Idempotency-Key: ";
        let name = &self.rooms[room];
        let text = |length: usize| "x".repeat(length.max(Stamp::LEN));
        let (path, before, text, after) = match self.dialect {
            Dialect::Roomcast => (format!("/chat/{name}/message"), r#"{"message":""#, text(length), r#""}"#),
            Dialect::Nchan => (format!("/pub/{name}"), "", text(length + ENVELOPE), ""),
        };
        let authorization = self.authorization(user);
        let body = before.len() + text.len() + after.len();
        let key = match self.dialect {
            Dialect::Roomcast if keys != KeyKind::None => format!("{KEY}{}\r\n", Uuid::nil()),
            Dialect::Roomcast | Dialect::Nchan => String::new(),
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {door}\r\nContent-Type: application/json\r\nContent-Length: {body}\r\n{key}{authorization}\r\n"
        );
        let key = memmem::find(head.as_bytes(), KEY.as_bytes()).map(|found| KeySlot {
            at: found + KEY.len(),
            kind: keys,
        });
        Request {
            room,
            least: 0,
            part: Part::Post {
                stamp: head.len() + before.len(),
                key,
            },
            bytes: format!("{head}{before}{text}{after}").into(),
        }
    }

    /// The request for the newest page of the history of `room`, which has `least` bytes at least.
    pub(crate) fn newest_page(&self, door: SocketAddr, room: usize, user: usize, least: usize) -> Request {
        self.history(door, room, user, least, "")
    }

    /// The request for the page of the history of `room` before any of `seqs`, another one each time.
    pub(crate) fn any_page(
        &self,
        door: SocketAddr,
        (room, user): (usize, usize),
        least: usize,
        seqs: RangeInclusive<u64>,
        callers: usize,
    ) -> Request {
        const QUERY: &str = "?before=";
        let request = self.history(door, room, user, least, &format!("{QUERY}{:&<SEQ_DIGITS$}", seqs.start()));
        let at = memmem::find(&request.bytes, QUERY.as_bytes()).map_or(0, |found| found + QUERY.len());
        let callers = callers as u64;
        Request {
            part: Part::Before { at, seqs, callers },
            ..request
        }
    }

    fn history(&self, door: SocketAddr, room: usize, user: usize, least: usize, query: &str) -> Request {
        let name = &self.rooms[room];
        let authorization = self.authorization(user);
        let head = format!("GET /chat/{name}/messagehistory{query} HTTP/1.1\r\nHost: {door}\r\n{authorization}\r\n");
        Request {
            room,
            least,
            bytes: head.into(),
            part: Part::None,
        }
    }

    /// True if `status` answers a request as it should be.
    pub(crate) fn is_good(&self, status: u16) -> bool {
        match self.dialect {
            Dialect::Roomcast => matches!(status, 200 | 204),
            // 201 with subscribers, 202 without.
            Dialect::Nchan => matches!(status, 201 | 202),
        }
    }

    /// The user of stream `number` of `streams`, which take the rooms in turn: the streams of a user are in few rooms, and no
    /// user has more than others.
    pub(crate) fn user_of_stream(&self, number: usize, streams: usize) -> usize {
        let rooms = self.rooms.len();
        let each_room = streams.div_ceil(rooms);
        let place = number % rooms * each_room + number / rooms;
        place * self.tokens.len() / (each_room * rooms)
    }

    /// The users who post to `room` in turn: those of its streams.
    pub(crate) fn users_of_room(&self, room: usize) -> Range<usize> {
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
    fn no_page_is_asked_for_twice() {
        let site = site(1, 1);
        let mut pages = std::collections::BTreeSet::new();
        for lane in 0..2 {
            let mut request = site.any_page(site.door(0), (0, 0), 0, 101..=150, 2);
            for count in 1..=25 {
                request.renew(Stamp { lane, count, posted: 0 });
                let text = String::from_utf8(request.bytes().to_vec()).unwrap();
                let (_, rest) = text.split_once("/chat/lobby/messagehistory?before=").unwrap();
                let seq = rest.split_once(' ').unwrap().0.trim_end_matches('&');
                assert!(!seq.starts_with('0'), "{seq}");
                pages.insert(seq.parse::<u64>().unwrap());
            }
        }
        assert!(pages.into_iter().eq(101..=150));
    }

    #[test]
    fn a_post_says_how_long_it_is_and_carries_its_stamp() {
        let site = site(1, 1);
        let mut request = site.publish(site.door(0), (0, 0), 100, KeyKind::Ordered);
        let stamp = Stamp {
            lane: 1,
            count: 2,
            posted: 3,
        };
        request.renew(stamp);
        let text = String::from_utf8(request.bytes().to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /chat/lobby/message HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        let message: serde_json::Value = serde_json::from_str(body).unwrap();
        let message = message["message"].as_str().unwrap();
        assert_eq!((message.len(), Stamp::read(message.as_bytes())), (100, Some(stamp)));
        let key = |request: &Request| {
            let text = String::from_utf8(request.bytes().to_vec()).unwrap();
            let (_, rest) = text.split_once("\r\nIdempotency-Key: ").unwrap();
            rest.split_once("\r\n").unwrap().0.to_owned()
        };
        let first = key(&request);
        request.renew(stamp);
        assert_ne!(key(&request), first);
        assert_eq!(Uuid::parse_str(&first).unwrap().get_version_num(), 7);
        let mut random = site.publish(site.door(0), (0, 0), 100, KeyKind::Random);
        random.renew(stamp);
        assert_eq!(Uuid::parse_str(&key(&random)).unwrap().get_version_num(), 4);
        let unkeyed = site.publish(site.door(0), (0, 0), 100, KeyKind::None);
        assert!(!String::from_utf8(unkeyed.bytes().to_vec()).unwrap().contains("Idempotency-Key"));
    }
}
