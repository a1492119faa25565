//! One answer for all rooms of a user: what the stream of all rooms would bring, for a client that holds no connection.
//!
//! A client without a cursor gets its rooms by their latest activity, each with its last messages. One with a cursor gets what changed since,
//! room by room in the order of their ids. Both come in pages, and the cursor of each is one of the stream as well.

mod cursor;
mod pages;

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use bytes::Bytes;
use shared::domain::{Position, RoomEntry, RoomId, Seq, StoredMessage, UserId};
use shared::storage::{GoneRoom, RoomState, Store};

use self::cursor::SyncCursor;
pub use self::pages::GONE_AT_MOST;
use self::pages::{Entries, PageWriter};
use crate::history::{HistoryPages, ReadError};
use crate::live::{
    ClientCursor, HorizonUse, Hub, PagingCursor, PlannedRoom, ResetReason, UserCursor, UserPlan, room_states,
};

/// Entries of one room in one answer. Of a room that missed more, the newest come, with the gap before them.
const ENTRIES_AT_MOST: u32 = 100;

/// Rooms whose last messages are read at once.
const ROOMS_AT_ONCE: usize = 20;

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

/// What an answer may have, ascending by id: rooms that changed, and rooms that are gone.
struct Part<'a> {
    rooms: Vec<&'a PlannedRoom>,
    gone: Vec<GoneRoom>,
}

impl Part<'_> {
    fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.gone.is_empty()
    }
}

/// The service of syncs.
pub struct Syncs {
    store: Store,
    hub: Hub,
    /// Reads messages and entries, at the rate that a user may read at.
    history: HistoryPages,
    /// Keeps the horizon up to date once a client has asked.
    horizon_use: OnceLock<HorizonUse>,
}

impl Syncs {
    /// Reads `store`, and messages through `history`; `hub` knows the horizon.
    #[must_use]
    pub fn new(store: Store, hub: Hub, history: HistoryPages) -> Self {
        Self {
            store,
            hub,
            history,
            horizon_use: OnceLock::new(),
        }
    }

    /// What `user` has missed, as a JSON object.
    pub async fn read(&self, user: UserId, request: &SyncRequest) -> Result<Bytes, ReadError> {
        self.horizon_use.get_or_init(|| self.hub.use_horizon());
        // Read first: a cursor of an epoch that is over is refused, and one of a new epoch with older positions would not be.
        let epoch = self.hub.epoch();
        let horizon = self.hub.recent_horizon().await;
        let cursor = request.since.as_deref().map(ClientCursor::parse);
        if let Some(Ok(ClientCursor::Between(cursor))) = cursor
            && cursor.all.epoch == epoch
        {
            return self.page_by_activity(user, request, cursor, None).await;
        }
        let mut plan =
            UserPlan::read((&self.store, &self.hub), user, request.since.as_deref(), (epoch, horizon)).await?;
        if plan.rooms.iter().any(|room| room.is_ahead) {
            plan = UserPlan::read((&self.store, &self.hub), user, None, (epoch, horizon)).await?;
            plan.reset = Some(ResetReason::Ahead);
        }
        if let Some(cursor) = plan.cursor.take() {
            return self.changes(user, request, &plan, horizon, SyncCursor::new(cursor, &plan, horizon)).await;
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
    ) -> Result<Bytes, ReadError> {
        let states = self.store.rooms_by_activity(user, Some(cursor.before), request.rooms).await?;
        let (mut more, mut page) = (states.len() >= request.rooms as usize, PageWriter::default());
        'rooms: for some in states.chunks(ROOMS_AT_ONCE) {
            let mut previews = self.previews(user, some, request.preview).await?;
            for state in some {
                // A room that is newer than the cursor comes with the next answer, which begins at the head that it tells then.
                if state.joined > cursor.all.base.version {
                    cursor.before = (state.last_activity, state.room);
                    continue;
                }
                if !page.push(state, &preview(state, previews.remove(&state.room)), None) {
                    more = true;
                    break 'rooms;
                }
                cursor.before = (state.last_activity, state.room);
                if state.last_activity > cursor.all.base.position {
                    cursor.all.set_ahead(state.room, state.head);
                }
            }
        }
        let next = if more { cursor.encode() } else { cursor.all.encode() };
        Ok(page.finish(&next, more, reset))
    }

    /// The last messages of rooms, at most `each`.
    async fn previews(
        &self,
        user: UserId,
        states: &[RoomState],
        each: u32,
    ) -> Result<HashMap<RoomId, Vec<StoredMessage>>, ReadError> {
        if each == 0 {
            return Ok(HashMap::new());
        }
        let rooms: Vec<RoomId> = states.iter().map(|state| state.room).collect();
        self.history.newest(user, &rooms, each).await
    }

    /// What changed since a cursor: in the rooms that no answer has brought yet, and then, if there is room, in those that an earlier one
    /// has brought.
    async fn changes(
        &self,
        user: UserId,
        request: &SyncRequest,
        plan: &UserPlan,
        horizon: Position,
        mut cursor: SyncCursor,
    ) -> Result<Bytes, ReadError> {
        let concerned = |room: &&PlannedRoom| (room.has_changed || room.has_missed()) && !room.is_hidden();
        let (now, again) = plan.rooms.iter().filter(concerned).partition(|room| cursor.comes_now(room));
        let (gone_now, gone_again) = plan.gone_or_hidden().into_iter().partition(|gone| cursor.names_now(gone));
        let now = Part {
            rooms: now,
            gone: gone_now,
        };
        let again = Part {
            rooms: again,
            gone: gone_again,
        };
        if now.is_empty() && again.is_empty() && !cursor.is_between_pages() {
            let since = request.since.clone().unwrap_or_default();
            return Ok(PageWriter::default().finish(&since, false, None));
        }
        let (mut page, mut left) = (PageWriter::default(), request.rooms as usize);
        let mut is_complete = self.push_part(user, plan, &now, &mut left, &mut cursor, &mut page).await?;
        if is_complete && !again.is_empty() {
            cursor = cursor.begin_again(plan, horizon);
            is_complete = self.push_part(user, plan, &again, &mut left, &mut cursor, &mut page).await?;
        }
        let (next, more) = if is_complete {
            cursor.after_all(plan)
        } else {
            (cursor.between_pages(plan), true)
        };
        Ok(page.finish(&next.encode(), more, None))
    }

    /// Adds a part, with at most `left` rooms; false if not all of it fits. What is gone is named first, since another room may have the name.
    async fn push_part(
        &self,
        user: UserId,
        plan: &UserPlan,
        Part { rooms, gone }: &Part<'_>,
        left: &mut usize,
        cursor: &mut SyncCursor,
        page: &mut PageWriter,
    ) -> Result<bool, ReadError> {
        let unnamed = page.push_gone(gone);
        // The next answer begins with the first that is not named.
        let end = unnamed.first().map_or(RoomId(i64::MAX), |gone| gone.room);
        let before_end = rooms.partition_point(|room| room.followed.room.id < end);
        let shown = &rooms[..before_end.min(*left)];
        *left -= shown.len();
        let ids: Vec<_> = shown.iter().map(|room| room.followed.room.id).collect();
        let mut states = room_states(&self.store, user, &ids).await?;
        plan.begin_at_plan(&mut states);
        for room in shown {
            let Some(state) = states.iter().find(|state| state.room == room.followed.room.id) else {
                // Lost since the plan was read: the next answer says so.
                cursor.advance(room, room.after);
                continue;
            };
            let (entries, from) = match self.entries(user, room).await {
                Ok(found) => found,
                // What is there is answered, so that a client gets on however slowly it may read.
                Err(ReadError::Refused(_)) if page.has_rooms() => return Ok(false),
                Err(error) => return Err(error),
            };
            let gap = (from > room.after).then(|| (room.after.next(), from));
            if !page.push(state, &entries, gap) {
                return Ok(false);
            }
            cursor.advance(room, room.followed.head.seq.max(room.after));
        }
        if shown.len() == before_end
            && let Some(named) = gone.len().checked_sub(unnamed.len() + 1).filter(|_| !unnamed.is_empty())
        {
            cursor.advance_to_gone(&gone[named]);
        }
        Ok(shown.len() == rooms.len() && unnamed.is_empty())
    }

    /// The entries that a client has missed in a room, the newest if they are many; and the last one before them.
    async fn entries(&self, user: UserId, room: &PlannedRoom) -> Result<(Entries, Seq), ReadError> {
        let head = room.followed.head.seq;
        let from = Seq(room.after.0.max(head.0 - i64::from(ENTRIES_AT_MOST)));
        let Ok(count @ 1..) = u32::try_from(head.0 - from.0) else {
            return Ok((Entries::default(), head.max(room.after)));
        };
        let entries = self.history.entries_after(user, room.followed.room.id, from, count).await?;
        if entries.len() < count as usize {
            let there: HashSet<Seq> = entries.iter().map(RoomEntry::seq).collect();
            let missing = (from.0 + 1..=head.0).map(Seq).find(|seq| !there.contains(seq));
            self.hub.report_damage(room.followed.room.id, missing.unwrap_or(head));
            // The client asks for what is left of it.
            return Ok((Entries::default(), head));
        }
        let entries = Entries::of(&room.followed.room.name, &entries);
        let from = entries.first.map_or(from, |first| Seq(first.0 - 1));
        Ok((entries, from))
    }
}

/// The last messages of a room, as far as its state knows them: what was stored after the state was read comes with the next answer.
fn preview(state: &RoomState, messages: Option<Vec<StoredMessage>>) -> Entries {
    let known = messages.into_iter().flatten().filter(|message| message.seq <= state.head);
    Entries::of_messages(&state.name, &known.collect::<Vec<_>>())
}
