//! `/user`: signing up and looking users up.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use shared::domain::PublicId;

use super::access::{Authenticated, ClientAddress};
use super::body::JsonBody;
use super::error::ApiError;
use super::models::{Registration, SignedIn, UserList, UserProfile, UserRecord};
use super::pages::PageQuery;
use super::params::Integer;
use super::{ApiContext, Tag};

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
        context: Data<&Arc<ApiContext>>,
        address: ClientAddress,
        body: JsonBody<Registration>,
    ) -> Result<Registered, ApiError> {
        let token = context.accounts.register(body.0.into(), address.0).await?;
        Ok(Registered::Created(Json(SignedIn::new("Successfully registered.", token))))
    }

    /// List all users
    ///
    /// For admins. Sorted by public id, in pages.
    #[oai(path = "/user", method = "get", operation_id = "listUsers")]
    async fn list(
        &self,
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// Start behind this public id.
        after: Query<Option<String>>,
        /// How many at most: 1–1,000.
        limit: Query<Option<Integer>>,
    ) -> Result<UserPage, ApiError> {
        // Whoever may not list users does not learn whether the parameters are valid.
        let list = context.accounts.user_list(&caller.0.session.user)?;
        let page = PageQuery::parse(after.0, limit.0, PublicId::MAX_LEN)?;
        let users = list.page_after(&page.after, page.limit).await?;
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
        context: Data<&Arc<ApiContext>>,
        caller: Authenticated,
        /// The user's name in URLs.
        public_id: Path<String>,
    ) -> Result<FoundUser, ApiError> {
        let not_found = || ApiError::UserNotFound(public_id.0.clone());
        let public_id = PublicId::parse(&public_id.0).map_err(|_| not_found())?;
        let found = context.accounts.profile(&caller.0.session.user, &public_id).await?;
        Ok(FoundUser::Ok(Json(found.ok_or_else(not_found)?.into())))
    }
}
