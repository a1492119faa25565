//! What changed of the rooms of a stream's user: rooms joined, created, left or deleted anywhere, read marks and settings of other devices.

use std::collections::HashMap;

use futures_util::FutureExt as _;
use shared::domain::{RoomId, RoomsVersion, Seq, UserId};
use shared::storage::{FollowedRoom, RoomState, Store, StoreError, UserRooms};
use tracing::warn;

use super::opening::ROOMS_AN_EVENT;
use super::{RefreshError, RoomsQuery, UserFetched, UserStream};
use crate::fanout::NextStep;
use crate::live::hub::{Hub, OpenFeed};
use crate::live::topics::room_topic;
use crate::live::user_events::{OwnEvent, RoomUpdate};
use crate::live::user_inbox::Lost;
use crate::live::user_plan::{goes_on_after, join_seqs};
use crate::live::user_rooms::{Fingerprint32, Stage, StreamRoom};

/// Rooms whose states one query reads.
const STATES_AT_ONCE: usize = 100;

/// What rooms a user has, and what is new about them.
pub struct Refreshed {
    now: UserRooms,
    /// The feeds of the rooms that the stream did not have.
    feeds: HashMap<RoomId, OpenFeed>,
    /// Where the user joined these rooms, as far as that is stored: the stream begins there.
    joins: HashMap<RoomId, Seq>,
    /// What the rooms are that are new or have changed.
    states: Vec<RoomState>,
}

/// What the stream knew when SQL was asked.
struct KnownRooms {
    version: RoomsVersion,
    rooms: HashMap<RoomId, (Fingerprint32, Stage)>,
}

impl KnownRooms {
    fn is_new(&self, followed: &FollowedRoom) -> bool {
        let membership = Fingerprint32::of(followed.membership.0);
        self.rooms.get(&followed.room.id).is_none_or(|(known, _)| *known != membership)
    }

    /// Whether the client is to be told of the room.
    fn concerns(&self, followed: &FollowedRoom) -> bool {
        let is_hidden = self.rooms.get(&followed.room.id).is_some_and(|(_, stage)| *stage == Stage::Hidden);
        is_hidden || followed.version > self.version || self.is_new(followed)
    }
}

impl UserStream {
    /// Whether SQL is to be asked for the rooms.
    pub(super) fn must_refresh(&self) -> bool {
        self.refresh.is_due || self.inbox.topic.changes() != self.refresh.seen_changes
    }

    pub(super) fn fetch_rooms(&mut self) -> NextStep<UserFetched> {
        // Read before SQL is asked: what changes after that is counted once more.
        self.refresh.seen_changes = self.inbox.topic.changes();
        self.refresh.is_due = false;
        self.refresh.query = RoomsQuery::Covering;
        self.refresh.lost.clear();
        self.is_fetching = true;
        let known = KnownRooms {
            version: self.rooms.version(),
            rooms: self.rooms.iter().map(|room| (room.id(), (room.membership(), room.stage()))).collect(),
        };
        let (hub, store, user) = (self.hub.clone(), self.store.clone(), self.registered.user);
        let filter = self.filter.clone();
        let read = async move {
            let mut now = store.user_rooms(user).await?;
            now.rooms.retain(|followed| filter.has_room(&followed.room.name));
            refresh(&hub, &store, user, &known, now).await
        };
        NextStep::Fetch(
            read.map(|read| match read {
                Ok(refreshed) => UserFetched::Rooms(Box::new(refreshed)),
                Err(error) => {
                    warn!(error = %error, "cannot read what rooms a user has, retrying: {error}");
                    UserFetched::RoomsUnavailable
                }
            })
            .boxed(),
        )
    }

    /// Follows the rooms that are new, drops those that are gone, and tells the client what changed.
    pub(super) fn apply_rooms(
        &mut self,
        Refreshed {
            now,
            mut feeds,
            joins,
            states,
        }: Refreshed,
        query: RoomsQuery,
    ) {
        if !self.rooms.can_follow(feeds.len()) {
            self.adopt_horizon();
            self.has_too_many = !self.rooms.can_follow(feeds.len());
            if self.has_too_many {
                return;
            }
        }
        let is_listed = |room: &StreamRoom| {
            let found = now.rooms.binary_search_by_key(&room.id(), |followed| followed.room.id);
            found.is_ok_and(|index| room.is_by(now.rooms[index].membership))
        };
        let gone: Vec<RoomId> = self.rooms.iter().filter(|room| !is_listed(room)).map(StreamRoom::id).collect();
        let mut events: Vec<OwnEvent> = gone.into_iter().filter_map(|room| self.drop_room(room)).collect();
        let mut updates = Vec::new();
        let mut states: HashMap<RoomId, RoomState> = states.into_iter().map(|state| (state.room, state)).collect();
        for followed in &now.rooms {
            if self.was_lost(followed) {
                continue;
            }
            let is_new = self.rooms.get(followed.room.id).is_none();
            if is_new {
                // Without a state it was lost after the rooms were read, and the client is told nothing of it.
                let is_visible = states.contains_key(&followed.room.id) || followed.is_hidden;
                let Some(feed) = feeds.remove(&followed.room.id).filter(|_| is_visible) else {
                    continue;
                };
                self.follow(followed, feed, joins.get(&followed.room.id).copied());
            }
            if let Some(state) = states.remove(&followed.room.id) {
                let news = self.news_of(followed, state, is_new);
                events.extend(news.read);
                updates.extend(news.update);
            }
        }
        events.extend(updates.chunks(ROOMS_AN_EVENT).map(OwnEvent::rooms));
        self.inbox.note_rooms_read(now.version);
        match events.pop() {
            Some(last) => events.push(last.with_rooms_known(now.version, now.removals)),
            None => self.rooms.note_rooms_known(now.version, now.removals),
        }
        self.events.extend(events);
        self.refresh.must_wait &= query != RoomsQuery::Covering;
        self.refresh.lost.clear();
    }

    /// Whether the room was lost after SQL was asked.
    fn was_lost(&self, followed: &FollowedRoom) -> bool {
        self.refresh.lost.iter().any(|lost| match lost {
            Lost::Room(room) => *room == followed.room.id,
            Lost::Membership(room, membership) => *room == followed.room.id && *membership == followed.membership,
        })
    }

    fn follow(&mut self, followed: &FollowedRoom, feed: OpenFeed, joined: Option<Seq>) {
        let (id, head) = (followed.room.id, followed.head.seq);
        let begins_at = goes_on_after(followed, joined.unwrap_or(head));
        let stage = if followed.is_hidden { Stage::Hidden } else { Stage::Live };
        self.rooms.follow(StreamRoom::new(followed, feed, begins_at, stage));
        self.topic_changes.get_or_insert_default().added.push(room_topic(id));
        self.pass_over_typists(id);
    }

    /// What is new of a room to the client. The head of one that is new to it says where it begins, and what was stored since is sent.
    fn news_of(&mut self, followed: &FollowedRoom, mut state: RoomState, is_new: bool) -> RoomNews {
        let id = followed.room.id;
        let Some(room) = self.rooms.get_mut(id) else {
            return RoomNews::default();
        };
        let was_hidden = room.stage() == Stage::Hidden;
        if followed.is_hidden {
            let name = state.name;
            self.hide(id, followed.head.seq);
            return RoomNews {
                update: (!was_hidden).then_some(RoomUpdate::Gone(name)),
                read: None,
            };
        }
        let begins = is_new || was_hidden;
        let has_read = room.note_read(state.read_seq) && !begins;
        let is_known = !room.note_settings(&state);
        if begins {
            state.head = room.sent();
        }
        if was_hidden {
            self.rooms.show(id);
            self.pass_over_typists(id);
        }
        let read = has_read.then(|| OwnEvent::read(&state));
        // A read mark is an event of its own, and nothing else may have changed.
        let is_read_alone = has_read && is_known;
        RoomNews {
            update: (!is_read_alone).then_some(RoomUpdate::State(state)),
            read,
        }
    }

    /// Sends nothing more of a direct room that its user has left, and that has no message since up to `head`. Whatever comes behind that is
    /// looked at.
    fn hide(&mut self, id: RoomId, head: Seq) {
        // What was sent behind it may be a message.
        self.refresh.is_due |= self.rooms.hide(id, head);
        self.history = self.history.take().filter(|history| history.room != id);
    }
}

/// What is new of a room to a client.
#[derive(Default)]
struct RoomNews {
    /// What it is now.
    update: Option<RoomUpdate>,
    /// That the user has read further.
    read: Option<OwnEvent>,
}

async fn refresh(
    hub: &Hub,
    store: &Store,
    user: UserId,
    known: &KnownRooms,
    now: UserRooms,
) -> Result<Refreshed, RefreshError> {
    let new: Vec<&FollowedRoom> = now.rooms.iter().filter(|followed| known.is_new(followed)).collect();
    let rooms: Vec<_> = new.iter().map(|followed| followed.room.clone()).collect();
    let feeds = hub.open_all(&rooms).await?;
    let joins = join_seqs(store, user, new.iter().map(|followed| followed.room.id).collect()).await?;
    let feeds = new.iter().map(|followed| followed.room.id).zip(feeds).collect();
    let concerned = now.rooms.iter().filter(|followed| known.concerns(followed));
    let concerned: Vec<RoomId> = concerned.map(|followed| followed.room.id).collect();
    let states = room_states(store, user, &concerned).await?;
    Ok(Refreshed {
        now,
        feeds,
        joins,
        states,
    })
}

/// What `rooms` are for `user`, in pages.
pub async fn room_states(store: &Store, user: UserId, rooms: &[RoomId]) -> Result<Vec<RoomState>, StoreError> {
    let mut states = Vec::with_capacity(rooms.len());
    for some in rooms.chunks(STATES_AT_ONCE) {
        states.extend(store.room_states(user, some).await?);
    }
    Ok(states)
}
