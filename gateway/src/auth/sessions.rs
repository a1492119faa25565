//! Sessions: which of them a token carries, and whether it was revoked.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::{SessionId, Timestamp};
use shared::storage::{Session, Store, StoreError};
use shared::telemetry::LogEvent;

use super::tokens::{Refused, Tokens};
use crate::invalidating_cache::InvalidatingCache;

static REVOKED: LogEvent = LogEvent::refusal("revoked_token_used", "the token of an ended session is used");

/// Sessions kept in memory.
const CACHED: u64 = 100_000;

/// How long one is kept before it is read again.
const CACHED_FOR: Duration = Duration::from_secs(30);

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The session of the token.
    pub session_id: SessionId,
    /// Its user and expiry.
    pub session: Session,
}

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub enum NotAuthenticated {
    /// It is not a valid token.
    #[error(transparent)]
    Token(#[from] Refused),
    /// The session was ended.
    #[error("the session was ended")]
    Revoked,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens sessions and finds the callers of tokens.
pub struct Sessions {
    tokens: Arc<Tokens>,
    store: Store,
    cache: InvalidatingCache<SessionId, Arc<Caller>>,
}

impl Sessions {
    /// Sessions in `store`, carried by `tokens`.
    #[must_use]
    pub fn new(tokens: Arc<Tokens>, store: Store) -> Self {
        Self {
            tokens,
            store,
            cache: InvalidatingCache::new(CACHED, CACHED_FOR),
        }
    }

    /// Opens a session for `user` and returns its token.
    pub async fn open(&self, user: &shared::storage::User, now: Timestamp) -> Result<String, StoreError> {
        let id = SessionId(uuid::Uuid::new_v4());
        self.store.create_session(id, user.id, self.tokens.expiry(now), now).await?;
        Ok(self.tokens.issue(id, &user.public_id, now))
    }

    /// The caller who presents `token`.
    pub async fn authenticate(&self, token: &str, now: Timestamp) -> Result<Arc<Caller>, NotAuthenticated> {
        let caller = self.check(self.tokens.verify(token, now)?).await?;
        if caller.session.expires_on <= now {
            return Err(Refused::Expired.into());
        }
        Ok(caller)
    }

    /// The caller of this session, if it was not ended.
    pub async fn check(&self, id: SessionId) -> Result<Arc<Caller>, NotAuthenticated> {
        let load = async {
            let found = self.store.session(id).await?;
            Ok::<_, StoreError>(found.map(|session| {
                Arc::new(Caller {
                    session_id: id,
                    session,
                })
            }))
        };
        let Some(caller) = self.cache.get_or_load(&id, load).await? else {
            REVOKED.report(format_args!("session:{}", id.0), "");
            return Err(NotAuthenticated::Revoked);
        };
        Ok(caller)
    }

    /// Frees what is known of callers who were not here lately: most phones hold a stream and ask for nothing.
    pub fn free_expired(&self) {
        self.tokens.free_expired();
        self.cache.free_expired();
    }

    /// Forgets a session that was ended.
    pub fn forget(&self, id: SessionId) {
        self.cache.forget(&id);
    }

    /// Forgets all sessions.
    pub fn forget_all(&self) {
        self.cache.forget_all();
    }
}
