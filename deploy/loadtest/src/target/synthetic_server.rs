//! A server on a thread of this tool that writes prepared events as fast as they are read, to measure how much the tool
//! itself can read.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rig::Result;

use crate::client::post_tag::write_decimal;
use crate::target::{ServerKind, Target};

/// Events in one write, as of a server that is this far behind.
const EVENTS_PER_BLOCK: u64 = 64;
/// The token of the listener.
const LISTENER: Token = Token(usize::MAX);
/// How often the thread checks whether it is to stop.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// The headers of the response and the first event of each stream.
const BEGINNING: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
    28\r\nevent: ready\ndata: {}\nid: 7-0000000000\n\n\r\n";

/// A running server, stopped when the value is dropped.
pub struct SyntheticServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl SyntheticServer {
    /// Starts the server on a thread of its own. It begins to send messages of `text` characters when `streams` streams
    /// are open, and omits the message whose seq is `omitted_seq`.
    pub fn start(streams: usize, text: usize, omitted_seq: Option<u64>) -> Result<Self> {
        let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let stop = Arc::<AtomicBool>::default();
        let server = ServerLoop {
            poll,
            listener,
            connections: Vec::new(),
            streams,
            requested: 0,
            block: EventBlock::new(text, omitted_seq),
            stop: Arc::clone(&stop),
        };
        tokio::task::spawn_blocking(move || server.run());
        Ok(Self { address, stop })
    }

    /// The server as a target of load, with one room.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            kind: ServerKind::Roomcast,
            addresses: vec![self.address],
            tokens: Vec::new(),
            user_rooms: None,
            rooms: vec!["synthetic".to_owned()],
            other_entries: Vec::new(),
            processes: Vec::new(),
            logs: Vec::new(),
        }
    }
}

impl Drop for SyntheticServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct ServerLoop {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    /// Messages are sent once so many streams have been requested.
    streams: usize,
    requested: usize,
    block: EventBlock,
    stop: Arc<AtomicBool>,
}

/// One stream and the position of its writer: whole blocks, and bytes of the next block.
struct Connection {
    socket: TcpStream,
    has_request: bool,
    written: usize,
    blocks: u64,
    bytes: usize,
}

impl ServerLoop {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        while !self.stop.load(Ordering::Relaxed) {
            self.poll.poll(&mut events, Some(STOP_CHECK_INTERVAL))?;
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(at) => self.write_events(at),
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(self.connections.len()), both)?;
            self.connections.push(Some(Connection {
                socket,
                has_request: false,
                written: 0,
                blocks: 0,
                bytes: 0,
            }));
        }
    }

    fn write_events(&mut self, at: usize) {
        let Some(connection) = self.connections.get_mut(at).and_then(Option::as_mut) else {
            return;
        };
        let had_request = connection.has_request;
        let beginning_written = connection.write_beginning();
        self.requested += usize::from(connection.has_request && !had_request);
        let written = match self.requested.cmp(&self.streams) {
            std::cmp::Ordering::Less => beginning_written,
            _ => beginning_written.and_then(|()| connection.write_events(&mut self.block)),
        };
        if written.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            self.connections[at] = None;
        }
        if self.requested == self.streams && !had_request {
            // The streams that were requested earlier get no further event from epoll.
            (0..self.connections.len())
                .filter(|connection| *connection != at)
                .for_each(|connection| self.write_events(connection));
        }
    }
}

impl Connection {
    /// Reads the request and writes the headers of the response and the first event.
    fn write_beginning(&mut self) -> io::Result<()> {
        let mut request = [0; 2_048];
        if !self.has_request {
            // Requests are small and arrive whole.
            if self.socket.read(&mut request)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.has_request = true;
        }
        while self.written < BEGINNING.len() {
            self.written += self.socket.write(&BEGINNING[self.written..])?;
        }
        Ok(())
    }

    /// Writes events until the socket is full.
    fn write_events(&mut self, block: &mut EventBlock) -> io::Result<()> {
        loop {
            let bytes = block.bytes_of(self.blocks);
            self.bytes += self.socket.write(&bytes[self.bytes..])?;
            if self.bytes == bytes.len() {
                self.blocks += 1;
                self.bytes = 0;
            }
        }
    }
}

/// Prepared events, in which only the ids change from block to block.
struct EventBlock {
    number: u64,
    bytes: Vec<u8>,
    /// Offsets at which the last digits of the ids end.
    ids: Vec<usize>,
    /// The seq that is omitted.
    omitted_seq: u64,
}

/// Digits of an id.
const DIGITS: usize = 10;

impl EventBlock {
    fn new(text: usize, omitted_seq: Option<u64>) -> Self {
        let (mut bytes, mut ids) = (Vec::new(), Vec::new());
        let object = format!(
            r#"{{"id":"01a20ab1-49a0-708d-8bf6-055e5f5df19a","seq":1,"name":"testchat1","username":"test1","public_id":"test1","message_type":"MESSAGE","message":"{}","created_on":"2026-11-23T23:15:20.608Z"}}"#,
            "x".repeat(text)
        );
        for _ in 0..EVENTS_PER_BLOCK {
            let event = format!("data: {object}\nid: 7-0000000000\n\n");
            let size = format!("{:x}\r\n", event.len());
            ids.push(bytes.len() + size.len() + event.len() - "\n\n".len());
            bytes.extend_from_slice(format!("{size}{event}\r\n").as_bytes());
        }
        let mut block = Self {
            number: 1,
            bytes,
            ids,
            omitted_seq: omitted_seq.unwrap_or(u64::MAX),
        };
        block.bytes_of(0);
        block
    }

    /// The bytes of block `number`.
    fn bytes_of(&mut self, number: u64) -> &[u8] {
        if self.number != number {
            self.number = number;
            for (at, end) in (1..).zip(&self.ids) {
                let mut seq = number * EVENTS_PER_BLOCK + at;
                seq += u64::from(seq >= self.omitted_seq);
                write_decimal(seq, &mut self.bytes[end - DIGITS..*end]);
            }
        }
        &self.bytes
    }
}
