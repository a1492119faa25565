//! The command `copy-database`: copies an installation from SQLite to Postgres, or back.

use std::time::{Duration, Instant};

use shared::settings::Secret;
use shared::storage::{self, CopyError, Progress};
use tracing::info;

/// How often the progress of a long table is logged.
const LOG_EVERY: Duration = Duration::from_secs(2);

/// Copies the database at `from` to `to`, and logs its progress.
///
/// It may end at any time, by a signal too: the next call goes on with the messages where this one ended.
pub async fn copy_database(from: &Secret, to: &Secret) -> Result<(), CopyError> {
    let (mut total, mut logged) = (0, Instant::now());
    let copied = |Progress {
                      table,
                      rows,
                      of,
                      is_done,
                  }| {
        if is_done {
            total += rows;
            info!(table, rows, "copied {rows} rows of {table}");
        } else if logged.elapsed() >= LOG_EVERY {
            logged = Instant::now();
            info!(table, rows, of, "copied {rows} of {of} rows of {table}");
        }
    };
    storage::copy(from.expose(), to.expose(), copied).await?;
    info!(
        rows = total,
        "copied everything, {total} rows: start gateways and workers with the new DATABASE_URL"
    );
    Ok(())
}
