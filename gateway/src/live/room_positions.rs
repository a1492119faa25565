//! Where a user's stream is in each of its rooms, and which room it looks at next.
//!
//! A room is in one stage at a time:
//!
//! ```text
//!             follow                 fall_behind
//!               │      ┌─────────────────────────────────┐
//!               ▼      │                                 ▼
//!            ┌──────────┐            catch_up         ┌────────┐
//!            │   Live   │ ◄────────────────────────── │ Behind │
//!            └──────────┘                             └────────┘
//!          show ▲    │ hide                               │ hide
//!               │    ▼                                    │
//!            ┌──────────┐                                 │
//!            │  Hidden  │ ◄───────────────────────────────┘
//!            └──────────┘
//! ```
//!
//! Two things hold at all times. Exactly the rooms that are behind wait in the queue of missed entries. And no cursor names more than
//! [`AHEAD_AT_MOST`] rooms: of a further one nothing is sent before a horizon takes others back. If that does not happen, the stream
//! [cannot go on](RoomPositions::cannot_go_on), and its client comes back to catch up.
//!
//! Each change reads the clock itself, after what it notes was read of a feed or of SQL: a horizon that was sampled later covers it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use shared::domain::{Position, RemovalCount, RoomId, RoomsVersion, Seq};

use super::hub::Horizon;
use super::user_cursor::UserCursor;
#[cfg(doc)]
use super::user_progress::AHEAD_AT_MOST;
use super::user_progress::{TooManyAhead, UserProgress};
use super::user_rooms::{Stage, StreamRoom, StreamRooms};

/// Places that the queue of rooms to visit keeps while it is empty.
const TO_VISIT_KEPT: usize = 4;

/// How long a horizon may be refused while rooms wait for one.
const REFUSED_AT_MOST: Duration = Duration::from_secs(5);

/// The rooms of one stream, and how far each was sent.
pub(super) struct RoomPositions {
    rooms: StreamRooms,
    progress: UserProgress,
    /// Rooms that may have something new, the next one first.
    to_visit: VecDeque<RoomId>,
    /// The rooms that are behind, the next one first.
    missed: VecDeque<Missed>,
    /// Since when horizons are refused: more rooms have something unsent than a cursor can name.
    refused_since: Option<Instant>,
}

/// A room of which entries were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missed {
    pub(super) room: RoomId,
    /// Of a room that was behind when the stream opened: its head then, and the position of that.
    pub(super) upto: Option<(Seq, Position)>,
}

/// One room, while entries of it are sent.
pub(super) struct Sending<'a> {
    room: &'a mut StreamRoom,
    progress: &'a mut UserProgress,
    now: Instant,
}

impl Sending<'_> {
    /// Notes that the entry after the last one that was sent is sent.
    pub(super) fn note_next(&mut self) {
        let seq = self.room.sent().next();
        self.room.note_sent(seq);
        self.progress.note_sent(self.room.id(), seq, self.now);
    }

    /// The cursor that the client has with it.
    pub(super) fn cursor(&self) -> UserCursor {
        self.progress.cursor()
    }
}

impl RoomPositions {
    /// These rooms, ascending by id, all of which may have something new. Of those in `missed` entries were missed. With those that say up to
    /// where, which are ascending likewise and above the first room of `finished`, the client has everything up to the position there; the
    /// rooms up to that one are at it already.
    pub(super) fn new(
        rooms: Vec<StreamRoom>,
        missed: Vec<Missed>,
        mut progress: UserProgress,
        (upto, upper): (RoomId, Position),
    ) -> Self {
        progress.begin_catching_up(upto, upper);
        let mut positions = Self {
            to_visit: rooms.iter().map(StreamRoom::id).collect(),
            rooms: StreamRooms::new(rooms).all_queued(),
            progress,
            missed: missed.into(),
            refused_since: None,
        };
        positions.note_caught_up();
        positions
    }

    pub(super) fn get(&self, room: RoomId) -> Option<&StreamRoom> {
        self.rooms.get(room)
    }

    pub(super) fn get_mut(&mut self, room: RoomId) -> Option<&mut StreamRoom> {
        self.rooms.get_mut(room)
    }

    /// All of them, ascending by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = &StreamRoom> {
        self.rooms.iter()
    }

    /// The cursor of what was sent so far.
    pub(super) fn cursor(&self) -> UserCursor {
        self.progress.cursor()
    }

    /// What of the user's rooms the client was told of.
    pub(super) fn version(&self) -> RoomsVersion {
        self.progress.version()
    }

    /// Notes that the client knows the user's rooms as they were then.
    pub(super) fn note_rooms_known(&mut self, version: RoomsVersion, removals: RemovalCount) {
        self.progress.note_rooms_known(version, removals);
    }

    /// Whether `count` further rooms can be followed.
    pub(super) fn can_follow(&self, count: usize) -> bool {
        self.progress.has_space_for_new(count)
    }

    /// Adds a room at what it is sent up to.
    pub(super) fn follow(&mut self, room: StreamRoom) {
        let id = room.id();
        self.progress.note_sent(id, room.sent(), Instant::now());
        self.rooms.insert(room);
        self.note_moved(id);
    }

    /// Removes a room, and returns it.
    pub(super) fn remove(&mut self, room: RoomId) -> Option<StreamRoom> {
        let removed = self.rooms.remove(room)?;
        self.progress.forget(room);
        self.forget_missed(room);
        Some(removed)
    }

    /// Sends nothing of a room up to `head`, nor what follows before it is shown. Whatever follows is looked at. True if entries behind
    /// `head` were sent. Cursors need not say so: a client that resumes is told by SQL where a hidden room goes on.
    pub(super) fn hide(&mut self, id: RoomId, head: Seq) -> bool {
        let Some(room) = self.rooms.get_mut(id) else {
            return false;
        };
        let (before, is_named) = (room.sent(), self.progress.has_space_for(id, false));
        room.set_stage(Stage::Hidden);
        room.note_sent(before.max(head));
        if is_named {
            self.progress.note_sent(id, room.sent(), Instant::now());
        }
        self.forget_missed(id);
        self.note_moved(id);
        before > head
    }

    /// Sends what follows of a room that was hidden.
    pub(super) fn show(&mut self, id: RoomId) {
        if let Some(room) = self.rooms.get_mut(id).filter(|room| room.stage() == Stage::Hidden) {
            room.set_stage(Stage::Live);
            self.note_moved(id);
        }
    }

    /// Sends nothing of a room up to `head`, if the client is not there yet.
    pub(super) fn skip_to(&mut self, id: RoomId, head: Seq) {
        if let Some(room) = self.rooms.get_mut(id) {
            let sent = room.sent().max(head);
            room.note_sent(sent);
            self.progress.note_sent(id, sent, Instant::now());
        }
    }

    /// Notes that a room is to be visited.
    pub(super) fn note_moved(&mut self, room: RoomId) {
        if self.rooms.get_mut(room).is_some_and(StreamRoom::note_queued) {
            self.to_visit.push_back(room);
        }
    }

    /// Takes the next room to visit. One that was dropped meanwhile may be among them.
    pub(super) fn next_to_visit(&mut self) -> Option<RoomId> {
        let id = self.to_visit.pop_front();
        match id.map(|id| self.rooms.get_mut(id)) {
            Some(Some(room)) => room.note_dequeued(),
            Some(None) => {}
            // Most streams are silent most of the time.
            None => self.to_visit.shrink_to(TO_VISIT_KEPT),
        }
        id
    }

    /// How many rooms are to be visited.
    pub(super) fn count_to_visit(&self) -> usize {
        self.to_visit.len()
    }

    /// Notes that entries are missing in the feed of a live room: they are read before what follows.
    pub(super) fn fall_behind(&mut self, id: RoomId) {
        if let Some(room) = self.rooms.get_mut(id).filter(|room| room.stage() == Stage::Live) {
            room.set_stage(Stage::Behind);
            self.missed.push_back(Missed { room: id, upto: None });
        }
    }

    /// The room whose missed entries come next.
    pub(super) fn next_missed(&self) -> Option<(Missed, &StreamRoom)> {
        let missed = *self.missed.front()?;
        self.rooms.get(missed.room).map(|room| (missed, room))
    }

    /// Notes that nothing is left of what the next room has missed, or that its feed brings the rest: it is live from now on.
    pub(super) fn catch_up(&mut self) {
        let Some(Missed { room: id, upto }) = self.missed.pop_front() else {
            return;
        };
        let Some(room) = self.rooms.get_mut(id) else { return };
        room.set_stage(Stage::Live);
        let sent = room.sent();
        if let Some((upto, last)) = upto {
            if sent < upto {
                // The base would say that it was sent all of it.
                self.progress.note_sent(id, sent, Instant::now());
            }
            // With what was missed, what came meanwhile may have been sent.
            self.progress.note_finished(id, (sent == upto).then_some(last));
        }
        self.note_caught_up();
        self.note_moved(id);
    }

    /// Begins to send entries of a room.
    pub(super) fn sending(&mut self, id: RoomId) -> Option<Sending<'_>> {
        Some(Sending {
            room: self.rooms.get_mut(id)?,
            progress: &mut self.progress,
            now: Instant::now(),
        })
    }

    /// Whether something of `room` may be sent now, as far as cursors can say so.
    pub(super) fn may_send(&self, room: RoomId) -> bool {
        let is_behind = || self.rooms.get(room).is_some_and(|room| room.stage() == Stage::Behind);
        self.progress.has_space_for(room, false) || is_behind() && self.progress.has_space_for(room, true)
    }

    /// Whether a horizon should be adopted.
    pub(super) fn wants_horizon(&self) -> bool {
        self.progress.wants_horizon()
    }

    /// Takes rooms back into the base of the cursor, if what is left can be named.
    pub(super) fn adopt(&mut self, horizon: Horizon) {
        let now = Instant::now();
        let unsent = self.rooms.iter().filter(|room| room.has_unsent()).map(|room| (room.id(), room.sent()));
        match self.progress.adopt(horizon, unsent, now) {
            Ok(()) => self.refused_since = None,
            Err(TooManyAhead) => _ = self.refused_since.get_or_insert(now),
        }
    }

    /// Whether rooms wait for a horizon in vain: so many move all the time, or were missed and moved again, that no cursor can say which.
    pub(super) fn cannot_go_on(&self, now: Instant) -> bool {
        if !self.progress.is_full() {
            return false;
        }
        let is_refused = self.refused_since.is_some_and(|since| now >= since + REFUSED_AT_MOST);
        let is_next_held = || self.next_missed().is_some_and(|(missed, _)| !self.may_send(missed.room));
        is_refused || self.progress.is_catching_up() && is_next_held()
    }

    fn forget_missed(&mut self, room: RoomId) {
        self.missed.retain(|missed| missed.room != room);
        self.note_caught_up();
    }

    /// Ends the catching up if no room is left of those that were behind when the stream opened.
    fn note_caught_up(&mut self) {
        if !self.missed.iter().any(|missed| missed.upto.is_some()) {
            self.progress.finish_catching_up();
        }
    }
}
