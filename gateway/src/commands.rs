//! The commands that change the installation and exit, and the agreement of all gateways on the signing keys.

use shared::bootstrap;
use shared::domain::{Timestamp, Username};
use shared::storage::Store;

use crate::auth::signing_keys;
use crate::auth::tokens::fingerprints;
use crate::config::{BINARY, Config};
use crate::start_error::StartError;

/// The keys in the key file, if the installation signs with one of them; with `replace` it does from now on.
pub(crate) async fn agreed_keys(config: &Config, store: &Store, replace: bool) -> Result<Vec<Vec<u8>>, StartError> {
    let keys = signing_keys::load_or_create(&config.accounts.signing_key_file)?;
    let agreed = store.agree_on_signing_keys(fingerprints(&keys), replace, Timestamp::now()).await?;
    if agreed { Ok(keys) } else { Err(StartError::ForeignKeys) }
}

/// Makes the keys in the key file those of the installation, whatever they were.
pub async fn replace_keys(config: &Config) -> Result<(), StartError> {
    let (store, _) = bootstrap::open_store(&config.common.storage, BINARY.role).await?;
    agreed_keys(config, &store, true).await?;
    store.close().await;
    Ok(())
}

/// Makes the user named `username` an admin.
pub async fn grant_admin(config: &Config, username: &str) -> Result<(), StartError> {
    let (store, _) = bootstrap::open_store(&config.common.storage, BINARY.role).await?;
    let no_such_user = || StartError::NoSuchUser(username.to_owned());
    let name = Username::parse(username).map_err(|_| no_such_user())?;
    // As it was registered in an earlier release, or in the form that names have today.
    let found = store.grant_admin(&name).await? || store.grant_admin(&name.composed()).await?;
    store.close().await;
    if found { Ok(()) } else { Err(no_such_user()) }
}
