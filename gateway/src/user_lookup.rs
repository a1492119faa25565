//! Finds users by the names that clients send.

use shared::domain::{PublicId, UserId, Username};
use shared::storage::{Store, StoreError};

/// The user of this username, or else of this public id.
pub(crate) async fn user_named(store: &Store, name: &str) -> Result<Option<UserId>, StoreError> {
    if let Ok(username) = Username::parse(name)
        && let Some(user) = store.user_ids(&[name.to_owned()]).await?.get(username.as_str())
    {
        return Ok(Some(*user));
    }
    let Ok(public_id) = PublicId::parse(name) else {
        return Ok(None);
    };
    Ok(store.user_by_public_id(&public_id).await?.map(|user| user.id))
}
