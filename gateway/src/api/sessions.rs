//! `/auth`: logging in and out.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use shared::bus::ControlEvent;
use shared::domain::{Email, Timestamp, UserId};
use tracing::warn;

use super::Tag;
use super::access::{Authenticated, ClientAddress};
use super::body::JsonBody;
use super::error::ApiError;
use super::models::{Credentials, Done, SignedIn};
use crate::app::App;
use crate::auth::passwords::{self, Verdict};

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
    /// Opens a new session; others of the same user go on.
    #[oai(path = "/auth/login", method = "post", operation_id = "logIn", tag = "Tag::SignIn")]
    async fn log_in(
        &self,
        app: Data<&Arc<App>>,
        address: ClientAddress,
        body: JsonBody<Credentials>,
    ) -> Result<LoggedIn, ApiError> {
        let Credentials { email, password } = body.0;
        let password = password.0;
        app.limits.login_from(address.0).await?;
        // What could never be registered cannot log in either: no hash, no look-up, nothing an answer's time could tell.
        let email = Email::parse(&email, false).map_err(|_| ApiError::InvalidCredentials)?;
        if password.chars().count() > passwords::MAX_LENGTH {
            return Err(ApiError::InvalidCredentials);
        }
        app.limits.login_as(&email).await?;
        let account = app.store.account_by_email(&email).await?;
        let hash = account.as_ref().map(|account| account.password_hash.clone());
        let verdict = app.passwords.verify(password.clone(), hash).await?;
        let user = account.map(|account| account.user).filter(|_| verdict != Verdict::Wrong);
        let user = user.ok_or(ApiError::InvalidCredentials)?;
        if verdict == Verdict::RightButWeak {
            strengthen(&app, user.id, password);
        }
        let token = app.sessions.open(&user, Timestamp::now()).await?;
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
        let Ok(hash) = app.passwords.hash(password).await else {
            return;
        };
        if let Err(error) = app.store.replace_password_hash(user, hash).await {
            warn!(user.id = user.0, error = %error, "cannot renew a password hash: {error}");
        }
    });
}
