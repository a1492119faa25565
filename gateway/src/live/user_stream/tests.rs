//! What a user's stream does, step by step and without a fan-out.

use shared::domain::{Position, RemovalCount, RoomsVersion, SessionId, UserId};
use shared::storage::{JoinMode, NewUser, Room};
use uuid::Uuid;

use super::*;
use crate::history::HistoryRates;
use crate::history::ReadQueue;
use crate::live::feed::Feed;
use crate::live::hub::OpenFeed;
use crate::live::stream::StreamSettings;
use crate::live::stream_events::ResetReason;
use crate::live::stream_registry::{Followed, StreamRegistry};
use crate::live::stream_start::StreamBounds;
use crate::live::subscriber::Subscriber;
use crate::live::test_fixture::{Fixture, fixture};
use crate::live::topics::UserTopics;
use crate::live::user_cursor::{Base, UserCursor};
use crate::live::user_plan::UserPlan;
use crate::live::user_progress::{AHEAD_AT_MOST, LIVE_AHEAD_AT_MOST};

const SETTINGS: StreamSettings = StreamSettings {
    heartbeat: Duration::from_secs(15),
    max_age: Duration::from_hours(1),
};

/// The user bob, who is in every room of an installation.
struct Bob {
    fixture: Fixture,
    hub: Hub,
    user: UserId,
    inbox: Arc<UserInbox>,
}

impl Bob {
    async fn new() -> Self {
        let fixture = fixture().await;
        let (subscriber, _commands) = Subscriber::new();
        let bob = fixture.store.create_user(NewUser::for_tests("bob"), Timestamp(0)).await.unwrap().id;
        Self {
            hub: Hub::new(fixture.store.clone(), fixture.installation, subscriber, ReadQueue::default()),
            user: bob,
            inbox: Arc::new(UserInbox::new(UserTopics::default().open(bob))),
            fixture,
        }
    }

    /// A new room that bob is in.
    async fn room(&self, name: &str) -> Room {
        let room = self.fixture.room(name).await;
        self.fixture.store.join_public(room.id, self.user, JoinMode::Explicit, Timestamp(0)).await.unwrap();
        room
    }

    /// The feeds of `count` new rooms, and the cursor of a client that has everything of them.
    async fn follows(&self, count: usize) -> (Vec<OpenFeed>, String) {
        let mut feeds = Vec::new();
        for number in 0..count {
            let room = self.room(&format!("room-{number}")).await;
            feeds.push(self.hub.open_for_tests(&room).await);
        }
        (feeds, self.cursor().await)
    }

    /// Stores a message in the room of `feed`, which follows it.
    async fn post(&self, feed: &Feed) {
        self.fixture.store_silently(feed.room, 1).await;
        let entries = self.fixture.store.entries_after(feed.room, feed.head(), 10).await.unwrap();
        feed.append(&entries);
    }

    /// The position up to which everything is known to be stored: 0 until [`Hub::update_horizon`] finds one.
    fn horizon(&self) -> Position {
        self.hub.horizon().map_or(Position(0), |horizon| horizon.position)
    }

    async fn plan(&self, cursor: Option<&str>) -> UserPlan {
        let history = (self.hub.epoch(), self.horizon());
        UserPlan::read((&self.fixture.store, &self.hub), self.user, cursor, history).await.unwrap()
    }

    /// The cursor of a client that has everything.
    async fn cursor(&self) -> String {
        let plan = self.plan(None).await;
        let cursor = UserCursor {
            epoch: self.hub.epoch(),
            base: plan.base,
            finished: None,
            ahead: plan.ahead,
        };
        cursor.encode()
    }

    /// A stream after `cursor` of the rooms that `feeds` follow, ascending by id.
    async fn open(&self, cursor: Option<String>, feeds: &[OpenFeed]) -> UserStream {
        let plan = self.plan(cursor.as_deref()).await;
        let ids: Vec<RoomId> = plan.rooms.iter().map(|planned| planned.followed.room.id).collect();
        assert!(ids.iter().eq(feeds.iter().map(|feed| &feed.room)));
        let followed = Followed::AllRooms(Arc::clone(&self.inbox));
        let opened = UserOpened {
            hub: self.hub.clone(),
            store: self.fixture.store.clone(),
            lease: StreamLease::for_tests(),
            registered: StreamRegistry::default().register(self.user, SessionId(Uuid::nil()), followed),
            inbox: Arc::clone(&self.inbox),
            seen_changes: self.inbox.topic.changes(),
            states: room_states(&self.fixture.store, self.user, &ids).await.unwrap(),
            plan,
            feeds: feeds.to_vec(),
            horizon: self.horizon(),
            horizon_use: self.hub.use_horizon(),
            cursor,
            filter: StreamFilter::default(),
            expires_on: Timestamp(i64::MAX),
            rates: HistoryRates::new(0),
        };
        UserStream::new(opened, StreamBounds::default(), SETTINGS, Timestamp::now(), Framing::Library).0
    }
}

/// Everything that a stream writes before it waits, without a fetch.
fn writes(stream: &mut UserStream) -> Vec<String> {
    let mut writes = Vec::new();
    loop {
        match stream.next_step(Instant::now()) {
            NextStep::Write(segment) => writes.push(String::from_utf8(segment.into()).unwrap()),
            NextStep::Follow(_) => {}
            NextStep::Wait => return writes,
            NextStep::Fetch(_) => panic!("it fetches after {writes:?}"),
            NextStep::End(bye) => panic!("it ends with {bye:?}"),
        }
    }
}

/// How many messages these segments have.
fn messages(segments: &[String]) -> usize {
    segments.iter().map(|segment| segment.matches(r#""message":"stored""#).count()).sum()
}

/// The cursors of the events in these segments.
fn cursors(segments: &[String]) -> Vec<String> {
    let lines = segments.iter().flat_map(|segment| segment.lines());
    lines.filter_map(|line| line.strip_prefix("id:")).map(|id| id.trim().to_owned()).collect()
}

/// The cursor of the last event in these segments.
fn last_cursor(segments: &[String]) -> String {
    cursors(segments).pop().unwrap()
}

/// The rooms that a plan has something missed of.
fn missed_rooms(plan: &UserPlan) -> Vec<RoomId> {
    let missed = plan.rooms.iter().filter(|room| room.has_missed());
    missed.map(|room| room.followed.room.id).collect()
}

/// The answer to what a stream asks next.
async fn answer(stream: &mut UserStream) -> UserFetched {
    match stream.next_step(Instant::now()) {
        NextStep::Fetch(asked) => asked.await,
        NextStep::Write(_) | NextStep::Follow(_) | NextStep::Wait | NextStep::End(_) => panic!("it asks nothing"),
    }
}

#[tokio::test]
async fn answer_from_before_a_loss_lets_nothing_be_sent() {
    let bob = Bob::new().await;
    let (lobby, hall) = (bob.room("lobby").await, bob.room("hall").await);
    let feeds = [
        bob.hub.open_for_tests(&lobby).await,
        bob.hub.open_for_tests(&hall).await,
    ];
    let mut stream = bob.open(None, &feeds).await;
    assert!(writes(&mut stream).is_empty());

    bob.inbox.topic.note_change();
    let stale = answer(&mut stream).await;
    bob.fixture.store.leave(lobby.id, bob.user, Timestamp(0)).await.unwrap();
    bob.inbox.note_unknown_losses();
    for feed in &feeds {
        bob.post(feed).await;
        stream.moved(room_topic(feed.room));
    }
    assert!(writes(&mut stream).is_empty(), "rooms are lost that it does not know by name");
    stream.apply(stale, Instant::now());
    let fresh = answer(&mut stream).await;
    assert!(writes(&mut stream).is_empty(), "the answer was older than the loss");
    stream.apply(fresh, Instant::now());
    let sent = writes(&mut stream).concat();
    assert!(sent.contains(r#"{"name":"lobby","gone":true}"#), "{sent}");
    let of = |room: &str| sent.matches(&format!(r#""name":"{room}","username":"ann""#)).count();
    assert_eq!((of("lobby"), of("hall")), (0, 1), "{sent}");
}

#[tokio::test]
async fn cursor_of_a_time_that_has_not_come_begins_anew() {
    let bob = Bob::new().await;
    let room = bob.room("lobby").await;
    bob.fixture.store_silently(room.id, 1).await;
    let plan = bob.plan(None).await;
    let (base, last) = (plan.base, bob.fixture.store.horizon_sample().await.unwrap().last);
    let reset_of = async |base: Base| {
        let cursor = UserCursor {
            epoch: bob.hub.epoch(),
            base,
            finished: None,
            ahead: Vec::new(),
        };
        let plan = bob.plan(Some(&cursor.encode())).await;
        (plan.reset, plan.has_resumed)
    };
    let (ahead, usable) = ((Some(ResetReason::Ahead), false), (None, true));
    let position = |position| Base { position, ..base };
    assert_eq!(reset_of(position(last)).await, usable, "the horizon here is older");
    assert_eq!(reset_of(position(Position(last.0 + 1))).await, ahead);
    let version = RoomsVersion(base.version.0 + 1);
    assert_eq!(reset_of(Base { version, ..base }).await, ahead);
    let removals = RemovalCount(base.removals.0 + 1);
    assert_eq!(reset_of(Base { removals, ..base }).await, ahead);
}

/// What a feed keeps, and what a cached page has, needs no read.
#[tokio::test]
async fn many_rooms_with_little_missed_come_in_one_write() {
    const ROOMS: usize = 20;
    let bob = Bob::new().await;
    let mut rooms = Vec::new();
    for number in 0..ROOMS {
        rooms.push(bob.room(&format!("room-{number}")).await);
    }
    let cursor = bob.cursor().await;
    let mut feeds = Vec::new();
    for (number, room) in rooms.iter().enumerate() {
        if number % 2 == 0 {
            let feed = bob.hub.open_for_tests(room).await;
            bob.post(&feed).await;
            feeds.push(feed);
            continue;
        }
        bob.fixture.store_silently(room.id, 1).await;
        let feed = bob.hub.open_for_tests(room).await;
        let FeedRead::Behind(gap) = feed.read_after(Seq::ZERO, usize::MAX, Framing::Chunked) else {
            panic!("the feed has its first message");
        };
        bob.hub.read_behind(&feed, (Seq::ZERO, gap), (usize::MAX, Framing::Chunked)).await.unwrap();
        feeds.push(feed);
    }
    let mut stream = bob.open(Some(cursor), &feeds).await;
    let writes = writes(&mut stream);
    assert_eq!(writes.len(), 1, "{writes:?}");
    assert_eq!(messages(&writes), ROOMS);
}

#[tokio::test]
async fn what_comes_while_history_is_read_follows_at_once() {
    let bob = Bob::new().await;
    let lobby = bob.room("lobby").await;
    let cursor = bob.cursor().await;
    bob.fixture.store_silently(lobby.id, 1).await;
    let feed = bob.hub.open_for_tests(&lobby).await;
    let mut stream = bob.open(Some(cursor), std::slice::from_ref(&feed)).await;
    let history = answer(&mut stream).await;
    bob.post(&feed).await;
    stream.moved(room_topic(lobby.id));
    assert!(writes(&mut stream).is_empty(), "history comes first");
    stream.apply(history, Instant::now());
    assert_eq!(messages(&writes(&mut stream)), 2);
}

#[tokio::test]
async fn room_whose_feed_lags_holds_no_other_room_up() {
    let bob = Bob::new().await;
    let (lobby, hall) = (bob.room("lobby").await, bob.room("hall").await);
    let cursor = bob.cursor().await;
    let feeds = [
        bob.hub.open_for_tests(&lobby).await,
        bob.hub.open_for_tests(&hall).await,
    ];
    bob.fixture.store_silently(lobby.id, 1).await;
    bob.post(&feeds[1]).await;
    let mut stream = bob.open(Some(cursor), &feeds).await;
    let first = writes(&mut stream);
    assert_eq!(messages(&first), 1, "{first:?}");
    assert!(first.concat().contains(r#""name":"hall""#), "{first:?}");
    let resumed = bob.plan(Some(&last_cursor(&first))).await;
    assert_eq!(missed_rooms(&resumed), [lobby.id], "the cursor says what is left");

    let entries = bob.fixture.store.entries_after(lobby.id, Seq::ZERO, 10).await.unwrap();
    feeds[0].append(&entries);
    stream.moved(room_topic(lobby.id));
    let rest = writes(&mut stream);
    assert_eq!(messages(&rest), 1, "{rest:?}");
}

/// The horizon stays where it is, as while somebody's transaction is open for long.
#[tokio::test]
async fn cursors_name_only_as_many_rooms_as_they_can() {
    const ROOMS: usize = AHEAD_AT_MOST + 5;
    let bob = Bob::new().await;
    let (feeds, cursor) = bob.follows(ROOMS).await;
    let mut stream = bob.open(Some(cursor), &feeds).await;
    for feed in &feeds {
        bob.post(feed).await;
        stream.moved(room_topic(feed.room));
    }
    let first = writes(&mut stream);
    assert_eq!(messages(&first), LIVE_AHEAD_AT_MOST);
    assert_eq!(bob.plan(Some(&last_cursor(&first))).await.reset, None);
    assert!(stream.due() < Instant::now() + Duration::from_secs(1), "it looks for a horizon soon");

    bob.hub.update_horizon().await;
    let rest = writes(&mut stream);
    assert_eq!(messages(&rest), ROOMS - LIVE_AHEAD_AT_MOST);
    let resumed = bob.plan(Some(&last_cursor(&rest))).await;
    assert_eq!((resumed.reset, missed_rooms(&resumed)), (None, vec![]));
}

/// The bound of a cursor is one of rooms that move at the same time, not of rooms that have something missed.
#[tokio::test]
async fn catching_up_in_many_rooms_goes_on_where_it_was_cut() {
    const ROOMS: usize = AHEAD_AT_MOST + 5;
    let bob = Bob::new().await;
    let (feeds, cursor) = bob.follows(ROOMS).await;
    for feed in &feeds {
        bob.post(feed).await;
    }
    bob.hub.update_horizon().await;
    let mut stream = bob.open(Some(cursor), &feeds).await;
    let first = writes(&mut stream);
    assert_eq!(messages(&first), ROOMS);

    let cut = cursors(&first).remove(ROOMS - 3);
    // What has moved since comes, too.
    bob.post(&feeds[0]).await;
    bob.hub.update_horizon().await;
    let resumed = bob.plan(Some(&cut)).await;
    assert_eq!((resumed.reset, missed_rooms(&resumed).len()), (None, 3));
    let mut stream = bob.open(Some(cut), &feeds).await;
    let rest = writes(&mut stream);
    assert_eq!(messages(&rest), 3);
    let done = bob.plan(Some(&last_cursor(&rest))).await;
    assert_eq!((done.reset, missed_rooms(&done)), (None, vec![]));
}

/// More rooms have moved than a cursor can name, and a horizon cannot change that: the client comes back to catch up.
#[tokio::test]
async fn stream_with_too_many_moving_rooms_ends_and_goes_on() {
    const ROOMS: usize = 2 * AHEAD_AT_MOST + 5;
    let bob = Bob::new().await;
    let (feeds, cursor) = bob.follows(ROOMS).await;
    let mut stream = bob.open(Some(cursor), &feeds).await;
    for feed in &feeds {
        bob.post(feed).await;
        stream.moved(room_topic(feed.room));
    }
    let first = writes(&mut stream);
    assert_eq!(messages(&first), LIVE_AHEAD_AT_MOST);
    bob.hub.update_horizon().await;
    assert!(writes(&mut stream).is_empty(), "there are as many again to be named");
    let NextStep::End(bye) = stream.next_step(Instant::now() + Duration::from_secs(6)) else {
        panic!("it goes on");
    };
    let bye = String::from_utf8(bye.into()).unwrap();
    assert!(bye.contains(r#""reason":"too_many""#) && bye.contains("retry_ms"), "{bye}");

    let mut stream = bob.open(Some(last_cursor(&[bye])), &feeds).await;
    assert_eq!(messages(&writes(&mut stream)), ROOMS - LIVE_AHEAD_AT_MOST);
}
