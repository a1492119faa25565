//! Noticing that somebody may no longer do what they could, whoever took it from them.
//!
//! A gateway that revokes a session, takes a member out or deletes a room tells all gateways, and they act at once. It may
//! fail to: it dies in between, or Redis is away, hangs, or loses the event. So every gateway also looks at a number in SQL
//! that moves with each such change, and when it has moved, reads what has changed since and acts on that. SQL keeps the last
//! thousand changes; a gateway that is further behind forgets all it knew and compares every open stream. To look costs one
//! row, whatever is open here; and since it does not depend on Redis, nothing else watches over the caches.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::ControlEvent;
use shared::storage::{Removal, StoreError};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::app::App;
use crate::live::ByeReason;

/// How often the number is looked at. A removal is promised to show everywhere within 1 s; the other half is for comparing.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Streams compared by one query.
const STREAMS_AT_ONCE: usize = 500;

impl App {
    /// Acts on the removals that nobody told of, until `stop` is cancelled.
    ///
    /// While SQL cannot be read what is known stays in use: nobody else can write a removal either, unless this gateway
    /// alone is cut off, and then it is told by Redis.
    pub(crate) async fn watch_removals(self: Arc<Self>, stop: CancellationToken) {
        let (mut known, mut complained) = (None, false);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            match self.catch_up(known).await {
                Ok(count) => (known, complained) = (Some(count), false),
                Err(error) if !complained => {
                    warn!(error = %error, "cannot check who may still read, trying on: {error}");
                    complained = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Acts on what was removed if there is more than `known`, and returns the new number.
    async fn catch_up(&self, known: Option<i64>) -> Result<i64, StoreError> {
        let count = self.store.removals().await?;
        if known == Some(count) {
            return Ok(count);
        }
        let removed = match known {
            Some(known) => self.store.removed(known, count).await?,
            None => None,
        };
        if let Some(removed) = removed {
            for removal in removed {
                self.act_on(&event(removal));
            }
        } else {
            // In this order: a stream that the comparison does not find is opened after it, and looks into SQL then.
            self.sessions.forget_all();
            self.rooms.forget_all();
            self.end_forbidden_streams().await?;
        }
        Ok(count)
    }

    /// Ends the streams whose session or membership has ended.
    async fn end_forbidden_streams(&self) -> Result<(), StoreError> {
        for some in self.connections.all().chunks(STREAMS_AT_ONCE) {
            let sessions: Vec<_> = some.iter().map(|connection| connection.session).collect();
            let members: Vec<_> = some.iter().map(|connection| (connection.room, connection.user)).collect();
            let open = self.store.open_sessions(&sessions).await?;
            let memberships = self.store.memberships_among(&members).await?;
            for connection in some {
                if !open.contains(&connection.session) {
                    connection.end(ByeReason::Revoked);
                } else if memberships.get(&(connection.room, connection.user)) != Some(&connection.membership) {
                    connection.end(ByeReason::Removed);
                }
            }
        }
        Ok(())
    }
}

/// What the gateway that did it tells the others.
fn event(removal: Removal) -> ControlEvent {
    match removal {
        Removal::Session { user, session } => ControlEvent::SessionRevoked { user, session },
        Removal::Member { room, user, membership } => ControlEvent::MemberRemoved {
            room,
            user,
            membership: Some(membership),
        },
        Removal::Room { room, name } => ControlEvent::RoomDeleted { room, name },
    }
}
