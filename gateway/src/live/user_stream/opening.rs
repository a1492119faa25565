//! How a user's stream begins: what it is made of, and its first bytes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::RngExt as _;
use shared::domain::{Position, RoomId, Timestamp};
use shared::storage::{RoomState, Store};

use super::pauses::Pauses;
use super::{RETRY_MS, RefreshState, UserStream};
use crate::history::HistoryRates;
use crate::live::event_kind::Kind;
use crate::live::frame::{self, Framing};
use crate::live::hub::{HorizonUse, Hub, OpenFeed};
use crate::live::room_positions::{Missed, RoomPositions};
use crate::live::stream::StreamSettings;
use crate::live::stream_events::ResetReason;
use crate::live::stream_filter::StreamFilter;
use crate::live::stream_quota::StreamLease;
use crate::live::stream_registry::RegisteredStream;
use crate::live::stream_start::{StreamBounds, StreamEnd};
use crate::live::user_cursor::{self, UserCursor};
use crate::live::user_events::{NamedRoom, OwnEvent, Reset, RoomUpdate, UserReady};
use crate::live::user_inbox::UserInbox;
use crate::live::user_plan::{PlannedRoom, UserPlan};
use crate::live::user_progress::UserProgress;
use crate::live::user_rooms::{Stage, StreamRoom};
use crate::message_json::rfc3339;

/// Rooms that one event tells of.
pub(super) const ROOMS_AN_EVENT: usize = 50;

/// What a user's stream is made of. The last of the steps in which [`crate::streams`] opens one makes it.
pub struct UserOpened {
    /// Reads what feeds do not keep, and opens the feeds of rooms that come.
    pub hub: Hub,
    /// Says which rooms the user has.
    pub store: Store,
    /// Its lease, held for as long as the stream lives.
    pub lease: StreamLease,
    /// Its entry in the registry.
    pub registered: Arc<RegisteredStream>,
    /// What others leave for it.
    pub inbox: Arc<UserInbox>,
    /// How often the user's rooms had changed before the plan was read.
    pub seen_changes: u64,
    /// What the client has missed. Only rooms that it wants are in it.
    pub plan: UserPlan,
    /// The feeds of the rooms, in their order.
    pub feeds: Vec<OpenFeed>,
    /// What the rooms are that the client is told of.
    pub states: Vec<RoomState>,
    /// Of all rooms everything up to here was stored before the plan was read.
    pub horizon: Position,
    /// Keeps the horizon up to date.
    pub horizon_use: HorizonUse,
    /// The cursor that the client sent.
    pub cursor: Option<String>,
    /// What it wants.
    pub filter: StreamFilter,
    /// When the token of its client expires.
    pub expires_on: Timestamp,
    /// How fast missed entries may be replayed.
    pub rates: HistoryRates,
}

impl UserStream {
    /// Starts a stream, at `now` by the clock of tokens. Returns its first bytes, too.
    #[must_use]
    pub fn new(
        opened: UserOpened,
        bounds: StreamBounds,
        settings: StreamSettings,
        now: Timestamp,
        framing: Framing,
    ) -> (Self, Bytes) {
        let (began, mut random) = (Instant::now(), rand::rng());
        opened.inbox.note_rooms_read(opened.plan.base.version);
        let plan = &opened.plan;
        let finished = plan.finished.unwrap_or((RoomId(0), opened.horizon));
        let progress = UserProgress::new(plan.epoch, plan.base, plan.ahead.iter().copied(), began);
        let states: HashMap<RoomId, _> = opened.states.iter().map(|state| (state.room, state)).collect();
        let rooms = plan.rooms.iter().zip(opened.feeds.iter().cloned()).map(|(planned, feed)| {
            let mut room = StreamRoom::new(&planned.followed, feed, planned.after, stage_of(planned));
            if let Some(state) = states.get(&room.id()) {
                room.note_read(state.read_seq);
                room.note_settings(state);
            }
            room
        });
        let rooms = RoomPositions::new(rooms.collect(), missed_rooms(plan, finished.0), progress, finished);
        let ready = Ready {
            opened: &opened,
            heartbeat_s: settings.heartbeat.as_secs(),
            now,
        };
        let opening = ready.encode(&rooms.cursor(), random.random_range(RETRY_MS));
        let stream = Self {
            typists_seen: BTreeMap::new(),
            rooms,
            events: VecDeque::new(),
            topic_changes: None,
            refresh: RefreshState {
                seen_changes: opened.seen_changes,
                ..RefreshState::default()
            },
            began,
            heartbeat: settings.heartbeat,
            is_fetching: false,
            has_too_many: false,
            history: None,
            pauses: Pauses::default(),
            messages_left: bounds.messages,
            ping_at: began + settings.heartbeat,
            end: StreamEnd::first(began, (settings.max_age, random.random()), (opened.expires_on, now), bounds),
            framing,
            hub: opened.hub,
            store: opened.store,
            registered: opened.registered,
            inbox: opened.inbox,
            lease: Some(opened.lease),
            _horizon_use: opened.horizon_use,
            filter: opened.filter,
            rates: opened.rates,
        };
        (stream, opening)
    }
}

/// The rooms of which entries were missed. First come those behind `upto`, which the client has not caught up with since it began to: then
/// those that have moved since they were finished.
fn missed_rooms(plan: &UserPlan, upto: RoomId) -> Vec<Missed> {
    let missed = plan.rooms.iter().map(|planned| (planned, planned.followed.room.id));
    let missed = missed.filter(|(planned, _)| planned.has_missed());
    let (left, moved): (Vec<_>, Vec<_>) = missed.partition(|(_, room)| *room > upto);
    let left = left.into_iter().map(|(planned, room)| Missed {
        room,
        upto: Some((planned.followed.head.seq, planned.followed.position)),
    });
    let moved = moved.into_iter().map(|(_, room)| Missed { room, upto: None });
    left.chain(moved).collect()
}

fn stage_of(planned: &PlannedRoom) -> Stage {
    if planned.has_missed() {
        Stage::Behind
    } else if planned.is_hidden() {
        Stage::Hidden
    } else {
        Stage::Live
    }
}

/// The first events of a stream.
struct Ready<'a> {
    opened: &'a UserOpened,
    heartbeat_s: u64,
    now: Timestamp,
}

impl Ready<'_> {
    /// The first bytes. Until the last event the client has what it had before: a cut in between loses none of them.
    fn encode(&self, cursor: &UserCursor, retry_ms: u32) -> Bytes {
        let mut out = frame::prelude(retry_ms);
        let before = self.opened.cursor.as_deref().filter(|_| self.opened.plan.has_resumed);
        let before = before.unwrap_or(user_cursor::START);
        let after = cursor.encode();
        let events = self.events();
        let count = events.len();
        for (number, event) in events.into_iter().enumerate() {
            let id = if number + 1 == count { &after } else { before };
            event.write(&mut out, Some(id));
        }
        out.into()
    }

    fn events(&self) -> Vec<OwnEvent> {
        let plan = &self.opened.plan;
        let updates = self.updates();
        let mut pages = updates.chunks(ROOMS_AN_EVENT);
        // A client that begins anew gets all its rooms in events of their own.
        let first = if plan.has_resumed { pages.next() } else { None };
        let ready = UserReady {
            session: self.opened.registered.session.0.to_string(),
            recovered: plan.has_resumed,
            heartbeat_s: self.heartbeat_s,
            server_time: rfc3339(self.now),
            rooms: first.unwrap_or_default().to_vec(),
        };
        let mut events = vec![OwnEvent::ready(&ready)];
        events.extend(self.resets().iter().map(OwnEvent::reset));
        if self.opened.filter.shows(Kind::Rooms) {
            events.extend(pages.map(OwnEvent::rooms));
        }
        events
    }

    /// What became of the rooms that the client does not know as they are.
    fn updates(&self) -> Vec<RoomUpdate> {
        let gone = self.opened.plan.gone_or_hidden().into_iter().map(|gone| RoomUpdate::Gone(gone.name));
        gone.chain(self.opened.states.iter().cloned().map(RoomUpdate::State)).collect()
    }

    fn resets(&self) -> Vec<Reset> {
        let plan = &self.opened.plan;
        let reset = |reason, concerns: &dyn Fn(&PlannedRoom) -> bool| {
            let rooms = plan.rooms.iter().filter(|room| concerns(room) && !room.is_hidden());
            let rooms = rooms.map(|room| NamedRoom {
                name: room.followed.room.name.clone(),
                head: room.followed.head.seq,
            });
            Reset {
                reason,
                rooms: rooms.collect(),
            }
        };
        let of_all = plan.reset.map(|reason| reset(reason, &|_| true));
        let is_any_ahead = plan.rooms.iter().any(|room| room.is_ahead);
        let of_some = is_any_ahead.then(|| reset(ResetReason::Ahead, &|room| room.is_ahead));
        of_all.into_iter().chain(of_some).collect()
    }
}
