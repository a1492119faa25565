//! A server that does nothing but write prepared events as fast as they are read: what the tool itself can take.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rig::Result;

use crate::site::{Dialect, Site};
use crate::stamp::write_decimal;

/// Events in one write, as a server writes them that has fallen behind by so many.
const BLOCK: u64 = 64;
/// The listener among the tokens.
const DOOR: Token = Token(usize::MAX);
/// How often it looks whether it is to end.
const TICK: Duration = Duration::from_millis(50);
/// What every stream begins with.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
    28\r\nevent: ready\ndata: {}\nid: 7-0000000000\n\n\r\n";

/// A running one, ended when it is dropped.
pub struct Fountain {
    door: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Fountain {
    /// Starts it on a thread of its own. It begins when so many `streams` are there; messages have `text` characters, and the
    /// one with the seq `lost` is never sent.
    pub fn start(streams: usize, text: usize, lost: Option<u64>) -> Result<Self> {
        let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let door = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, DOOR, Interest::READABLE)?;
        let stop = Arc::<AtomicBool>::default();
        let spring = Spring {
            poll,
            listener,
            jets: Vec::new(),
            streams,
            asked: 0,
            block: Block::new(text, lost),
            stop: Arc::clone(&stop),
        };
        tokio::task::spawn_blocking(move || spring.run());
        Ok(Self { door, stop })
    }

    /// What is put under load.
    #[must_use]
    pub fn site(&self) -> Site {
        Site {
            dialect: Dialect::Roomcast,
            doors: vec![self.door],
            tokens: Vec::new(),
            rooms: vec!["fountain".to_owned()],
            processes: Vec::new(),
            logs: Vec::new(),
        }
    }
}

impl Drop for Fountain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Spring {
    poll: Poll,
    listener: TcpListener,
    jets: Vec<Option<Jet>>,
    /// Messages are sent when so many have asked.
    streams: usize,
    asked: usize,
    block: Block,
    stop: Arc<AtomicBool>,
}

/// One stream, and how much of it was written: so many whole blocks, and so many bytes of what comes now.
struct Jet {
    socket: TcpStream,
    is_asked: bool,
    head: usize,
    blocks: u64,
    bytes: usize,
}

impl Spring {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        while !self.stop.load(Ordering::Relaxed) {
            self.poll.poll(&mut events, Some(TICK))?;
            for event in &events {
                match event.token() {
                    DOOR => self.accept()?,
                    Token(at) => self.pour(at),
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
            self.poll.registry().register(&mut socket, Token(self.jets.len()), both)?;
            self.jets.push(Some(Jet {
                socket,
                is_asked: false,
                head: 0,
                blocks: 0,
                bytes: 0,
            }));
        }
    }

    fn pour(&mut self, at: usize) {
        let Some(jet) = self.jets.get_mut(at).and_then(Option::as_mut) else {
            return;
        };
        let was_asked = jet.is_asked;
        let begun = jet.begin();
        self.asked += usize::from(jet.is_asked && !was_asked);
        let poured = match self.asked.cmp(&self.streams) {
            std::cmp::Ordering::Less => begun,
            _ => begun.and_then(|()| jet.pour(&mut self.block)),
        };
        if poured.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            self.jets[at] = None;
        }
        if self.asked == self.streams && !was_asked {
            // Of those who came before there will be no event.
            (0..self.jets.len()).filter(|jet| *jet != at).for_each(|jet| self.pour(jet));
        }
    }
}

impl Jet {
    /// Reads the request and writes the beginning of the stream.
    fn begin(&mut self) -> io::Result<()> {
        let mut request = [0; 2_048];
        if !self.is_asked {
            // Requests are small and come whole.
            if self.socket.read(&mut request)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.is_asked = true;
        }
        while self.head < HEAD.len() {
            self.head += self.socket.write(&HEAD[self.head..])?;
        }
        Ok(())
    }

    /// Writes until the socket is full.
    fn pour(&mut self, block: &mut Block) -> io::Result<()> {
        loop {
            let bytes = block.number(self.blocks);
            self.bytes += self.socket.write(&bytes[self.bytes..])?;
            if self.bytes == bytes.len() {
                self.blocks += 1;
                self.bytes = 0;
            }
        }
    }
}

/// Prepared events; only their ids change.
struct Block {
    number: u64,
    bytes: Vec<u8>,
    /// Where the last digits of the ids end.
    ids: Vec<usize>,
    /// The seq that is left out.
    lost: u64,
}

/// Digits of an id.
const DIGITS: usize = 10;

impl Block {
    fn new(text: usize, lost: Option<u64>) -> Self {
        let (mut bytes, mut ids) = (Vec::new(), Vec::new());
        let object = format!(
            r#"{{"id":"01a20ab1-49a0-708d-8bf6-055e5f5df19a","seq":1,"name":"testchat1","username":"test1","public_id":"test1","message_type":"MESSAGE","message":"{}","created_on":"2026-11-23T23:15:20.608Z"}}"#,
            "x".repeat(text)
        );
        for _ in 0..BLOCK {
            let event = format!("data: {object}\nid: 7-0000000000\n\n");
            let size = format!("{:x}\r\n", event.len());
            ids.push(bytes.len() + size.len() + event.len() - "\n\n".len());
            bytes.extend_from_slice(format!("{size}{event}\r\n").as_bytes());
        }
        let mut block = Self {
            number: 1,
            bytes,
            ids,
            lost: lost.unwrap_or(u64::MAX),
        };
        block.number(0);
        block
    }

    /// The bytes of block `number`.
    fn number(&mut self, number: u64) -> &[u8] {
        if self.number != number {
            self.number = number;
            for (at, end) in (1..).zip(&self.ids) {
                let mut seq = number * BLOCK + at;
                seq += u64::from(seq >= self.lost);
                write_decimal(seq, &mut self.bytes[end - DIGITS..*end]);
            }
        }
        &self.bytes
    }
}
