//! The steps in which a stream of all rooms of a user opens. The first two are those of [`super::steps`].
//!
//! ```text
//! Registered ──lease──► Leased ──plan──► Planned ──open_feeds──► UserOpened ──► UserStream
//! ```
//!
//! 3. [`Planned`]: SQL says which rooms the user has and what the client has missed. Rooms lost after the registration are left for the
//!    stream in its inbox; rooms that come after the plan was read move the user's topic, which the stream looks at first.
//! 4. [`UserOpened`]: feeds are opened after the plan was read. A feed is at the head that SQL has then, or a later one, so nothing falls
//!    between what the client has by the plan and what the feed brings.

use std::sync::Arc;

use shared::domain::{Position, RoomId};
use shared::storage::StoreError;

use super::steps::{Leased, Registered};
use super::{NotOpened, StreamParts};
use crate::auth::sessions::{Caller, NotAuthenticated};
use crate::live::{Followed, HorizonUse, StreamFilter, UserInbox, UserOpened, UserPlan, room_states};

/// A leased stream of which it is known what its client has missed.
pub(super) struct Planned<'a> {
    plan: UserPlan,
    horizon: Position,
    horizon_use: HorizonUse,
    seen_changes: u64,
    cursor: Option<String>,
    filter: StreamFilter,
    leased: Leased<'a, Arc<UserInbox>>,
}

impl<'a> Registered<'a, Arc<UserInbox>> {
    /// Registers a stream of all rooms of `caller`.
    pub(super) async fn register_all(parts: &'a StreamParts, caller: &'a Caller) -> Result<Self, NotAuthenticated> {
        let user = caller.session.user.id;
        let inbox = Arc::new(UserInbox::new(parts.users.open(user)));
        let followed = Followed::AllRooms(Arc::clone(&inbox));
        let stream = parts.registry.register(user, caller.session_id, followed);
        parts.sessions.check(caller.session_id).await?;
        Ok(Self {
            parts,
            caller,
            followed: inbox,
            stream,
        })
    }
}

impl<'a> Leased<'a, Arc<UserInbox>> {
    /// Reads what the client has missed since `cursor`, in the rooms that it wants.
    pub(super) async fn plan(self, cursor: Option<String>, filter: StreamFilter) -> Result<Planned<'a>, StoreError> {
        let Registered {
            parts,
            followed: inbox,
            stream,
            ..
        } = &self.registered;
        let horizon_use = parts.hub.use_horizon();
        // Read first: a cursor of an epoch that is over is refused, and one of a new epoch with older positions would not be.
        let epoch = parts.hub.epoch();
        let horizon = parts.hub.recent_horizon().await;
        // Read before SQL is asked: what changes after that is counted once more.
        let seen_changes = inbox.topic.changes();
        let mut plan =
            UserPlan::read((&parts.store, &parts.hub), stream.user, cursor.as_deref(), (epoch, horizon)).await?;
        plan.retain(|name| filter.has_room(name));
        Ok(Planned {
            plan,
            horizon,
            horizon_use,
            seen_changes,
            cursor,
            filter,
            leased: self,
        })
    }
}

impl Planned<'_> {
    /// Opens the feeds of the rooms, and reads what the client is told of them.
    pub(super) async fn open_feeds(mut self) -> Result<UserOpened, NotOpened> {
        let Leased { lease, registered } = self.leased;
        let Registered {
            parts,
            caller,
            followed: inbox,
            stream,
        } = registered;
        let rooms: Vec<_> = self.plan.rooms.iter().map(|planned| planned.followed.room.clone()).collect();
        let announced =
            self.plan.rooms.iter().filter(|room| (room.has_changed || room.has_missed()) && !room.is_hidden());
        let announced: Vec<RoomId> = announced.map(|planned| planned.followed.room.id).collect();
        let (feeds, states) =
            tokio::join!(parts.hub.open_all(&rooms), room_states(&parts.store, stream.user, &announced));
        let (mut states, feeds) = (states?, feeds?);
        self.plan.begin_at_plan(&mut states);
        let lost = self.plan.lost_since(&states);
        let feeds = self.plan.rooms.iter().zip(feeds).filter(|(room, _)| !lost.contains(&room.followed.room.id));
        let feeds = feeds.map(|(_, feed)| feed).collect();
        self.plan.retain_rooms(|room| !lost.contains(&room.followed.room.id));
        Ok(UserOpened {
            hub: parts.hub.clone(),
            store: parts.store.clone(),
            lease,
            inbox,
            seen_changes: self.seen_changes,
            plan: self.plan,
            feeds,
            states,
            horizon: self.horizon,
            horizon_use: self.horizon_use,
            cursor: self.cursor,
            filter: self.filter,
            expires_on: caller.session.expires_on,
            rates: parts.history_rates.clone(),
            registered: stream,
        })
    }
}
