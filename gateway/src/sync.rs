//! One answer for all rooms of a user: what the stream of all rooms would bring, for a client that holds no connection.
//!
//! A client without a cursor gets its rooms by their latest activity, each with its last messages. One with a cursor gets what changed since,
//! room by room in the order of their ids. Both come in pages, and the cursor of each is one of the stream as well.

mod pages;

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use shared::domain::{Epoch, Position, RoomId, Seq, UserId};
use shared::storage::{RoomState, Store, StoreError, Window};
use tokio::time::{Instant, sleep};

use self::pages::{Entries, PageWriter};
use crate::live::{
    Base, ClientCursor, HorizonUse, Hub, PagingCursor, PlannedRoom, ResetReason, UserCursor, UserPlan, room_states,
};

/// Entries of one room in one answer. Of a room that missed more, the newest come, with the gap before them.
const ENTRIES_AT_MOST: u32 = 100;

/// How old the horizon may be, and how long a newer one is waited for.
const HORIZON_AGE: Duration = Duration::from_secs(2);
const HORIZON_WAIT: Duration = Duration::from_secs(1);
const HORIZON_LOOK: Duration = Duration::from_millis(5);

/// What a client asks for.
#[derive(Debug, Clone)]
pub struct SyncRequest {
    /// The cursor of its last answer or event.
    pub since: Option<String>,
    /// Rooms of an answer at most.
    pub rooms: u32,
    /// Messages of each room in a first answer.
    pub preview: u32,
}

/// The service of syncs.
pub struct Syncs {
    store: Store,
    hub: Hub,
    /// Keeps the horizon up to date once a client has asked.
    horizon_use: OnceLock<HorizonUse>,
}

impl Syncs {
    /// Reads `store`; `hub` knows the horizon.
    #[must_use]
    pub fn new(store: Store, hub: Hub) -> Self {
        Self {
            store,
            hub,
            horizon_use: OnceLock::new(),
        }
    }

    /// What `user` has missed, as a JSON object.
    pub async fn read(&self, user: UserId, request: &SyncRequest) -> Result<Bytes, StoreError> {
        let horizon = self.horizon().await;
        let epoch = self.hub.epoch();
        let cursor = request.since.as_deref().map(ClientCursor::parse);
        if let Some(Ok(ClientCursor::Between(cursor))) = cursor
            && cursor.all.epoch == epoch
        {
            return self.page_by_activity(user, request, cursor, None).await;
        }
        let plan = UserPlan::read(&self.store, user, request.since.as_deref(), (epoch, horizon)).await?;
        if plan.has_resumed {
            return self.changes(user, request, plan, horizon).await;
        }
        let all = UserCursor {
            epoch,
            base: plan.base,
            finished: None,
            ahead: plan.ahead,
        };
        let before = (Position(i64::MAX), RoomId(i64::MAX));
        self.page_by_activity(user, request, PagingCursor { all, before }, plan.reset).await
    }

    /// A page of a first answer.
    async fn page_by_activity(
        &self,
        user: UserId,
        request: &SyncRequest,
        mut cursor: PagingCursor,
        reset: Option<ResetReason>,
    ) -> Result<Bytes, StoreError> {
        let states = self.store.rooms_by_activity(user, Some(cursor.before), request.rooms).await?;
        let (mut more, mut page) = (states.len() >= request.rooms as usize, PageWriter::default());
        for state in states {
            // A room that is newer than the cursor comes with the next answer, which begins at the head that it tells then.
            if state.joined > cursor.all.base.version {
                cursor.before = (state.last_activity, state.room);
                continue;
            }
            let entries = self.preview(user, &state, request.preview).await?;
            if !page.push(&state, &entries, None) {
                more = true;
                break;
            }
            cursor.before = (state.last_activity, state.room);
            if state.last_activity > cursor.all.base.position {
                cursor.all.set_ahead(state.room, state.head);
            }
        }
        let next = if more { cursor.encode() } else { cursor.all.encode() };
        Ok(page.finish(&next, more, reset, &[]))
    }

    async fn preview(&self, user: UserId, state: &RoomState, count: u32) -> Result<Entries, StoreError> {
        if count == 0 {
            return Ok(Entries::default());
        }
        let window = Window::Before(Seq(i64::MAX));
        let page = self.store.history_page(state.room, Some(user), window, count, None).await?;
        let messages = page.and_then(|page| page.messages).unwrap_or_default();
        // What was stored after the state was read comes with the next answer.
        let known = messages.into_iter().filter(|message| message.seq <= state.head);
        Ok(Entries::of_messages(&state.name, &known.collect::<Vec<_>>()))
    }

    /// What changed since a cursor.
    async fn changes(
        &self,
        user: UserId,
        request: &SyncRequest,
        plan: UserPlan,
        horizon: Position,
    ) -> Result<Bytes, StoreError> {
        let concerned = |room: &&PlannedRoom| (room.has_changed || room.has_missed()) && !room.is_hidden();
        let mut rooms: Vec<&PlannedRoom> = plan.rooms.iter().filter(concerned).collect();
        let gone = plan.names_gone();
        if rooms.is_empty() && gone.is_empty() {
            let since = request.since.clone().unwrap_or_default();
            return Ok(PageWriter::default().finish(&since, false, None, &[]));
        }
        let is_cut = rooms.len() > request.rooms as usize;
        rooms.truncate(request.rooms as usize);
        let ids: Vec<_> = rooms.iter().map(|room| room.followed.room.id).collect();
        let mut states = room_states(&self.store, user, &ids).await?;
        plan.begin_at_plan(&mut states);
        let mut next = Next::new(&plan, self.hub.epoch(), horizon);
        let mut page = PageWriter::default();
        for room in rooms {
            let Some(state) = states.iter().find(|state| state.room == room.followed.room.id) else {
                // Lost since the plan was read: the next answer says so.
                next.passed(room, room.after);
                continue;
            };
            let (entries, from) = self.entries(room).await?;
            let gap = (from > room.after).then(|| (room.after.next(), from));
            if !page.push(state, &entries, gap) {
                return Ok(page.finish(&next.between().encode(), true, None, &gone));
            }
            next.passed(room, entries.last.unwrap_or(from));
        }
        let cursor = if is_cut { next.between() } else { next.all() };
        Ok(page.finish(&cursor.encode(), is_cut, None, &gone))
    }

    /// The entries that a client has missed in a room, the newest if they are many; and the last one before them.
    async fn entries(&self, room: &PlannedRoom) -> Result<(Entries, Seq), StoreError> {
        let head = room.followed.head.seq;
        let from = Seq(room.after.0.max(head.0 - i64::from(ENTRIES_AT_MOST)));
        if from >= head {
            return Ok((Entries::default(), head.max(room.after)));
        }
        let entries = self.store.entries_after(room.followed.room.id, from, ENTRIES_AT_MOST).await?;
        let entries = Entries::of(&room.followed.room.name, &entries);
        let from = entries.first.map_or(from, |first| Seq(first.0 - 1));
        Ok((entries, from))
    }

    /// A horizon that is not old, if there is one soon.
    async fn horizon(&self) -> Position {
        self.horizon_use.get_or_init(|| self.hub.use_horizon());
        let began = Instant::now();
        loop {
            let horizon = self.hub.horizon();
            if let Some(horizon) = horizon.filter(|horizon| horizon.sampled_at.elapsed() <= HORIZON_AGE) {
                return horizon.position;
            }
            if began.elapsed() >= HORIZON_WAIT {
                return horizon.map_or(Position(0), |horizon| horizon.position);
            }
            self.hub.want_horizon();
            sleep(HORIZON_LOOK).await;
        }
    }
}

/// The cursor after each room of an answer.
struct Next {
    /// What the client has of the rooms that the answer has not come to.
    before: UserCursor,
    /// What it has of those that it has.
    upper: Base,
    last: Option<RoomId>,
    /// The rooms above the upper base, as they were read.
    above: Vec<(RoomId, Seq)>,
}

impl Next {
    fn new(plan: &UserPlan, epoch: Epoch, horizon: Position) -> Self {
        let upper = Base {
            position: horizon.max(plan.cursor_base.position),
            ..plan.base
        };
        let above = plan.rooms.iter().filter(|room| room.followed.position > upper.position);
        Self {
            before: UserCursor {
                epoch,
                base: plan.cursor_base,
                finished: None,
                ahead: plan.ahead.clone(),
            },
            upper,
            last: None,
            above: above.map(|room| (room.followed.room.id, room.followed.head.seq)).collect(),
        }
    }

    /// The answer has `room`, up to `seq`.
    fn passed(&mut self, room: &PlannedRoom, seq: Seq) {
        let id = room.followed.room.id;
        self.last = Some(id);
        self.above.retain(|(above, _)| *above != id);
        if seq == room.followed.head.seq && room.followed.position <= self.upper.position {
            self.before.remove_ahead(id);
        } else {
            self.before.set_ahead(id, seq);
            self.above.push((id, seq));
        }
    }

    /// The cursor if rooms are left.
    fn between(mut self) -> UserCursor {
        self.before.finished = self.last.map(|last| (last, self.upper));
        self.before
    }

    /// The cursor if none is left.
    fn all(self) -> UserCursor {
        let mut cursor = UserCursor {
            base: self.upper,
            finished: None,
            ahead: Vec::new(),
            epoch: self.before.epoch,
        };
        for (room, seq) in self.above {
            cursor.set_ahead(room, seq);
        }
        cursor
    }
}
