//! Prepared HTTP requests: each is built once, and only a few bytes of it change each time it is sent.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use memchr::memmem;
use uuid::Uuid;

use super::{ServerKind, Target};
use crate::client::post_tag::{PostTag, write_decimal};
use crate::client::sse_parser::Position;
use crate::plan::KeyKind;

/// Bytes that the JSON of a message adds to its text. Nchan delivers a post as it is, so its posts are this much
/// longer, and the events of both servers have the same length.
const ENVELOPE: usize = 200;

/// A request that is built once and sent often.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Number of the room.
    pub(crate) room: usize,
    /// Least length of the body of a complete response, in bytes.
    pub(crate) least_body: usize,
    bytes: Vec<u8>,
    variable: VariablePart,
}

/// The bytes of a request that change from one time to the next.
#[derive(Debug, Clone)]
enum VariablePart {
    /// No byte changes.
    None,
    /// A post: offset of the tag, and the idempotency key if posts have one.
    Post { tag: usize, key: Option<KeyField> },
    /// A page of history: offset of the seq in `before`. `connections` connections share `seqs` among them.
    Before {
        offset: usize,
        seqs: RangeInclusive<u64>,
        connections: u64,
    },
}

/// Where in a request the idempotency key is, which differs from post to post.
#[derive(Debug, Clone, Copy)]
struct KeyField {
    offset: usize,
    kind: KeyKind,
}

impl KeyField {
    /// Writes a new key.
    fn renew(self, bytes: &mut [u8]) {
        if let Some(key) = self.kind.fresh() {
            key.hyphenated().encode_lower(&mut bytes[self.offset..]);
        }
    }
}

/// Width of the seq in a request for a page, in digits.
const SEQ_DIGITS: usize = 12;

impl Request {
    /// Writes the variable part for the post or page that `tag` counts.
    pub(crate) fn renew(&mut self, tag: PostTag) {
        match &mut self.variable {
            VariablePart::None => {}
            VariablePart::Post { tag: offset, key } => {
                tag.write(&mut self.bytes[*offset..]);
                if let Some(key) = key {
                    key.renew(&mut self.bytes);
                }
            }
            VariablePart::Before {
                offset,
                seqs,
                connections,
            } => {
                // Multiplicative hashing (Knuth) by a prime: each seq comes once before any comes again.
                let number = (tag.count * *connections + tag.connection).wrapping_mul(2_654_435_761);
                let seq = seqs.start() + number % (seqs.end() - seqs.start() + 1);
                let field = &mut self.bytes[*offset..*offset + SEQ_DIGITS];
                write_decimal(seq, field);
                // A number has no leading zeros: empty query parameters fill the rest of the field.
                let zeros = field.iter().take_while(|digit| **digit == b'0').count().min(SEQ_DIGITS - 1);
                field.rotate_left(zeros);
                field[SEQ_DIGITS - zeros..].fill(b'&');
            }
        }
    }

    /// True for a post.
    pub(crate) fn is_post(&self) -> bool {
        matches!(self.variable, VariablePart::Post { .. })
    }

    /// The bytes to send.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Target {
    /// The request for a stream of `room`, from `position` on if there is one.
    pub(crate) fn subscribe(
        &self,
        address: SocketAddr,
        room: usize,
        user: usize,
        position: Option<Position>,
    ) -> Vec<u8> {
        let room = &self.rooms[room];
        let path = match self.kind {
            ServerKind::Roomcast => format!("/chat/{room}/message"),
            ServerKind::Nchan => format!("/sub/{room}"),
        };
        let authorization = self.authorization(user);
        let resume = position.map(|at| format!("Last-Event-ID: {}-{}\r\n", at.epoch, at.seq)).unwrap_or_default();
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n{authorization}{resume}\r\n")
            .into()
    }

    /// The request for the stream of all rooms of `user`, from `cursor` on unless it is empty.
    pub(crate) fn subscribe_all(&self, address: SocketAddr, user: usize, cursor: &[u8]) -> Vec<u8> {
        let authorization = self.authorization(user);
        let resume = if cursor.is_empty() {
            String::new()
        } else {
            format!("Last-Event-ID: {}\r\n", String::from_utf8_lossy(cursor))
        };
        format!(
            "GET /user/events HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n{authorization}{resume}\r\n"
        )
        .into()
    }

    /// The request to post a text of `length` bytes to `room`; a post to Roomcast has an idempotency key of the kind
    /// `keys`.
    pub(crate) fn publish(
        &self,
        address: SocketAddr,
        (room, user): (usize, usize),
        length: usize,
        keys: KeyKind,
    ) -> Request {
        const KEY: &str = "Idempotency-Key: ";
        let name = &self.rooms[room];
        let text = |length: usize| "x".repeat(length.max(PostTag::LEN));
        let (path, before, text, after) = match self.kind {
            ServerKind::Roomcast => (format!("/chat/{name}/message"), r#"{"message":""#, text(length), r#""}"#),
            ServerKind::Nchan => (format!("/pub/{name}"), "", text(length + ENVELOPE), ""),
        };
        let authorization = self.authorization(user);
        let body = before.len() + text.len() + after.len();
        let key = match self.kind {
            ServerKind::Roomcast if keys != KeyKind::None => format!("{KEY}{}\r\n", Uuid::nil()),
            ServerKind::Roomcast | ServerKind::Nchan => String::new(),
        };
        let headers = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {body}\r\n{key}{authorization}\r\n"
        );
        let key = memmem::find(headers.as_bytes(), KEY.as_bytes()).map(|found| KeyField {
            offset: found + KEY.len(),
            kind: keys,
        });
        Request {
            room,
            least_body: 0,
            variable: VariablePart::Post {
                tag: headers.len() + before.len(),
                key,
            },
            bytes: format!("{headers}{before}{text}{after}").into(),
        }
    }

    /// The typing call of `user` in `room`.
    pub(crate) fn typing_call(&self, address: SocketAddr, room: usize, user: usize) -> Request {
        const BODY: &str = r#"{"typing":true}"#;
        let (name, length) = (&self.rooms[room], BODY.len());
        let authorization = self.authorization(user);
        let headers = format!(
            "POST /chat/{name}/typing HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{authorization}\r\n"
        );
        Request {
            room,
            least_body: 0,
            bytes: format!("{headers}{BODY}").into(),
            variable: VariablePart::None,
        }
    }

    /// The request for the newest page of the history of `room`, whose body has at least `least_body` bytes.
    pub(crate) fn newest_page(&self, address: SocketAddr, room: usize, user: usize, least_body: usize) -> Request {
        self.history(address, room, user, least_body, "")
    }

    /// The request for the page of the history of `room` before one of `seqs`, another one each time.
    pub(crate) fn any_page(
        &self,
        address: SocketAddr,
        (room, user): (usize, usize),
        least_body: usize,
        seqs: RangeInclusive<u64>,
        connections: usize,
    ) -> Request {
        const QUERY: &str = "?before=";
        let request = self.history(address, room, user, least_body, &format!("{QUERY}{:&<SEQ_DIGITS$}", seqs.start()));
        let offset = memmem::find(&request.bytes, QUERY.as_bytes()).map_or(0, |found| found + QUERY.len());
        let connections = connections as u64;
        Request {
            variable: VariablePart::Before {
                offset,
                seqs,
                connections,
            },
            ..request
        }
    }

    fn history(&self, address: SocketAddr, room: usize, user: usize, least_body: usize, query: &str) -> Request {
        let name = &self.rooms[room];
        let authorization = self.authorization(user);
        let headers =
            format!("GET /chat/{name}/messagehistory{query} HTTP/1.1\r\nHost: {address}\r\n{authorization}\r\n");
        Request {
            room,
            least_body,
            bytes: headers.into(),
            variable: VariablePart::None,
        }
    }

    fn authorization(&self, user: usize) -> String {
        let token = self.tokens.get(user);
        token.map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::target;

    #[test]
    fn no_page_is_requested_twice() {
        let target = target(1, 1);
        let mut pages = std::collections::BTreeSet::new();
        for connection in 0..2 {
            let mut request = target.any_page(target.address(0), (0, 0), 0, 101..=150, 2);
            for count in 1..=25 {
                request.renew(PostTag {
                    connection,
                    count,
                    posted_us: 0,
                });
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
    fn a_post_carries_its_length_tag_and_key() {
        let target = target(1, 1);
        let mut request = target.publish(target.address(0), (0, 0), 100, KeyKind::Ordered);
        let tag = PostTag {
            connection: 1,
            count: 2,
            posted_us: 3,
        };
        request.renew(tag);
        let text = String::from_utf8(request.bytes().to_vec()).unwrap();
        let (headers, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(headers.starts_with("POST /chat/lobby/message HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n"), "{headers}");
        assert!(headers.contains(&format!("Content-Length: {}\r\n", body.len())), "{headers}");
        let message: serde_json::Value = serde_json::from_str(body).unwrap();
        let message = message["message"].as_str().unwrap();
        assert_eq!((message.len(), PostTag::parse(message.as_bytes())), (100, Some(tag)));
        let key = |request: &Request| {
            let text = String::from_utf8(request.bytes().to_vec()).unwrap();
            let (_, rest) = text.split_once("\r\nIdempotency-Key: ").unwrap();
            rest.split_once("\r\n").unwrap().0.to_owned()
        };
        let first = key(&request);
        request.renew(tag);
        assert_ne!(key(&request), first);
        assert_eq!(Uuid::parse_str(&first).unwrap().get_version_num(), 7);
        let mut random = target.publish(target.address(0), (0, 0), 100, KeyKind::Random);
        random.renew(tag);
        assert_eq!(Uuid::parse_str(&key(&random)).unwrap().get_version_num(), 4);
        let unkeyed = target.publish(target.address(0), (0, 0), 100, KeyKind::None);
        assert!(!String::from_utf8(unkeyed.bytes().to_vec()).unwrap().contains("Idempotency-Key"));
    }
}
