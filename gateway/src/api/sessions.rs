//! `/auth`: logging in and out.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use shared::bus::ControlEvent;
use shared::domain::{Email, Timestamp, UserId};
use shared::telemetry::Event;
use tracing::warn;

use super::Tag;
use super::access::{Authenticated, ClientAddress, PreviousToken};
use super::body::JsonBody;
use super::error::ApiError;
use super::models::{Credentials, Done, SignedIn};
use crate::app::App;
use crate::auth::passwords::{self, HashQueue, Verdict};
use crate::limits::LoginOrigin;

static REFUSED: Event = Event::refusal("login_refused", "a login is refused");

/// Answers to logging in.
#[derive(ApiResponse)]
pub enum LoggedIn {
    /// The user is logged in.
    #[oai(status = 200)]
    Ok(Json<SignedIn>),
}

/// Answers to logging out.
#[derive(ApiResponse)]
pub enum LoggedOut {
    /// The token is worth nothing any more, and its streams end.
    #[oai(status = 200)]
    Ok(Json<Done>),
}

/// Operations on sessions.
pub struct SessionsApi;

#[OpenApi]
impl SessionsApi {
    /// Log in
    ///
    /// Opens a new session; others of the same user go on. Wrong passwords are counted, and after too many of them the answer
    /// is 429. A device that has signed in before has a count of its own, apart from those of strangers, if it sends its last
    /// token along in `Authorization`, though it may have expired; so has a network from which the user has signed in lately.
    #[oai(path = "/auth/login", method = "post", operation_id = "logIn", tag = "Tag::SignIn")]
    async fn log_in(
        &self,
        app: Data<&Arc<App>>,
        address: ClientAddress,
        previous: PreviousToken,
        body: JsonBody<Credentials>,
    ) -> Result<LoggedIn, ApiError> {
        let Credentials { email, password } = body.0;
        let password = password.0;
        // What could never be registered cannot log in either: no hash, no look-up, nothing an answer's time could tell.
        let email = Email::parse(&email, false).map_err(|_| ApiError::InvalidCredentials)?;
        if password.chars().count() > passwords::MAX_LENGTH {
            return Err(ApiError::InvalidCredentials);
        }
        let (account, now) = (app.store.account_by_email(&email).await?, Timestamp::now());
        let (user, hash) = account.map(|account| (account.user, account.password_hash)).unzip();
        let standing = app.known_origins.standing(user.as_ref(), address.0, previous.0.as_deref(), now).await?;
        let attempt = app.limits.log_in(&email, address.0, &standing).await?;
        let share = match standing {
            LoginOrigin::Known(_) => HashQueue::KnownOrigin,
            LoginOrigin::Unknown => HashQueue::UnknownOrigin,
        };
        let verified = app.passwords.verify(password.clone(), hash, share).await;
        if verified != Ok(Verdict::Wrong) {
            app.limits.give_back(attempt).await;
        }
        let verdict = verified?;
        let id = user.as_ref().map_or(0, |user| user.id.0);
        let Some(user) = user.filter(|_| verdict != Verdict::Wrong) else {
            // User 0 is nobody.
            REFUSED.report(format_args!("user:{id} network:{}", address.0), "");
            return Err(ApiError::InvalidCredentials);
        };
        if verdict == Verdict::RightButWeak {
            strengthen(&app, user.id, password);
        }
        app.known_origins.remember(user.id, address.0, now).await?;
        let token = app.sessions.open(&user, now).await?;
        Ok(LoggedIn::Ok(Json(SignedIn::new("Successfully logged in.", token))))
    }

    /// Log out
    ///
    /// Ends the session of the token at once on every gateway, and its streams.
    #[oai(path = "/auth/logout", method = "post", operation_id = "logOut", tag = "Tag::Leave")]
    async fn log_out(&self, app: Data<&Arc<App>>, caller: Authenticated) -> Result<LoggedOut, ApiError> {
        let caller = caller.0;
        let (store, id) = (app.store.clone(), caller.session_id);
        let event = ControlEvent::SessionRevoked {
            user: caller.session.user.id,
            session: caller.session_id,
        };
        let revoke = async move {
            store.revoke_session(id, Timestamp::now()).await?;
            Ok(Some(event))
        };
        app.change(revoke).await?;
        Ok(LoggedOut::Ok(Json(Done::new("Successfully logged out."))))
    }
}

/// Makes a stronger hash in the background: the login need not wait for it.
fn strengthen(app: &Arc<App>, user: UserId, password: String) {
    let app = Arc::clone(app);
    app.lifecycle.tracker.clone().spawn(async move {
        let Ok(hash) = app.passwords.hash(password, HashQueue::KnownOrigin).await else {
            return;
        };
        if let Err(error) = app.store.replace_password_hash(user, hash).await {
            warn!(user.id = user.0, error = %error, "cannot renew a password hash: {error}");
        }
    });
}
