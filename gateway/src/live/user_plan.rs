//! What a client has missed in its rooms, by its cursor: what a user's stream begins with, and what a call to catch up answers.
//!
//! It costs what there is to catch up. One query reads the rooms of the user with their heads; those that moved above the cursor are
//! found among them, and only of these it is looked up which of their entries the client has.

mod known;

use std::collections::{HashMap, HashSet};

use shared::domain::{Epoch, Position, RoomId, RoomKind, Seq, UserId};
use shared::storage::{FollowedRoom, GoneRoom, RoomState, Store, StoreError, UserRooms};

use self::known::{Known, gone_since, is_ahead, last_entries, parse_cursor};
pub(super) use self::known::{goes_on_after, join_seqs};
use super::hub::Hub;
use super::stream_events::ResetReason;
use super::user_cursor::{Base, UserCursor};
use super::user_progress::LIVE_AHEAD_AT_MOST;

/// What a client has missed.
pub struct UserPlan {
    /// The history that its positions belong to.
    pub epoch: Epoch,
    /// What the client has when it was given all of the plan, but for the rooms above it.
    pub base: Base,
    /// While the client catches up, by its cursor: the rooms up to this one are at this position in place of that of the base.
    pub finished: Option<(RoomId, Position)>,
    /// The cursor that it sent, if it goes on from there.
    pub cursor: Option<UserCursor>,
    /// The rooms that are at a seq of their own in a cursor with the position of this base.
    pub ahead: Vec<(RoomId, Seq)>,
    /// Why its cursor could not be used, if it was not: then it begins anew.
    pub reset: Option<ResetReason>,
    /// Whether the client had something, and goes on from there.
    pub has_resumed: bool,
    /// The rooms that the user is in now, ascending by id. Hidden ones are among them.
    pub rooms: Vec<PlannedRoom>,
    /// The rooms that the client has and the user is no longer in, ascending by id.
    pub gone: Vec<GoneRoom>,
}

/// A room of a user, and what the client has of it.
#[derive(Debug, Clone)]
pub struct PlannedRoom {
    /// The room, as it was when the plan was made.
    pub followed: FollowedRoom,
    /// The last entry that the client has. Of a room that is new to it: the entry by which the user joined, and the head if the client begins
    /// anew.
    pub after: Seq,
    /// Whether the room is another thing to the user than the client knows, or is new to it.
    pub has_changed: bool,
    /// Whether the room is new to the client: then its head in what the client is told is where it begins.
    pub is_new: bool,
    /// The cursor says that the client has entries that the room does not.
    pub is_ahead: bool,
}

impl PlannedRoom {
    /// Whether entries follow that the client does not have.
    #[must_use]
    pub fn has_missed(&self) -> bool {
        self.after < self.followed.head.seq
    }

    /// Whether the user has left this direct room, and it has no message since.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.followed.is_hidden
    }
}

impl UserPlan {
    /// Reads what `user` has missed since `cursor`. `epoch` is that of history, and was read before the rest. Of all rooms everything up to
    /// `horizon` was stored before this began.
    pub async fn read(
        (store, hub): (&Store, &Hub),
        user: UserId,
        cursor: Option<&str>,
        (epoch, horizon): (Epoch, Position),
    ) -> Result<Self, StoreError> {
        let (cursor, reset) = parse_cursor(cursor, epoch);
        let now = store.user_rooms(user).await?;
        let Some(cursor) = cursor else {
            return Self::cold_start(now, (epoch, horizon), reset);
        };
        if is_ahead(store, &cursor, &now, horizon).await? {
            return Self::cold_start(now, (epoch, horizon), Some(ResetReason::Ahead));
        }
        let known = last_entries(hub, &cursor, &now.rooms, (epoch, horizon)).await?;
        let new = now.rooms.iter().map(|followed| followed.room.id).filter(|room| !known.contains_key(room));
        let joins = join_seqs(store, user, new.collect()).await?;
        let gone = gone_since(store, user, &cursor).await?;
        let too_many = (now.rooms.len() > LIVE_AHEAD_AT_MOST).then(|| now.clone());
        let resumed = Self::resumed(cursor, now, (&known, &joins), gone);
        match too_many {
            // More rooms than a cursor can name are new to the client, or were sent further than others.
            Some(now) if resumed.ahead.len() > LIVE_AHEAD_AT_MOST => {
                Self::cold_start(now, (epoch, horizon), Some(ResetReason::TooMany))
            }
            _ => Ok(resumed),
        }
    }

    /// What a client with `cursor` has missed, which has the entries `known` of the rooms; of those that are new to it `joins` says where the
    /// user joined them. `gone` was read last, and may know of more.
    fn resumed(
        cursor: UserCursor,
        now: UserRooms,
        (known, joins): (&HashMap<RoomId, Known>, &HashMap<RoomId, Seq>),
        gone: Vec<GoneRoom>,
    ) -> Self {
        let base = Base {
            version: now.version,
            removals: now.removals,
            position: cursor.base.position,
        };
        let (mut rooms, mut ahead) = (Vec::with_capacity(now.rooms.len()), Vec::new());
        for followed in now.rooms {
            let (room, head) = (followed.room.id, followed.head.seq);
            let known = known.get(&room).copied();
            // What is not stored as joined yet is behind all that is stored.
            let has = known.map_or_else(|| joins.get(&room).copied().unwrap_or(head), |known| known.seq);
            let planned = PlannedRoom {
                has_changed: known.is_none() || followed.version > cursor.base_of(room).version,
                is_new: known.is_none(),
                is_ahead: known.is_some_and(|known| known.seq > head),
                after: goes_on_after(&followed, has),
                followed,
            };
            let is_at_base = if planned.has_missed() {
                known.is_some_and(|known| known.is_at_base && known.seq == planned.after)
            } else {
                planned.followed.position <= cursor.base_of(room).position
            };
            if !is_at_base {
                ahead.push((room, planned.after));
            }
            rooms.push(planned);
        }
        // One that the client has and that is among the rooms was lost after these were read: whoever follows them says so.
        let is_known = |gone: &GoneRoom| {
            let found = rooms.binary_search_by_key(&gone.room, |planned| planned.followed.room.id);
            found.is_ok_and(|at| !rooms[at].is_new)
        };
        let gone = gone.into_iter().filter(|gone| !is_known(gone)).collect();
        Self {
            epoch: cursor.epoch,
            base,
            finished: cursor.finished.map(|(upto, upper)| (upto, upper.position)),
            cursor: Some(cursor),
            ahead,
            reset: None,
            has_resumed: true,
            rooms,
            gone,
        }
    }

    /// The rooms that are gone for the client, lost or hidden since, ascending by id. Of several that had one name, the last one may be
    /// among the rooms again.
    #[must_use]
    pub fn gone_or_hidden(&self) -> Vec<GoneRoom> {
        let hidden = self.rooms.iter().filter(|room| self.has_resumed && room.is_hidden() && room.has_changed);
        let hidden = hidden.map(|room| GoneRoom {
            room: room.followed.room.id,
            name: room.followed.room.name.clone(),
        });
        let mut gone: Vec<GoneRoom> = self.gone.iter().cloned().chain(hidden).collect();
        gone.sort_by_key(|gone| gone.room);
        gone
    }

    /// Lets the states of rooms that are new to the client say where it begins: they were read later than the plan, and what was stored
    /// in between is sent. A direct room that was hidden is new, too, also if it was opened again since.
    pub fn begin_at_plan(&self, states: &mut [RoomState]) {
        for state in states {
            let planned = self.rooms.binary_search_by_key(&state.room, |planned| planned.followed.room.id);
            let planned = planned.ok().and_then(|at| self.rooms.get(at));
            let may_be_new = |planned: &&PlannedRoom| {
                planned.is_new
                    || (state.kind == RoomKind::Direct && planned.has_changed)
                    || planned.followed.hidden_upto.is_some()
            };
            if let Some(planned) = planned.filter(may_be_new) {
                state.head = planned.after;
            }
        }
    }

    /// The rooms that are new to the client and of which there is no state: they were lost after the plan was read, and it is told nothing
    /// of them.
    #[must_use]
    pub fn lost_since(&self, states: &[RoomState]) -> HashSet<RoomId> {
        let with_state: HashSet<RoomId> = states.iter().map(|state| state.room).collect();
        let new = self.rooms.iter().filter(|room| room.is_new && !room.is_hidden());
        new.map(|room| room.followed.room.id).filter(|room| !with_state.contains(room)).collect()
    }

    /// Keeps the rooms whose names are wanted.
    pub fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.gone.retain(|room| is_wanted(&room.name));
        self.retain_rooms(|room| is_wanted(&room.followed.room.name));
    }

    /// Keeps the rooms that are wanted, and what is gone.
    pub fn retain_rooms(&mut self, is_wanted: impl Fn(&PlannedRoom) -> bool) {
        self.rooms.retain(is_wanted);
        let rooms = &self.rooms;
        self.ahead
            .retain(|(room, _)| rooms.binary_search_by_key(room, |kept| kept.followed.room.id).is_ok());
    }

    /// What a client gets that begins anew. It fails while a transaction of others, open for long, holds the horizon back, and more rooms have
    /// moved since than a cursor can name.
    fn cold_start(
        now: UserRooms,
        (epoch, horizon): (Epoch, Position),
        reset: Option<ResetReason>,
    ) -> Result<Self, StoreError> {
        let moved = now.rooms.iter().filter(|followed| followed.position > horizon);
        let ahead: Vec<_> = moved.map(|followed| (followed.room.id, followed.head.seq)).collect();
        if ahead.len() > LIVE_AHEAD_AT_MOST {
            return Err(StoreError::held_back());
        }
        let rooms = now.rooms.into_iter().map(|followed| PlannedRoom {
            after: followed.head.seq,
            has_changed: true,
            is_new: true,
            is_ahead: false,
            followed,
        });
        Ok(Self {
            epoch,
            base: Base {
                version: now.version,
                removals: now.removals,
                position: horizon,
            },
            finished: None,
            cursor: None,
            ahead,
            reset,
            has_resumed: false,
            rooms: rooms.collect(),
            gone: Vec::new(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use shared::domain::{Epoch, MembershipId, Position, RemovalCount, RoomId, RoomsVersion, Seq, UserId};
    use shared::storage::{FollowedRoom, GoneRoom, Room, RoomHead, RoomState, UserRooms};

    use super::{Known, PlannedRoom, UserPlan};
    use crate::live::user_cursor::{Base, UserCursor};
    use crate::room_state_json::tests::direct_room;

    fn followed(id: i64, joined: i64, position: i64) -> FollowedRoom {
        FollowedRoom {
            room: Room::for_tests(RoomId(id), "lobby", UserId(1)),
            membership: MembershipId(id),
            version: RoomsVersion(joined),
            head: RoomHead::unaltered(Seq(5)),
            position: Position(position),
            hidden_upto: None,
            is_hidden: false,
            joined: RoomsVersion(joined),
            read_seq: Seq(0),
        }
    }

    /// What a user has in rooms with these ids and positions, of each of which one entry was missed. A room was joined with the version of
    /// the user's rooms if that is above 1 and the room is the last one.
    pub(crate) fn plan_for_tests(version: i64, rooms: &[(i64, i64)]) -> UserPlan {
        let last = rooms.last().map(|(id, _)| *id);
        let joined = |id| if Some(id) == last { version } else { 1 };
        let planned = |(id, position): &(i64, i64)| PlannedRoom {
            followed: followed(*id, joined(*id), *position),
            after: Seq(4),
            has_changed: false,
            is_new: false,
            is_ahead: false,
        };
        UserPlan {
            epoch: Epoch(1),
            base: Base {
                version: RoomsVersion(version),
                ..Base::default()
            },
            finished: None,
            cursor: None,
            ahead: Vec::new(),
            reset: None,
            has_resumed: true,
            rooms: rooms.iter().map(planned).collect(),
            gone: Vec::new(),
        }
    }

    /// A room of which the client has everything up to seq 2, and which was hidden at seq 4.
    fn hidden(head: i64, is_hidden: bool) -> UserPlan {
        let mut room = followed(1, 1, 90);
        (room.hidden_upto, room.is_hidden) = (Some(Seq(4)), is_hidden);
        room.head = RoomHead::unaltered(Seq(head));
        let cursor = UserCursor {
            epoch: Epoch(1),
            base: Base::default(),
            finished: None,
            ahead: vec![(RoomId(1), Seq(2))],
        };
        let now = UserRooms {
            version: RoomsVersion(1),
            removals: RemovalCount(0),
            rooms: vec![room],
        };
        let known = HashMap::from([(
            RoomId(1),
            Known {
                seq: Seq(2),
                is_at_base: false,
            },
        )]);
        UserPlan::resumed(cursor, now, (&known, &HashMap::new()), Vec::new())
    }

    #[test]
    fn what_came_before_a_direct_room_was_hidden_is_not_sent() {
        let missed = |head, is_hidden| {
            let plan = hidden(head, is_hidden);
            (plan.rooms[0].has_missed(), plan.rooms[0].after, plan.ahead)
        };
        assert_eq!(missed(4, true), (false, Seq(4), vec![(RoomId(1), Seq(4))]));
        assert_eq!(missed(5, true), (false, Seq(5), vec![(RoomId(1), Seq(5))]), "it is no message");
        assert_eq!(missed(5, false), (true, Seq(4), vec![(RoomId(1), Seq(4))]));
    }

    #[test]
    fn no_cursor_is_begun_that_would_name_too_many_rooms() {
        let begun = |rooms: i64, horizon| {
            let now = UserRooms {
                version: RoomsVersion(1),
                removals: RemovalCount(0),
                rooms: (1..=rooms).map(|id| followed(id, 1, 90)).collect(),
            };
            UserPlan::cold_start(now, (Epoch(1), Position(horizon)), None).map(|plan| plan.ahead.len())
        };
        assert_eq!(begun(499, 10).unwrap(), 499);
        assert!(begun(500, 10).unwrap_err().is_unavailable());
        assert_eq!(begun(500, 90).unwrap(), 0);
    }

    fn gone(id: i64) -> GoneRoom {
        GoneRoom {
            room: RoomId(id),
            name: format!("room-{id}"),
        }
    }

    /// A plan of a client that has room 1, to which room 2 is new, and which had room 3. All three are gone when that is read.
    fn plan_of_lost_rooms() -> UserPlan {
        let base = Base {
            version: RoomsVersion(10),
            removals: RemovalCount(0),
            position: Position(100),
        };
        let cursor = UserCursor {
            epoch: Epoch(1),
            base,
            finished: None,
            ahead: Vec::new(),
        };
        let now = UserRooms {
            version: RoomsVersion(12),
            removals: RemovalCount(0),
            rooms: vec![followed(1, 9, 90), followed(2, 12, 90)],
        };
        let is_at_base = true;
        let known = HashMap::from([(
            RoomId(1),
            Known {
                seq: Seq(5),
                is_at_base,
            },
        )]);
        UserPlan::resumed(cursor, now, (&known, &HashMap::from([(RoomId(2), Seq(3))])), [1, 2, 3].map(gone).into())
    }

    #[test]
    fn room_lost_after_the_plan_is_not_gone_before_what_is_sent_of_it() {
        let plan = plan_of_lost_rooms();
        // Room 2 was left and joined again: it is gone, and new.
        assert_eq!(plan.gone_or_hidden(), [gone(2), gone(3)]);
    }

    #[test]
    fn room_that_is_new_begins_where_the_user_joined() {
        let plan = plan_of_lost_rooms();
        assert_eq!((plan.rooms[1].is_new, plan.rooms[1].after, plan.rooms[1].has_missed()), (true, Seq(3), true));
        assert_eq!(plan.ahead, [(RoomId(2), Seq(3))]);
    }

    #[test]
    fn room_that_is_new_and_has_no_state_is_not_followed() {
        let mut plan = plan_of_lost_rooms();
        let lost = plan.lost_since(&[]);
        assert_eq!(lost, [RoomId(2)].into());
        plan.retain_rooms(|room| !lost.contains(&room.followed.room.id));
        assert_eq!(plan.rooms.len(), 1);
        let state = RoomState {
            room: RoomId(2),
            ..direct_room()
        };
        assert!(plan_of_lost_rooms().lost_since(&[state]).is_empty());
    }
}
