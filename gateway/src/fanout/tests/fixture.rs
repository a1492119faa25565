//! Rooms that are lists of texts, and clients on real sockets.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use parking_lot::{Mutex, MutexGuard};
use socket2::SockRef;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::fanout::{Fanout, FanoutThreads, NextStep, Source, Topic, TopicChanges, TopicWaker, TopicWakers};

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
    wakers: TopicWakers,
    is_closed: AtomicBool,
    reads_of_history: AtomicUsize,
    /// Readers that have chosen the room.
    readers: watch::Sender<usize>,
}

impl Room {
    pub(super) fn new(topic: Topic) -> Arc<Self> {
        Arc::new(Self {
            topic,
            texts: Mutex::default(),
            wakers: TopicWakers::default(),
            is_closed: AtomicBool::new(false),
            reads_of_history: AtomicUsize::new(0),
            readers: watch::Sender::new(0),
        })
    }

    pub(super) fn post(&self, text: &str) {
        self.texts().push(chunk(text).into());
        self.wakers.wake();
    }

    /// Ends the streams of all followers.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.wakers.wake();
    }

    /// The same, and says so to nobody.
    pub(super) fn close_silently(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    pub(super) fn reads_of_history(&self) -> usize {
        self.reads_of_history.load(Ordering::SeqCst)
    }

    /// Waits until a reader has chosen the room.
    pub(super) async fn has_reader(&self) {
        timeout(MAX_WAIT, self.readers.subscribe().wait_for(|count| *count > 0)).await.unwrap().unwrap();
    }

    /// Waits until every reader has dropped the room.
    pub(super) async fn has_no_reader(&self) {
        timeout(MAX_WAIT, self.readers.subscribe().wait_for(|count| *count == 0)).await.unwrap().unwrap();
    }

    fn texts(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.texts.lock()
    }
}

/// A topic of its own: the rooms that a user follows.
pub(super) struct User {
    topic: Topic,
    rooms: Mutex<Vec<Arc<Room>>>,
    wakers: TopicWakers,
}

impl User {
    pub(super) fn new(topic: Topic, rooms: &[&Arc<Room>]) -> Arc<Self> {
        Arc::new(Self {
            topic,
            rooms: Mutex::new(rooms.iter().map(|room| Arc::clone(room)).collect()),
            wakers: TopicWakers::default(),
        })
    }

    /// Follows these rooms from now on.
    pub(super) fn choose(&self, rooms: &[&Arc<Room>]) {
        *self.rooms.lock() = rooms.iter().map(|room| Arc::clone(room)).collect();
        self.wakers.wake();
    }
}

/// Follows some rooms. With more than one, each segment begins with the positions of the client in all of them.
pub(super) struct Reader {
    rooms: Vec<(Arc<Room>, usize)>,
    /// Says which rooms. Then the reader looks at topics alone that have moved.
    user: Option<Arc<User>>,
    moved: BTreeSet<Topic>,
    is_fetching: bool,
    history: Option<(usize, Vec<Bytes>)>,
}

impl Reader {
    pub(super) fn new(rooms: &[&Arc<Room>]) -> Self {
        Self {
            rooms: rooms.iter().map(|room| (Arc::clone(room), 0)).collect(),
            user: None,
            moved: BTreeSet::new(),
            is_fetching: false,
            history: None,
        }
    }

    /// Follows the rooms that `user` chooses.
    pub(super) fn of(user: &Arc<User>) -> Self {
        Self {
            user: Some(Arc::clone(user)),
            ..Self::new(&[])
        }
    }

    /// Sends `texts` of a room.
    fn send(&mut self, room: usize, texts: &[Bytes]) -> NextStep<(usize, Vec<Bytes>)> {
        self.rooms[room].1 += texts.len();
        let mut segment = Vec::new();
        if self.user.is_none() && self.rooms.len() > 1 {
            let positions: Vec<String> = self.rooms.iter().map(|(_, position)| position.to_string()).collect();
            segment = chunk(&format!("at {};", positions.join(",")));
        }
        segment.extend(texts.concat());
        NextStep::Write(segment.into())
    }

    /// Follows what the user chose, from its present end on.
    fn choose(&mut self, chosen: &[Arc<Room>]) -> TopicChanges {
        let has = |rooms: &[(Arc<Room>, usize)], room: &Arc<Room>| rooms.iter().any(|(own, _)| Arc::ptr_eq(own, room));
        let new: Vec<_> = chosen.iter().filter(|room| !has(&self.rooms, room)).cloned().collect();
        let dropped = self.rooms.extract_if(.., |(room, _)| !chosen.iter().any(|chosen| Arc::ptr_eq(room, chosen)));
        let dropped = dropped
            .map(|(room, _)| {
                room.readers.send_modify(|count| *count -= 1);
                room.topic
            })
            .collect();
        let added = new.iter().map(|room| room.topic).collect();
        for room in new {
            let end = room.texts().len();
            room.readers.send_modify(|count| *count += 1);
            self.rooms.push((room, end));
        }
        TopicChanges { dropped, added }
    }
}

impl Source for Reader {
    type Fetched = (usize, Vec<Bytes>);

    fn topics(&self) -> Vec<Topic> {
        let own = self.user.iter().map(|user| user.topic);
        own.chain(self.rooms.iter().map(|(room, _)| room.topic)).collect()
    }

    fn subscribe(&self, topic: Topic, waker: &Arc<TopicWaker>) {
        if let Some(user) = self.user.as_ref().filter(|user| user.topic == topic) {
            user.wakers.add(waker);
        } else {
            let room = self.rooms.iter().find(|(room, _)| room.topic == topic);
            room.unwrap().0.wakers.add(waker);
        }
    }

    fn moved(&mut self, topic: Topic) {
        self.moved.insert(topic);
    }

    fn must_end(&self, _now: Instant) -> bool {
        self.rooms.iter().any(|(room, _)| room.is_closed.load(Ordering::SeqCst))
    }

    async fn ended(&self) {
        std::future::pending::<()>().await;
    }

    fn due(&self) -> Instant {
        Instant::now() + MAX_WAIT
    }

    fn next_step(&mut self, now: Instant) -> NextStep<Self::Fetched> {
        if let Some((room, texts)) = self.history.take() {
            return self.send(room, &texts);
        }
        if let Some(user) = self.user.clone().filter(|user| self.moved.remove(&user.topic)) {
            let chosen = user.rooms.lock().clone();
            return NextStep::Follow(self.choose(&chosen));
        }
        for number in 0..self.rooms.len() {
            let (room, position) = self.rooms[number].clone();
            if self.user.is_some() && !self.moved.remove(&room.topic) {
                continue;
            }
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
            return NextStep::End(chunk("bye").into());
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
        self.adopt(Reader::new(rooms))
    }

    /// A client that gets what `reader` says.
    pub(super) fn adopt(&self, reader: Reader) -> TestClient {
        let socket = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        socket.set_read_timeout(Some(MAX_WAIT)).unwrap();
        let (served, _) = self.listener.accept().unwrap();
        served.set_nonblocking(true).unwrap();
        SockRef::from(&served).set_send_buffer_size(KERNEL_BYTES).unwrap();
        SockRef::from(&socket).set_recv_buffer_size(KERNEL_BYTES).unwrap();
        self.permits.fetch_add(1, Ordering::SeqCst);
        self.fanout.adopt(served, Permit(Arc::clone(&self.permits)), reader);
        TestClient { socket }
    }

    /// Connections of each thread.
    pub(super) fn connections_by_thread(&self) -> Vec<usize> {
        self.fanout.inboxes.all.iter().map(|inbox| inbox.connections()).collect()
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
