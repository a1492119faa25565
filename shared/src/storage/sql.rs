//! SQL statements that both back ends run, one file per topic.
//!
//! Both databases accept `$1` for the first parameter. For SQLite it is a name, which the driver converts to the number. The
//! statements that differ are in the files of each back end: those with lists as parameters, JSON or locks.
//!
//! A limit is written `LIMIT +$n`. SQLite takes the value of a bare parameter there into its plan, and so plans a prepared
//! statement anew for each execution (`sqlite3ExprIsInteger` in its sources). For Postgres the sign makes no difference.

pub(super) mod accounts;
pub(super) mod dead_letters;
pub(super) mod head_positions;
pub(super) mod installation;
pub(super) mod messages;
pub(super) mod outbox;
pub(super) mod positions;
pub(super) mod revocations;
pub(super) mod rooms;
pub(super) mod search;
pub(super) mod sign_ins;
pub(super) mod user_keys;
pub(super) mod user_rooms;
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
