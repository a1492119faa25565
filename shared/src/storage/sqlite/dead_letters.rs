//! Dead letters.

use async_trait::async_trait;

use super::Sqlite;
use crate::storage::dead_letters::DeadLetterRow;
use crate::storage::sql::dead_letters as sql;
use crate::storage::{DeadLetter, DeadLetters, StoreError, run_detached};

#[async_trait]
impl DeadLetters for Sqlite {
    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let rows: Vec<DeadLetterRow> =
            sqlx::query_as(sql::LIST_DEAD_LETTERS).bind(after).bind(limit).fetch_all(&self.read).await?;
        Ok(rows.into_iter().map(DeadLetter::try_from).collect::<Result<_, _>>()?)
    }

    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        let row: Option<DeadLetterRow> = sqlx::query_as(sql::DEAD_LETTER).bind(id).fetch_optional(&self.read).await?;
        Ok(row.map(DeadLetter::try_from).transpose()?)
    }

    async fn drop_dead_letter(&self, id: i64) -> Result<bool, StoreError> {
        let pool = self.write.clone();
        run_detached(async move {
            let done = sqlx::query(sql::DELETE_DEAD_LETTER).bind(id).execute(&pool).await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }
}
