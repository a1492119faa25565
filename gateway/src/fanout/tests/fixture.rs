//! Rooms that are lists of texts, and clients on real sockets.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use parking_lot::{Mutex, MutexGuard};
use socket2::SockRef;
use tokio::time::sleep;

use crate::fanout::{Fanout, FanoutThreads, NextStep, Segment, Source, Topic, TopicWaker};

/// Longest wait for anything. A test that passes never waits so long.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Texts that a room keeps for its readers, and how many history gives at once.
const KEPT: usize = 100;
const PAGE: usize = 64;
/// Bytes the kernel buffers on each side, so that little of what is written hides there.
const KERNEL_BYTES: usize = 64 * 1024;

pub(super) fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// A topic: a list of texts that clients follow.
pub(super) struct Room {
    topic: Topic,
    texts: Mutex<Vec<Bytes>>,
    wakers: Mutex<Vec<Weak<TopicWaker>>>,
    is_closed: AtomicBool,
    reads_of_history: AtomicUsize,
}

impl Room {
    pub(super) fn new(topic: Topic) -> Arc<Self> {
        Arc::new(Self {
            topic,
            texts: Mutex::default(),
            wakers: Mutex::default(),
            is_closed: AtomicBool::new(false),
            reads_of_history: AtomicUsize::new(0),
        })
    }

    pub(super) fn post(&self, text: &str) {
        self.texts().push(chunk(text).into());
        self.wake_all();
    }

    /// Ends the streams of all followers.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    pub(super) fn reads_of_history(&self) -> usize {
        self.reads_of_history.load(Ordering::SeqCst)
    }

    fn wake_all(&self) {
        self.wakers.lock().iter().filter_map(Weak::upgrade).for_each(|waker| waker.wake());
    }

    fn texts(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.texts.lock()
    }
}

/// Follows some rooms. With more than one, each segment begins with the positions of the client in all of them.
pub(super) struct Reader {
    rooms: Vec<(Arc<Room>, usize)>,
    is_fetching: bool,
    history: Option<(usize, Vec<Bytes>)>,
}

impl Reader {
    /// Sends `texts` of a room.
    fn send(&mut self, room: usize, texts: &[Bytes]) -> NextStep<(usize, Vec<Bytes>)> {
        self.rooms[room].1 += texts.len();
        let mut segment = Segment::shared(texts.concat().into());
        if self.rooms.len() > 1 {
            let positions: Vec<String> = self.rooms.iter().map(|(_, position)| position.to_string()).collect();
            segment.prefix = chunk(&format!("at {};", positions.join(","))).into();
        }
        NextStep::Write(segment)
    }
}

impl Source for Reader {
    type Fetched = (usize, Vec<Bytes>);

    fn topics(&self) -> Vec<Topic> {
        self.rooms.iter().map(|(room, _)| room.topic).collect()
    }

    fn subscribe(&self, topic: Topic, waker: &Arc<TopicWaker>) {
        let room = self.rooms.iter().find(|(room, _)| room.topic == topic);
        room.unwrap().0.wakers.lock().push(Arc::downgrade(waker));
    }

    fn must_end(&self, _now: Instant) -> bool {
        self.rooms.iter().any(|(room, _)| room.is_closed.load(Ordering::SeqCst))
    }

    fn next_step(&mut self, now: Instant) -> NextStep<Self::Fetched> {
        if let Some((room, texts)) = self.history.take() {
            return self.send(room, &texts);
        }
        for number in 0..self.rooms.len() {
            let (room, position) = self.rooms[number].clone();
            let new = room.texts()[position..].to_vec();
            if new.len() > KEPT && self.is_fetching {
                return NextStep::Wait;
            }
            if new.len() > KEPT {
                self.is_fetching = true;
                room.reads_of_history.fetch_add(1, Ordering::SeqCst);
                return NextStep::Fetch(async move { (number, new[..PAGE].to_vec()) }.boxed());
            }
            if !new.is_empty() {
                return self.send(number, &new);
            }
        }
        if self.must_end(now) {
            return NextStep::End(Segment::shared(chunk("bye").into()));
        }
        NextStep::Wait
    }

    fn apply(&mut self, fetched: Self::Fetched, _now: Instant) {
        self.is_fetching = false;
        self.history = Some(fetched);
    }
}

/// Running threads, and the clients that are connected to them.
pub(super) struct Fixture {
    pub(super) fanout: Fanout<Reader>,
    pub(super) threads: Option<FanoutThreads>,
    listener: TcpListener,
    permits: Arc<AtomicUsize>,
}

/// Counts for as long as the connection lives.
struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with_write_stall(MAX_WAIT * 2)
    }

    /// With clients that may read nothing for so long.
    pub(super) fn with_write_stall(write_stall: Duration) -> Self {
        let (fanout, threads) = Fanout::start(2, write_stall).unwrap();
        Self {
            fanout,
            threads: Some(threads),
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            permits: Arc::default(),
        }
    }

    /// A client that follows `rooms` from now on.
    pub(super) fn follow(&self, rooms: &[&Arc<Room>]) -> TestClient {
        let socket = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        socket.set_read_timeout(Some(MAX_WAIT)).unwrap();
        let (served, _) = self.listener.accept().unwrap();
        served.set_nonblocking(true).unwrap();
        SockRef::from(&served).set_send_buffer_size(KERNEL_BYTES).unwrap();
        SockRef::from(&socket).set_recv_buffer_size(KERNEL_BYTES).unwrap();
        self.permits.fetch_add(1, Ordering::SeqCst);
        let reader = Reader {
            rooms: rooms.iter().map(|room| (Arc::clone(room), 0)).collect(),
            is_fetching: false,
            history: None,
        };
        self.fanout.adopt(served, Permit(Arc::clone(&self.permits)), reader);
        TestClient { socket }
    }

    /// Permits that are held: one for each connection that is not closed yet.
    pub(super) fn permits(&self) -> usize {
        self.permits.load(Ordering::SeqCst)
    }

    pub(super) async fn wait_for_permits(&self, count: usize) {
        let until = Instant::now() + MAX_WAIT;
        while self.permits() != count {
            assert!(Instant::now() < until, "{} connections are still there", self.permits());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A client on a real socket.
pub(super) struct TestClient {
    pub(super) socket: TcpStream,
}

impl TestClient {
    /// Reads exactly these texts.
    #[track_caller]
    pub(super) fn receives(&mut self, texts: &[&str]) {
        let expected: Vec<u8> = texts.iter().flat_map(|text| chunk(text)).collect();
        self.reads(&expected);
    }

    /// Reads exactly these bytes.
    #[track_caller]
    pub(super) fn reads(&mut self, expected: &[u8]) {
        let mut read = vec![0; expected.len()];
        self.socket.read_exact(&mut read).unwrap();
        assert!(read == expected, "{:?} instead of {:?}", start_of(&read), start_of(expected));
    }
}

fn start_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}
