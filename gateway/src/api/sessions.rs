//! `/auth`: logging in and out.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};

use super::access::{Authenticated, ClientAddress, PreviousToken};
use super::body::JsonBody;
use super::error::ApiError;
use super::models::{Credentials, Done, SignedIn};
use super::{ApiContext, Tag};

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
    /// is 429. A device that has logged in before has a count of its own if it sends its last token along in `Authorization`,
    /// even an expired one; so has a network from which the user has logged in lately.
    #[oai(path = "/auth/login", method = "post", operation_id = "logIn", tag = "Tag::SignIn")]
    async fn log_in(
        &self,
        context: Data<&Arc<ApiContext>>,
        address: ClientAddress,
        previous: PreviousToken,
        body: JsonBody<Credentials>,
    ) -> Result<LoggedIn, ApiError> {
        let Credentials { email, password } = body.0;
        let token = context.accounts.log_in(&email, password.0, address.0, previous.0.as_deref()).await?;
        Ok(LoggedIn::Ok(Json(SignedIn::new("Successfully logged in.", token))))
    }

    /// Log out
    ///
    /// Ends the session of the token at once on every gateway, and its streams.
    #[oai(path = "/auth/logout", method = "post", operation_id = "logOut", tag = "Tag::Leave")]
    async fn log_out(&self, context: Data<&Arc<ApiContext>>, caller: Authenticated) -> Result<LoggedOut, ApiError> {
        context.accounts.log_out(&caller.0).await?;
        Ok(LoggedOut::Ok(Json(Done::new("Successfully logged out."))))
    }
}
