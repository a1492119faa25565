//! One client's stream of all rooms of its user: how far each was sent, and what moves or ends it.
//!
//! It is a source of the fan-out like [`super::LiveStream`], and follows the same feeds. The events of a room are those of the room's own
//! stream but for their ids, which are this client's alone, so it copies them into segments of its own.
//!
//! In each step it does the first of these for which there is something to do:
//!
//! ```text
//! end ──► rooms lost ──► events of its own ──► rooms changed: read SQL ──► live entries ──► missed entries, room by room ──► ping
//! ```
//!
//! Missed entries come after live ones, so a long catch-up holds nobody up. Those of one room stay in order all the same: a room is in one
//! stage at a time.

mod missed;
mod opening;
mod pauses;
mod refresh;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt as _;
use shared::domain::{RoomId, Seq, Timestamp};
use shared::storage::{Store, StoreError};

use self::missed::History;
pub use self::opening::UserOpened;
use self::pauses::Pauses;
pub(super) use self::refresh::Refreshed;
pub use self::refresh::room_states;
use super::bye_reason::ByeReason;
use super::event_kind::Kind;
use super::feed::FeedRead;
use super::frame::{self, Framing};
use super::hub::{HorizonUse, Hub, OpenError};
use super::room_positions::RoomPositions;
use super::stream_events::{Bye, Ping};
use super::stream_filter::StreamFilter;
use super::stream_quota::StreamLease;
use super::stream_registry::RegisteredStream;
use super::stream_start::StreamEnd;
use super::topics::room_topic;
use super::user_events::{OwnEvent, Typing};
use super::user_inbox::{Lost, PendingNotices, UserInbox};
use super::user_rooms::{Stage, StreamRoom};
use crate::fanout::{NextStep, Source, Topic, TopicChanges, TopicWaker};
use crate::history::HistoryRates;
use crate::message_json::rfc3339;

/// When a client should come back, in milliseconds. Each gets another time, so that they do not come together.
const RETRY_MS: std::ops::RangeInclusive<u32> = 2_000..=5_000;

/// Bytes after which a segment is not made longer. They are this client's alone, and a client that reads nothing keeps them.
const SEGMENT_BYTES: usize = 16 * 1024;

/// One client's stream of all rooms of its user.
pub struct UserStream {
    hub: Hub,
    store: Store,
    registered: Arc<RegisteredStream>,
    inbox: Arc<UserInbox>,
    /// Released with the last event, so that a client that comes back at once finds a lease free.
    lease: Option<StreamLease>,
    _horizon_use: HorizonUse,
    /// When it was opened: what is never replayed was not there before.
    began: Instant,
    heartbeat: Duration,
    framing: Framing,
    filter: StreamFilter,
    rooms: RoomPositions,
    /// How many were noted as typing when the client was told last, of the rooms where somebody types.
    typists_seen: BTreeMap<RoomId, u16>,
    /// Events of its own that come next.
    events: VecDeque<OwnEvent>,
    /// What it is to follow from now on, if that has changed.
    topic_changes: Option<Box<TopicChanges>>,
    refresh: RefreshState,
    /// A fetch is under way.
    is_fetching: bool,
    /// There are more new rooms than a cursor can name: the client has to come back to be told of them.
    has_too_many: bool,
    /// A segment read from history, to be sent next.
    history: Option<Box<History>>,
    pauses: Pauses,
    rates: HistoryRates,
    messages_left: Option<u32>,
    ping_at: Instant,
    end: StreamEnd,
}

/// How far the stream knows what rooms its user has.
#[derive(Default)]
struct RefreshState {
    /// How often the rooms had changed when SQL was asked last.
    seen_changes: u64,
    /// SQL is to be asked whatever has changed.
    is_due: bool,
    /// Nothing may be sent before SQL was asked: rooms were lost that the stream does not know by name.
    must_wait: bool,
    query: RoomsQuery,
    /// What was lost while SQL is being asked: its answer may be older.
    lost: Vec<Lost>,
}

/// The question to SQL which rooms the user has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum RoomsQuery {
    /// None is under way.
    #[default]
    Idle,
    /// One is under way, and its answer covers all losses that are known of.
    Covering,
    /// One is under way, and rooms were lost since that the stream does not know by name: its answer may be older.
    Outdated,
}

/// What a fetch brings.
pub enum UserFetched {
    /// A segment of a room's history after a seq, in chunks.
    Segment(RoomId, Seq, Bytes),
    /// The entry of the room after this seq is missing, though it was there.
    Damaged(RoomId, Seq),
    /// What rooms the user has now.
    Rooms(Box<Refreshed>),
    /// History could not be read now.
    HistoryUnavailable,
    /// What rooms the user has could not be read now.
    RoomsUnavailable,
}

/// Why SQL could not be asked for the rooms.
#[derive(Debug, thiserror::Error)]
pub(super) enum RefreshError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl UserStream {
    /// Why the stream ends now, if it does.
    fn reason_to_end(&self, now: Instant) -> Option<ByeReason> {
        if self.messages_left == Some(0) {
            return Some(ByeReason::Bounded);
        }
        let is_stuck = || self.has_too_many || self.rooms.cannot_go_on(now);
        let reason = self.registered.must_end().or_else(|| (now >= self.end.at).then_some(self.end.reason));
        reason.or_else(|| is_stuck().then_some(ByeReason::TooMany))
    }

    /// Takes what others have left for the stream.
    fn apply_pending(&mut self) {
        let Some(PendingNotices {
            lost,
            has_lost_others,
            ephemeral,
        }) = self.inbox.take()
        else {
            return;
        };
        if has_lost_others {
            self.refresh.must_wait = true;
            if self.refresh.query == RoomsQuery::Covering {
                self.refresh.query = RoomsQuery::Outdated;
            }
        }
        for lost in lost {
            self.note_lost(lost);
        }
        let shown = ephemeral.into_iter().filter(|event| self.filter.shows(event.kind));
        self.events.extend(shown.map(OwnEvent::Ephemeral));
    }

    fn note_lost(&mut self, lost: Lost) {
        if self.refresh.query != RoomsQuery::Idle {
            self.refresh.lost.push(lost);
        }
        let room = match lost {
            Lost::Room(room) => self.rooms.get(room),
            Lost::Membership(room, membership) => self.rooms.get(room).filter(|room| room.is_by(membership)),
        };
        if let Some(room) = room.map(StreamRoom::id) {
            let gone = self.drop_room(room);
            self.events.extend(gone);
        }
    }

    /// Ends a room for this stream; returns what the client is told.
    fn drop_room(&mut self, room: RoomId) -> Option<OwnEvent> {
        let dropped = self.rooms.remove(room)?;
        self.typists_seen.remove(&room);
        let changes = self.topic_changes.get_or_insert_default();
        changes.added.retain(|topic| *topic != room_topic(room));
        changes.dropped.push(room_topic(room));
        let name = dropped.feed.name.to_string();
        // The client does not know of a room that is hidden.
        (dropped.stage() != Stage::Hidden).then(|| OwnEvent::gone(name))
    }

    /// The events of its own that come next; empty if the client does not want them.
    fn own_events(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < SEGMENT_BYTES
            && let Some(event) = self.events.pop_front()
        {
            if let Some((version, removals)) = event.rooms_known() {
                self.rooms.note_rooms_known(version, removals);
            }
            if self.filter.shows(event.kind()) {
                let id = event.has_id().then(|| self.rooms.cursor().encode());
                frame::push_framed(&mut out, self.framing, |out| event.write(out, id.as_deref()));
            }
        }
        out
    }

    /// Live entries of the rooms that moved, as one segment; empty if there are none. Afterwards only rooms that wait for a horizon are to be
    /// visited, unless there was too much for one segment.
    fn live_entries(&mut self, now: Instant) -> Vec<u8> {
        let (mut out, mut held) = (Vec::new(), Vec::new());
        while out.len() < SEGMENT_BYTES
            && self.messages_left != Some(0)
            && let Some(room) = self.rooms.next_to_visit()
        {
            if !self.rooms.may_send(room) && held.is_empty() {
                self.adopt_horizon();
            }
            if self.rooms.may_send(room) {
                self.read_live(room, &mut out, now);
            } else {
                held.push(room);
            }
        }
        if !held.is_empty() {
            self.hub.want_horizon();
            self.pauses.poll_horizon(now);
        }
        for room in held {
            self.rooms.note_moved(room);
        }
        out
    }

    fn read_live(&mut self, id: RoomId, out: &mut Vec<u8>, now: Instant) {
        let Some(room) = self.rooms.get(id) else { return };
        match room.stage() {
            Stage::Behind => return,
            Stage::Hidden => {
                self.refresh.is_due |= room.feed.head() > room.sent();
                return;
            }
            Stage::Live => {}
        }
        match room.feed.read_after(room.sent(), usize::MAX, Framing::Chunked) {
            // Nothing else is left of the room.
            FeedRead::UpToDate => self.push_typing(id, out, now),
            FeedRead::Frames(segment, _) => {
                self.copy_entries(id, &segment, out);
                // There may be more, or it was cut at the end of the segment.
                self.rooms.note_moved(id);
            }
            FeedRead::Behind(_) => self.rooms.fall_behind(id),
        }
    }

    /// Adds who types in a room, of whom the client was not told.
    fn push_typing(&mut self, id: RoomId, out: &mut Vec<u8>, now: Instant) {
        let Some(room) = self.rooms.get(id).filter(|_| self.filter.shows(Kind::Typing)) else {
            return;
        };
        let Some((notices, seen)) = room.feed.typists_after(self.typists_seen.get(&id).copied(), (self.began, now))
        else {
            self.typists_seen.remove(&id);
            return;
        };
        self.typists_seen.insert(id, seen);
        for notice in notices.iter().filter(|notice| notice.user != self.registered.user) {
            let data = Typing {
                name: &room.feed.name,
                username: &notice.username,
                typing: notice.is_typing,
            };
            frame::push_framed(out, self.framing, |out| frame::push_event(out, Kind::Typing, None::<&str>, &data));
        }
    }

    /// Shows nobody as typing in a room who was noted before: it comes to the stream now.
    fn pass_over_typists(&mut self, id: RoomId) {
        let count = self.rooms.get(id).and_then(|room| room.feed.typist_count(Instant::now()));
        if let Some(count) = count {
            self.typists_seen.insert(id, count);
        }
    }

    /// Copies the entries of `segment`, the first of which follows what was sent of the room, each with the cursor that the client has with it.
    /// Returns how many bytes it has copied: as many as fit.
    fn copy_entries(&mut self, room: RoomId, segment: &[u8], out: &mut Vec<u8>) -> usize {
        self.adopt_horizon();
        let Some(mut sending) = self.rooms.sending(room) else {
            return 0;
        };
        let mut copied = 0;
        while out.len() < SEGMENT_BYTES
            && self.messages_left != Some(0)
            && let Some((lines, bytes)) = frame::split_first(&segment[copied..])
        {
            copied += bytes;
            sending.note_next();
            if self.filter.shows_entry(lines) {
                frame::push_with_id(out, self.framing, lines, &sending.cursor().encode());
                if let Some(left) = self.messages_left.as_mut().filter(|_| frame::is_message(lines)) {
                    *left -= 1;
                }
            }
        }
        copied
    }

    /// Takes rooms back into the base of the cursor, if there are many ahead of it.
    fn adopt_horizon(&mut self) {
        if !self.rooms.wants_horizon() {
            return;
        }
        if let Some(horizon) = self.hub.horizon() {
            self.rooms.adopt(horizon);
        }
        if self.rooms.wants_horizon() {
            self.hub.want_horizon();
        }
    }

    fn write(&mut self, out: Vec<u8>, now: Instant) -> NextStep<UserFetched> {
        self.ping_at = now + self.heartbeat;
        NextStep::Write(out.into())
    }

    /// Has the stream asked again after others, though it has nothing to write now.
    fn go_on(&mut self, now: Instant) -> NextStep<UserFetched> {
        if now >= self.ping_at {
            return self.ping(now);
        }
        NextStep::Write(Bytes::new())
    }

    fn ping(&mut self, now: Instant) -> NextStep<UserFetched> {
        self.adopt_horizon();
        let data = Ping {
            server_time: rfc3339(Timestamp::now()),
        };
        let ping = self.event(Kind::Ping, &data);
        self.write(ping, now)
    }

    fn bye(&mut self, reason: ByeReason) -> NextStep<UserFetched> {
        self.lease = None;
        let data = Bye {
            reason,
            retry_ms: reason.may_come_back().then(|| rand::rng().random_range(RETRY_MS)),
        };
        NextStep::End(self.event(Kind::Bye, &data).into())
    }

    fn event(&self, kind: Kind, data: &impl serde::Serialize) -> Vec<u8> {
        let (mut out, id) = (Vec::new(), self.rooms.cursor().encode());
        frame::push_framed(&mut out, self.framing, |out| frame::push_event(out, kind, Some(id), data));
        out
    }

    /// Whether a fetch may begin now.
    fn may_fetch(&self) -> bool {
        !self.is_fetching && self.pauses.may_fetch()
    }

    /// Whether missed entries must wait for the rate at which the user may read. They are asked for again when the wait is over.
    fn must_wait_for_rate(&mut self, now: Instant) -> bool {
        let Some(delay) = self.rates.of(self.registered.user).and_then(|rate| rate.delay(now)) else {
            return false;
        };
        self.pauses.delay_replay(now, delay);
        true
    }
}

impl Source for UserStream {
    type Fetched = UserFetched;

    fn topics(&self) -> Vec<Topic> {
        let rooms = self.rooms.iter().map(|room| room_topic(room.id()));
        rooms.chain([self.inbox.topic.topic()]).collect()
    }

    fn subscribe(&self, topic: Topic, waker: &Arc<TopicWaker>) {
        if topic == self.inbox.topic.topic() {
            self.inbox.topic.add_waker(waker);
        } else if let Some(room) = self.rooms.get(RoomId(topic)) {
            room.feed.add_waker(waker);
        }
    }

    fn moved(&mut self, topic: Topic) {
        self.rooms.note_moved(RoomId(topic));
    }

    fn must_end(&self, now: Instant) -> bool {
        self.reason_to_end(now).is_some()
    }

    async fn ended(&self) {
        self.registered.ended().await;
    }

    fn due(&self) -> Instant {
        let pause = self.pauses.first_end().into_iter();
        pause.fold(self.ping_at.min(self.end.at), Instant::min)
    }

    fn next_step(&mut self, now: Instant) -> NextStep<UserFetched> {
        if let Some(reason) = self.reason_to_end(now) {
            return self.bye(reason);
        }
        self.pauses.end(now);
        self.apply_pending();
        if let Some(changes) = self.topic_changes.take() {
            return NextStep::Follow(*changes);
        }
        let out = self.own_events();
        if !out.is_empty() {
            return self.write(out, now);
        }
        if self.must_refresh() && self.may_fetch() {
            return self.fetch_rooms();
        }
        if !self.refresh.must_wait {
            // After the checks above: a client that lost a room during the read gets none of it.
            if let Some(step) = self.history_entries(now) {
                return step;
            }
            let out = self.live_entries(now);
            if !out.is_empty() {
                return self.write(out, now);
            }
            // These wait for a horizon.
            let waiting = self.rooms.count_to_visit();
            if self.rooms.next_missed().is_some()
                && self.may_fetch()
                && self.pauses.may_replay()
                && !self.must_wait_for_rate(now)
                && let Some(step) = self.missed_entries(now)
            {
                return step;
            }
            // What was read may have more to do: a room that has caught up may have moved meanwhile.
            let has_moved = self.rooms.count_to_visit() > waiting;
            if has_moved || !self.events.is_empty() || self.must_refresh() && self.may_fetch() {
                return self.next_step(now);
            }
        }
        if now >= self.ping_at {
            return self.ping(now);
        }
        NextStep::Wait
    }

    fn apply(&mut self, fetched: UserFetched, now: Instant) {
        self.is_fetching = false;
        let query = std::mem::take(&mut self.refresh.query);
        match fetched {
            UserFetched::Segment(room, after, segment) => {
                self.history = Some(Box::new(History { room, after, segment }));
            }
            UserFetched::Damaged(room, after) => self.skip_damage(room, after),
            UserFetched::Rooms(refreshed) => self.apply_rooms(*refreshed, query),
            UserFetched::HistoryUnavailable => self.pauses.retry_fetch(now),
            UserFetched::RoomsUnavailable => {
                self.refresh.is_due = true;
                self.pauses.retry_fetch(now);
            }
        }
    }
}
