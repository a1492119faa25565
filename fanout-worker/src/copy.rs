//! The command that moves an installation from SQLite to Postgres.

use shared::settings::Secret;
use shared::storage;
use tracing::info;

use crate::StartError;

/// Copies the database at `from` to `to`, telling of each table.
pub async fn copy_database(from: &Secret, to: &Secret) -> Result<(), StartError> {
    let mut total = 0;
    let copied = |table, rows| {
        total += rows;
        info!(table, rows, "copied {rows} rows of {table}");
    };
    storage::copy(from.expose(), to.expose(), copied).await?;
    info!(
        rows = total,
        "copied everything, {total} rows: start gateways and workers with the new DATABASE_URL"
    );
    Ok(())
}
