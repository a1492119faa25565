//! Dead letters.

use async_trait::async_trait;

use super::{Postgres, run_detached, within_deadline};
use crate::storage::dead_letters::DeadLetterRow;
use crate::storage::sql::dead_letters as sql;
use crate::storage::{DeadLetter, DeadLetters, StoreError};

#[async_trait]
impl DeadLetters for Postgres {
    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let query = sqlx::query_as(sql::LIST_DEAD_LETTERS).bind(after).bind(i64::from(limit));
        let rows: Vec<DeadLetterRow> = within_deadline(query.fetch_all(&self.pool)).await?;
        Ok(rows.into_iter().map(DeadLetter::try_from).collect::<Result<_, _>>()?)
    }

    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        let query = sqlx::query_as(sql::DEAD_LETTER).bind(id);
        let row: Option<DeadLetterRow> = within_deadline(query.fetch_optional(&self.pool)).await?;
        Ok(row.map(DeadLetter::try_from).transpose()?)
    }

    async fn drop_dead_letter(&self, id: i64) -> Result<bool, StoreError> {
        let pool = self.pool.clone();
        run_detached(async move {
            let done = sqlx::query(sql::DELETE_DEAD_LETTER).bind(id).execute(&pool).await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }
}
