//! Revocation watcher: detects revoked sessions, removed members and deleted rooms, even when the notification was lost.
//!
//! A gateway that revokes a session, removes a member or deletes a room tells all gateways, and they act at once. It may
//! fail to: it dies in between, or Redis is away, hangs, or loses the event. So every gateway also reads a number in SQL
//! that moves with each such change, and when it has moved, reads what has changed since and applies that. SQL keeps the last
//! thousand changes; a gateway that is further behind forgets all that it cached and compares every open stream. A check costs
//! one row, however many streams are open here.
//!
//! An event and the revocation log name what has ended for good: a session, one membership, one room. What came after it, as
//! when somebody left and joined again, is another one. So it does no harm to apply them late or twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::bus::ControlEvent;
use shared::storage::{Revocation, Store, StoreError};
use shared::telemetry::FailureSeries;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::auth::sessions::Sessions;
use crate::event_dispatch::EventDispatcher;
use crate::freshness::{Freshness, TRUSTED_FOR};
use crate::live::{ByeReason, Followed, StreamRegistry};
use crate::room_directory::RoomDirectory;

/// How often the number is read. While a check takes less than this, the caches are trusted without a break.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// How long a check may take.
const CHECK_WITHIN: Duration = TRUSTED_FOR;

/// Streams compared by one query.
const STREAMS_AT_ONCE: usize = 500;

/// Why it is not known whether the caches are current.
#[derive(Debug, thiserror::Error)]
pub enum RevocationCheckError {
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Storage has not answered in time.
    #[error("storage has not answered within {} ms", CHECK_WITHIN.as_millis())]
    Late,
    /// The check of another caller, which this one waited for, has failed.
    #[error("storage cannot be asked")]
    Shared,
}

/// Keeps what this gateway caches in step with the revocation log.
pub struct Revocations {
    store: Store,
    freshness: Arc<Freshness>,
    sessions: Arc<Sessions>,
    directory: Arc<RoomDirectory>,
    streams: StreamRegistry,
    events: Arc<EventDispatcher>,
    /// The checks of the revocation log, one at a time.
    checks: Mutex<RevocationChecks>,
    /// Set while open streams are to be compared with SQL.
    must_compare: AtomicBool,
}

/// The outcome of the checks of the revocation log.
#[derive(Default)]
struct RevocationChecks {
    /// The number of the last revocation that was applied here.
    known: Option<i64>,
    /// When the last check began, and whether SQL answered.
    last: Option<(Instant, bool)>,
}

impl Revocations {
    pub(crate) fn new(
        store: Store,
        freshness: Arc<Freshness>,
        (sessions, directory): (Arc<Sessions>, Arc<RoomDirectory>),
        streams: StreamRegistry,
        events: Arc<EventDispatcher>,
    ) -> Self {
        Self {
            store,
            freshness,
            sessions,
            directory,
            streams,
            events,
            checks: Mutex::default(),
            must_compare: AtomicBool::new(false),
        }
    }

    /// Returns when what this gateway caches is current, which it nearly always is: see [`crate::freshness`]. Else SQL is
    /// asked, once for all who wait for it.
    pub(crate) async fn ensure_fresh(&self) -> Result<(), RevocationCheckError> {
        let asked = Instant::now();
        if self.freshness.is_trusted(asked) {
            return Ok(());
        }
        let mut checks = self.checks.lock().await;
        match checks.last {
            Some((began, true)) if began >= asked => return Ok(()),
            Some((began, false)) if began >= asked => return Err(RevocationCheckError::Shared),
            _ => {}
        }
        let checked = self.check_revocations(&mut checks).await;
        // An answer of Redis may have proved the caches current in the meantime.
        if self.freshness.is_trusted(Instant::now()) {
            Ok(())
        } else {
            checked
        }
    }

    /// Applies the revocations whose announcements were lost, until `stop` is cancelled.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut failures = FailureSeries::default();
        let mut ticks = interval(CHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.sessions.free_expired();
            match self.check_and_compare().await {
                Ok(()) => {
                    failures.recovered();
                }
                Err(error) => {
                    if failures.failed() {
                        warn!(error = %error, "cannot check who may still read, retrying: {error}");
                    }
                }
            }
        }
    }

    async fn check_and_compare(&self) -> Result<(), RevocationCheckError> {
        let mut checks = self.checks.lock().await;
        self.check_revocations(&mut checks).await?;
        drop(checks);
        if self.must_compare.swap(false, Ordering::AcqRel)
            && let Err(error) = self.end_forbidden_streams().await
        {
            self.must_compare.store(true, Ordering::Release);
            return Err(error.into());
        }
        Ok(())
    }

    /// Asks SQL what has ended, and applies it.
    async fn check_revocations(&self, checks: &mut RevocationChecks) -> Result<(), RevocationCheckError> {
        let began = Instant::now();
        let caught_up = timeout(CHECK_WITHIN, self.catch_up(checks.known)).await;
        let outcome = match caught_up {
            Ok(Ok(count)) => {
                checks.known = Some(count);
                self.freshness.confirm(began);
                Ok(())
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(RevocationCheckError::Late),
        };
        checks.last = Some((began, outcome.is_ok()));
        outcome
    }

    /// Applies the revocations after number `known`, and returns the number of the last one.
    async fn catch_up(&self, known: Option<i64>) -> Result<i64, StoreError> {
        let count = self.store.revocation_count().await?;
        if known == Some(count) {
            return Ok(count);
        }
        let revoked = match known {
            Some(known) => self.store.revocations_between(known, count).await?,
            None => None,
        };
        if let Some(revoked) = revoked {
            for revocation in revoked {
                self.events.apply(&event(revocation));
            }
        } else {
            // In this order: a stream that the comparison does not find is opened after it, and its session and membership are read
            // from SQL then.
            self.sessions.forget_all();
            self.directory.forget_all();
            self.must_compare.store(true, Ordering::Release);
        }
        Ok(count)
    }

    /// Ends the streams whose session or membership has ended.
    async fn end_forbidden_streams(&self) -> Result<(), StoreError> {
        for some in self.streams.all().chunks(STREAMS_AT_ONCE) {
            let sessions: Vec<_> = some.iter().map(|stream| stream.session).collect();
            let members = some.iter().filter_map(|stream| match stream.followed {
                Followed::Room { room, .. } => Some((room, stream.user)),
                Followed::AllRooms(_) => None,
            });
            let members: Vec<_> = members.collect();
            let open = self.store.unrevoked_sessions(&sessions).await?;
            let memberships = self.store.memberships_among(&members).await?;
            for stream in some {
                if !open.contains(&stream.session) {
                    stream.end(ByeReason::Revoked);
                    continue;
                }
                match &stream.followed {
                    Followed::Room { room, membership } => {
                        if memberships.get(&(*room, stream.user)) != Some(membership) {
                            stream.end(ByeReason::Removed);
                        }
                    }
                    Followed::AllRooms(inbox) => inbox.note_unknown_losses(),
                }
            }
        }
        Ok(())
    }
}

/// The event that the gateway announces which makes this change.
fn event(revocation: Revocation) -> ControlEvent {
    match revocation {
        Revocation::Session { user, session } => ControlEvent::SessionRevoked { user, session },
        Revocation::Member { room, user, membership } => ControlEvent::MemberRemoved {
            room,
            user,
            membership: Some(membership),
        },
        Revocation::Room { room, name } => ControlEvent::RoomDeleted { room, name },
    }
}
