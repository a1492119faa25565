//! Claims partitions, also from an owner that is in the middle of a commit.
//!
//! The commit keeps the rows of `cursors` locked. A healthy owner is done in milliseconds, and the server ends the transaction of
//! a silent one (see [`open`](super::open)). But for an owner that was paused or cut off in the middle of sending a statement, the
//! server waits for the rest of it. The claim ends the transaction of such an owner.
//!
//! That is safe whoever the owner is: its transaction is rolled back, or was committed before, as a whole, and the new fence decides
//! what the owner may do from then on. Postgres lets a role end its own connections, so this needs no rights beyond those for
//! writing: all workers share one role.

use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;

use super::cursors::{lock_cursors, numbers};
use super::open::WORKER_NAME;
use crate::domain::Partition;
use crate::storage::Claim;
use crate::storage::commit::{ClaimRow, decode_claims};
use crate::storage::connections::Connections;

/// How long a claim waits for a lock before it looks for the holder, and how long a holder may be silent in its transaction: a
/// hundred times as long as a commit takes, about.
const MAX_SILENCE: Duration = Duration::from_millis(300);

/// How long ending the connection of a holder may take.
const END_WITHIN: Duration = Duration::from_millis(300);

/// How long a claim tries again. After this, somebody holds the lock whom it does not end, such as an operator at a prompt.
const RETRY_FOR: Duration = Duration::from_secs(2);

/// `lock_not_available`: the error of a statement after `lock_timeout`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Claims `partitions` for `owner`, and ends stuck transactions that lock them.
pub(super) async fn claim_partitions(
    pool: &Connections<sqlx::Postgres>,
    partitions: &[Partition],
    owner: &str,
) -> Result<Vec<Claim>, sqlx::Error> {
    let began = Instant::now();
    loop {
        match try_claim(pool, partitions, owner).await {
            Err(error) if is_locked(&error) && began.elapsed() < RETRY_FOR => end_holders(pool, partitions).await?,
            outcome => return outcome,
        }
    }
}

async fn try_claim(
    pool: &Connections<sqlx::Postgres>,
    partitions: &[Partition],
    owner: &str,
) -> Result<Vec<Claim>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query("SELECT set_config('lock_timeout', $1, TRUE)")
        .bind(MAX_SILENCE.as_millis().to_string())
        .execute(&mut *tx)
        .await?;
    lock_cursors(&mut tx, partitions).await?;
    let rows: Vec<ClaimRow> = sqlx::query_as(
        "UPDATE cursors SET fence = fence + 1, owner = $1 WHERE partition = ANY ($2)
         RETURNING partition, fence, stream_ms, stream_counter",
    )
    .bind(owner)
    .bind(numbers(partitions))
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    decode_claims(rows)
}

fn is_locked(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(DatabaseError::code)
        .is_some_and(|code| code == LOCK_NOT_AVAILABLE)
}

/// Ends the connections of workers that lock rows of `partitions` and have neither begun nor ended a statement for [`MAX_SILENCE`].
///
/// A locked row names the transaction that locks it (`xmax`), and each transaction holds the lock on its own number. A worker that
/// waits for a lock itself is left alone, since the cause is whoever holds that lock.
async fn end_holders(pool: &Connections<sqlx::Postgres>, partitions: &[Partition]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT pg_terminate_backend(a.pid, ($1 * 1000)::bigint)
         FROM (SELECT DISTINCT l.pid FROM cursors c JOIN pg_locks l ON l.transactionid = c.xmax
               WHERE c.partition = ANY ($2) AND l.locktype = 'transactionid' AND l.granted) holders
         JOIN pg_stat_activity a ON a.pid = holders.pid
         WHERE a.datname = current_database() AND a.usename = current_user AND a.application_name = $3
           AND a.wait_event_type IS DISTINCT FROM 'Lock'
           AND GREATEST(a.query_start, a.state_change) < clock_timestamp() - make_interval(secs => $4)",
    )
    .bind(END_WITHIN.as_secs_f64())
    .bind(numbers(partitions))
    .bind(WORKER_NAME)
    .bind(MAX_SILENCE.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(())
}
