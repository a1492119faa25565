//! Accounts: registering, logging in and out, who presents a token, and what users may learn of each other.

mod registration;

use std::net::IpAddr;
use std::sync::Arc;

use shared::bus::ControlEvent;
use shared::domain::{Email, Invalid, PublicId, Timestamp, UserId};
use shared::storage::{CreateUserError, NewUser, Store, StoreError, User};
use shared::telemetry::LogEvent;
use tokio_util::task::TaskTracker;
use tracing::warn;

use self::registration::Candidate;
pub use self::registration::Registration;
use crate::auth::known_clients::KnownClients;
use crate::auth::passwords::{self, HashError, HashQueue, Passwords, Verdict};
use crate::auth::sessions::{Caller, NotAuthenticated, Sessions};
use crate::config::AccountArgs;
use crate::event_dispatch::{ChangeError, EventDispatcher};
use crate::policy::{self, Action};
use crate::rate_limits::{LoginClient, RateLimited, RateLimits};
use crate::revocation_watcher::{RevocationCheckError, Revocations};

static LOGIN_REFUSED: LogEvent = LogEvent::refusal("login_refused", "a login is refused");

/// Why nobody was registered.
#[derive(Debug, thiserror::Error)]
pub enum NotRegistered {
    /// Fields are not valid: all of them, so that a form can mark every wrong one at once.
    #[error("fields are not valid")]
    Invalid(Vec<Invalid>),
    /// Too many register from this address, or it cannot be counted.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// The password was not hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// A name is in use, or the database failed.
    #[error(transparent)]
    Create(#[from] CreateUserError),
    /// The database failed after the user was created.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why somebody is not logged in.
#[derive(Debug, thiserror::Error)]
pub enum NotLoggedIn {
    /// E-mail or password is wrong.
    #[error("the e-mail or the password is wrong")]
    WrongCredentials,
    /// There were too many wrong passwords, or they cannot be counted.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// The password was not compared.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a token stands for nobody.
#[derive(Debug, thiserror::Error)]
pub enum NotRecognized {
    /// It is not known whether what is cached of sessions is still true.
    #[error(transparent)]
    Stale(#[from] RevocationCheckError),
    /// The token or its session is refused.
    #[error(transparent)]
    Refused(#[from] NotAuthenticated),
}

/// The caller may not list users.
#[derive(Debug, thiserror::Error)]
#[error("they may not list users")]
pub struct NotListed;

/// A user as another one may see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Shown name.
    pub username: String,
    /// Name in URLs.
    pub public_id: String,
    /// E-mail address, if whoever asks may see it.
    pub email: Option<String>,
}

/// The users of the installation. Whoever has it may read it.
pub struct UserList<'a>(&'a Store);

impl UserList<'_> {
    /// Users sorted by public id, behind `after`.
    pub async fn page_after(&self, after: &str, limit: u32) -> Result<Vec<User>, StoreError> {
        self.0.list_users(after, limit).await
    }
}

/// What the service is made of.
pub struct AccountParts {
    /// Users.
    pub store: Store,
    /// Tokens to callers.
    pub sessions: Arc<Sessions>,
    /// Where users have logged in from.
    pub known_clients: KnownClients,
    /// Hashing.
    pub passwords: Passwords,
    /// Limits of registrations and logins.
    pub limits: RateLimits,
    /// Whether cached sessions can be trusted.
    pub revocations: Arc<Revocations>,
    /// Where revoked sessions are announced.
    pub events: Arc<EventDispatcher>,
    /// Counts the tasks that the process waits for when it stops.
    pub tracker: TaskTracker,
    /// What registrations must fulfil.
    pub settings: AccountArgs,
}

/// The service of accounts.
pub struct Accounts(AccountParts);

impl Accounts {
    /// The service made of `parts`.
    #[must_use]
    pub fn new(parts: AccountParts) -> Self {
        Self(parts)
    }

    /// Creates a user from `address` and logs them in; returns their token.
    pub async fn register(&self, registration: Registration, address: IpAddr) -> Result<String, NotRegistered> {
        let now = Timestamp::now();
        let parts = &self.0;
        let candidate = Candidate::parse(registration, &parts.settings).map_err(NotRegistered::Invalid)?;
        parts.limits.register(address).await?;
        let new = NewUser {
            password_hash: parts.passwords.hash(candidate.password, HashQueue::UnknownClient).await?,
            email: candidate.email,
            username: candidate.username,
            public_id: candidate.public_id,
            admin_if_first: parts.settings.first_user_is_admin,
        };
        let user = parts.store.create_user(new, now).await?;
        parts.known_clients.remember(user.id, address, now).await?;
        Ok(parts.sessions.open(&user, now).await?)
    }

    /// Opens a session of the user with this e-mail, from `address`; returns its token. `previous` is a token that the device
    /// had before.
    pub async fn log_in(
        &self,
        email: &str,
        password: String,
        address: IpAddr,
        previous: Option<&str>,
    ) -> Result<String, NotLoggedIn> {
        let parts = &self.0;
        // What cannot be registered cannot log in either: no hash, no look-up, nothing that the time of an answer could tell.
        let email = Email::parse(email, false).map_err(|_| NotLoggedIn::WrongCredentials)?;
        if password.chars().count() > passwords::MAX_LENGTH {
            return Err(NotLoggedIn::WrongCredentials);
        }
        let (account, now) = (parts.store.account_by_email(&email).await?, Timestamp::now());
        let (user, hash) = account.map(|account| (account.user, account.password_hash)).unzip();
        let client = parts.known_clients.classify(user.as_ref(), address, previous, now).await?;
        let attempt = parts.limits.log_in(&email, address, &client).await?;
        let queue = match client {
            LoginClient::Known(_) => HashQueue::KnownClient,
            LoginClient::Unknown => HashQueue::UnknownClient,
        };
        let verified = parts.passwords.verify(password.clone(), hash, queue).await;
        if verified != Ok(Verdict::Wrong) {
            parts.limits.refund(attempt).await;
        }
        let verdict = verified?;
        let id = user.as_ref().map_or(0, |user| user.id.0);
        let Some(user) = user.filter(|_| verdict != Verdict::Wrong) else {
            // User 0 is nobody.
            LOGIN_REFUSED.report(format_args!("user:{id} network:{address}"), "");
            return Err(NotLoggedIn::WrongCredentials);
        };
        if verdict == Verdict::RightButWeak {
            self.strengthen(user.id, password);
        }
        parts.known_clients.remember(user.id, address, now).await?;
        Ok(parts.sessions.open(&user, now).await?)
    }

    /// Ends the session of `caller` on every gateway, and its streams.
    pub async fn log_out(&self, caller: &Caller) -> Result<(), ChangeError> {
        let (store, session) = (self.0.store.clone(), caller.session_id);
        let event = ControlEvent::SessionRevoked {
            user: caller.session.user.id,
            session,
        };
        let revoke = async move {
            store.revoke_session(session, Timestamp::now()).await?;
            Ok(Some(event))
        };
        self.0.events.change(revoke).await.map(drop)
    }

    /// The caller who presents `token`.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Caller>, NotRecognized> {
        self.0.revocations.ensure_fresh().await?;
        Ok(self.0.sessions.authenticate(token, Timestamp::now()).await?)
    }

    /// The list of users, for a `caller` who may read it.
    pub fn user_list(&self, caller: &User) -> Result<UserList<'_>, NotListed> {
        if policy::may_anywhere(caller, Action::ListUsers) {
            return Ok(UserList(&self.0.store));
        }
        policy::report_forbidden(caller.id, "list users");
        Err(NotListed)
    }

    /// What `caller` may see of the user with this public id, if there is one.
    pub async fn profile(&self, caller: &User, public_id: &PublicId) -> Result<Option<Profile>, StoreError> {
        let user = self.0.store.user_by_public_id(public_id).await?;
        Ok(user.map(|user| Profile {
            email: policy::may_with_record(caller, Action::SeeEmail, user.id).then_some(user.email),
            username: user.username,
            public_id: user.public_id,
        }))
    }

    /// Makes a stronger hash in the background: the login need not wait for it.
    fn strengthen(&self, user: UserId, password: String) {
        let (passwords, store) = (self.0.passwords.clone(), self.0.store.clone());
        self.0.tracker.spawn(async move {
            let Ok(hash) = passwords.hash(password, HashQueue::KnownClient).await else {
                return;
            };
            if let Err(error) = store.replace_password_hash(user, hash).await {
                warn!(user.id = user.0, error = %error, "cannot renew a password hash: {error}");
            }
        });
    }
}
