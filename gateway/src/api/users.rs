//! `/user`: signing up and looking users up.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use shared::domain::{Email, Invalid, PublicId, Timestamp, Username};
use shared::storage;
use uuid::Uuid;

use super::Tag;
use super::access::{Authenticated, ClientAddress};
use super::body::JsonBody;
use super::error::{ApiError, FORBIDDEN};
use super::models::{Registration, SignedIn, UserList, UserProfile, UserRecord};
use super::params::Integer;
use super::rooms::Page;
use crate::app::App;
use crate::auth::common_passwords;
use crate::auth::passwords::{self, HashQueue};

/// Answers to registering.
#[derive(ApiResponse)]
pub enum Registered {
    /// The user exists and is logged in.
    #[oai(status = 201)]
    Created(Json<SignedIn>),
}

/// Answers to listing users.
#[derive(ApiResponse)]
pub enum UserPage {
    /// The users.
    #[oai(status = 200)]
    Ok(
        Json<UserList>,
        /// The next page, as `<path>; rel="next"`.
        #[oai(header = "Link")]
        Option<String>,
    ),
}

/// Answers to looking a user up.
#[derive(ApiResponse)]
pub enum FoundUser {
    /// The user.
    #[oai(status = 200)]
    Ok(Json<UserProfile>),
}

/// Operations on users.
pub struct UsersApi;

#[OpenApi(tag = "Tag::SignUp")]
impl UsersApi {
    /// Register
    ///
    /// Creates a user and logs them in.
    #[oai(path = "/user", method = "post", operation_id = "registerUser")]
    async fn register(
        &self,
        app: Data<&Arc<App>>,
        address: ClientAddress,
        body: JsonBody<Registration>,
    ) -> Result<Registered, ApiError> {
        let now = Timestamp::now();
        let candidate = Candidate::parse(body.0, &app)?;
        app.limits.register(address.0).await?;
        let new = storage::NewUser {
            password_hash: app.passwords.hash(candidate.password, HashQueue::UnknownOrigin).await?,
            email: candidate.email,
            username: candidate.username,
            public_id: candidate.public_id,
            admin_if_first: app.config.accounts.first_user_is_admin,
        };
        let user = app.store.create_user(new, now).await?;
        app.known_origins.remember(user.id, address.0, now).await?;
        let token = app.sessions.open(&user, now).await?;
        Ok(Registered::Created(Json(SignedIn::new("Successfully registered.", token))))
    }

    /// List all users
    ///
    /// For admins. Sorted by public id, in pages.
    #[oai(path = "/user", method = "get", operation_id = "listUsers")]
    async fn list(
        &self,
        app: Data<&Arc<App>>,
        caller: Authenticated,
        /// Start behind this public id.
        after: Query<Option<String>>,
        /// How many at most: 1–1,000.
        limit: Query<Option<Integer>>,
    ) -> Result<UserPage, ApiError> {
        if !caller.0.session.user.is_admin {
            FORBIDDEN.report(format_args!("user:{}", caller.0.session.user.id.0), "list users");
            return Err(ApiError::Forbidden);
        }
        let page = Page::parse(after.0, limit.0, PublicId::MAX_LEN)?;
        let users = app.store.list_users(&page.after, page.limit).await?;
        let link = page.link("/user", users.len(), users.last().map(|user| user.public_id.as_str()));
        let data = users.into_iter().map(UserRecord::from).collect();
        Ok(UserPage::Ok(Json(UserList { data }), link))
    }

    /// Look a user up
    ///
    /// The e-mail is shown to the user and to admins only.
    #[oai(path = "/user/:public_id", method = "get", operation_id = "getUser")]
    async fn get(
        &self,
        app: Data<&Arc<App>>,
        caller: Authenticated,
        /// The user's name in URLs.
        public_id: Path<String>,
    ) -> Result<FoundUser, ApiError> {
        let not_found = || ApiError::UserNotFound(public_id.0.clone());
        let public_id = PublicId::parse(&public_id.0).map_err(|_| not_found())?;
        let user = app.store.user_by_public_id(&public_id).await?.ok_or_else(not_found)?;
        let caller = &caller.0.session.user;
        Ok(FoundUser::Ok(Json(UserProfile {
            email: (caller.is_admin || caller.id == user.id).then_some(user.email),
            username: user.username,
            public_id: user.public_id,
        })))
    }
}

/// A registration whose fields are valid.
struct Candidate {
    email: Email,
    username: Username,
    password: String,
    public_id: PublicId,
}

impl Candidate {
    /// Checks all fields, so that a form can mark every wrong one at once.
    fn parse(body: Registration, app: &App) -> Result<Self, ApiError> {
        let accounts = &app.config.accounts;
        let email = Email::parse_new(&body.email, accounts.strict_email);
        let username = Username::parse_new(&body.username);
        let names: [&str; 2] = [&body.email, &body.username];
        let password = check_password(&body.password, usize::from(accounts.password_min_length)).and_then(|()| {
            if accounts.allow_weak_passwords {
                Ok(())
            } else {
                common_passwords::check(&body.password, &names)
            }
        });
        let public_id = body.public_id.map_or_else(|| Uuid::now_v7().to_string(), |given| given.0);
        let public_id = PublicId::parse_new(&public_id);
        match (email, username, password, public_id) {
            (Ok(email), Ok(username), Ok(()), Ok(public_id)) => Ok(Self {
                email,
                username,
                password: body.password.0,
                public_id,
            }),
            (email, username, password, public_id) => {
                let invalid = [email.err(), username.err(), password.err(), public_id.err()];
                Err(ApiError::InvalidFields(invalid.into_iter().flatten().collect()))
            }
        }
    }
}

fn check_password(password: &str, min: usize) -> Result<(), Invalid> {
    match password.chars().count() {
        length if length < min => {
            Err(Invalid::new("password", "too_short", format!("Must have at least {min} characters.")))
        }
        length if length > passwords::MAX_LENGTH => {
            let message = format!("Must have at most {} characters.", passwords::MAX_LENGTH);
            Err(Invalid::new("password", "too_long", message))
        }
        _ => Ok(()),
    }
}
