//! SQL statements that both back ends run, a file a topic.
//!
//! Both databases number parameters as `$1`; for SQLite that is a name, which the driver reads as the number. A back end's
//! own files keep the statements that differ: parameters that are lists, JSON, locks, and what only one of the two has.
//!
//! A limit is written `LIMIT +$n`. SQLite takes the value of a bare parameter there into its plan, and so plans a prepared
//! statement anew for each execution (`sqlite3ExprIsInteger` in its sources). To Postgres the sign means nothing.

pub(super) mod accounts;
pub(super) mod dead_letters;
pub(super) mod installation;
pub(super) mod messages;
pub(super) mod revocations;
pub(super) mod rooms;
pub(super) mod sign_ins;
pub(super) mod user_keys;
pub(super) mod visibility;

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, SqliteConnection};

    #[tokio::test]
    async fn sqlite_binds_parameters_by_their_number() {
        let mut memory = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let row: (i64, i64, i64, i64) = sqlx::query_as("SELECT $3, $1, $3, $2")
            .bind(1_i64)
            .bind(2_i64)
            .bind(3_i64)
            .fetch_one(&mut memory)
            .await
            .unwrap();
        assert_eq!(row, (3, 1, 3, 2));
    }
}
