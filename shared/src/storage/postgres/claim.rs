//! Taking partitions over from an owner that is in the middle of a commit.
//!
//! The commit holds the rows of `cursors` locked. An owner that is at work is through in milliseconds, and one that says
//! nothing is ended by the server (see [`open`](super::open)); but the server waits for the rest of a statement that has
//! begun to arrive, from an owner that was paused or cut off just there. That one is ended from here.
//!
//! It is safe whoever it was: a transaction that is ended is rolled back or was committed before, all of it, and the new
//! fence decides what its owner may do from then on. Postgres lets a role end its own connections, so that this needs no
//! right beyond those that writing needs; workers share one role.

use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;

use super::commit::{lock_cursors, numbers};
use super::open::WORKER_NAME;
use crate::domain::Partition;
use crate::storage::Claim;
use crate::storage::commit::{ClaimRow, decode_claims};
use crate::storage::connections::Connections;

/// How long a claim waits for a lock before it looks at who holds it, and how long a holder may be silent in its
/// transaction. Some hundred times as long as a commit takes.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long ending a holder may take.
const END_WITHIN: Duration = Duration::from_millis(300);

/// After this, the lock is not waited for again: somebody holds it whom we do not end, as an operator at a prompt.
const CLAIM_WITHIN: Duration = Duration::from_secs(2);

/// `lock_not_available`: what a statement fails with after `lock_timeout`.
const NO_LOCK: &str = "55P03";

/// Takes over `partitions` for `owner`, and ends what is in the way.
pub(super) async fn claim_partitions(
    pool: &Connections<sqlx::Postgres>,
    partitions: &[Partition],
    owner: &str,
) -> Result<Vec<Claim>, sqlx::Error> {
    let began = Instant::now();
    loop {
        match try_claim(pool, partitions, owner).await {
            Err(error) if is_locked(&error) && began.elapsed() < CLAIM_WITHIN => end_holders(pool, partitions).await?,
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
        .bind(PATIENCE.as_millis().to_string())
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
    error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code == NO_LOCK)
}

/// Ends the connections of workers that hold rows of `partitions` and have neither begun nor ended a statement for
/// [`PATIENCE`].
///
/// A locked row names the transaction that holds it (`xmax`), and each transaction holds the lock on its own number. One
/// that waits for a lock itself is left alone: whoever holds that is the cause.
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
    .bind(PATIENCE.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(())
}
