//! Reads and changes the database of a stack directly, past the services.

mod backup;
mod population;
mod room_logs;
mod watch;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use uuid::Uuid;

pub(crate) use self::population::Table;
use crate::evidence::{Digest, ExistingRoom, Message, RoomContents};
use crate::failure::{Explain as _, Failure, Result};

/// Runs the same expression on whichever connection it is.
macro_rules! on {
    ($database:expr, $connection:ident => $run:expr) => {
        match &mut $database.connection {
            Either::Sqlite($connection) => $run,
            Either::Postgres($connection) => $run,
        }
    };
}
use on;

/// How long opening a connection may take.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// The database of a stack.
pub struct Database {
    connection: Either,
}

enum Either {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Database {
    /// Opens the database at `url`, `sqlite://<path>` or `postgres://…`.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let opening = async {
            Ok::<_, sqlx::Error>(match url.strip_prefix("sqlite://") {
                Some(file) => Either::Sqlite(SqliteConnectOptions::new().filename(file).connect().await?),
                None => Either::Postgres(PgConnection::connect(url).await?),
            })
        };
        let connection = tokio::time::timeout(OPEN_WITHIN, opening).await;
        let connection = connection.explain(|| "the database does not accept a connection".to_owned())??;
        Ok(Self { connection })
    }

    /// Fails with the reason when the database is damaged, or its tables contradict each other.
    pub async fn check_integrity(&mut self) -> Result<()> {
        if let Either::Sqlite(connection) = &mut self.connection {
            let findings: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check").fetch_all(connection).await?;
            if findings != ["ok"] {
                return Err(Failure::new(format!("the database is damaged: {}", findings.join("; "))));
            }
        }
        let heads = "SELECT count(*) FROM room_heads h
                     WHERE h.seq <> (SELECT count(*) FROM messages m WHERE m.room_id = h.room_id) + h.others
                        OR h.others <> (SELECT count(*) FROM changes c WHERE c.room_id = h.room_id)";
        match on!(self, connection => sqlx::query_scalar::<_, i64>(heads).fetch_one(connection).await?) {
            0 => Ok(()),
            wrong => Err(Failure::new(format!("{wrong} rooms have a head that is not the number of their entries"))),
        }
    }

    /// The id of the installation, as it appears in keys in Redis.
    pub async fn installation(&mut self) -> Result<String> {
        let select = "SELECT identity FROM installation";
        Ok(on!(self, connection => sqlx::query_scalar(select).fetch_one(connection).await?))
    }

    /// How many accepted entries were set aside because they could not be stored.
    pub async fn dead_letters(&mut self) -> Result<i64> {
        let count = "SELECT count(*) FROM dead_letters";
        Ok(on!(self, connection => sqlx::query_scalar(count).fetch_one(connection).await?))
    }

    /// How many messages are stored in all rooms.
    pub async fn count_messages(&mut self) -> Result<i64> {
        let count = "SELECT count(*) FROM messages";
        Ok(on!(self, connection => sqlx::query_scalar(count).fetch_one(connection).await?))
    }

    /// How many entries of all rooms are indexed for searches.
    pub async fn count_indexed(&mut self) -> Result<i64> {
        let count = "SELECT CAST(COALESCE(SUM(indexed), 0) AS bigint) FROM search_rooms";
        Ok(on!(self, connection => sqlx::query_scalar(count).fetch_one(connection).await?))
    }

    /// The messages of a room, by their seqs.
    pub async fn messages(&mut self, room: &str) -> Result<Vec<Message>> {
        let select = "SELECT m.seq, m.id, m.text FROM messages m JOIN rooms r ON r.id = m.room_id
                      WHERE r.name = $1 AND r.deleted_on IS NULL ORDER BY m.seq";
        let rows: Vec<(i64, Uuid, String)> =
            on!(self, connection => sqlx::query_as(select).bind(room).fetch_all(connection).await?);
        let message = |(seq, id, text): (i64, Uuid, String)| Message {
            seq,
            id,
            text: Digest::of(&text),
        };
        Ok(rows.into_iter().map(message).collect())
    }

    /// The ids of all messages.
    pub(crate) async fn all_ids(&mut self) -> Result<HashSet<Uuid>> {
        let ids: Vec<Uuid> =
            on!(self, connection => sqlx::query_scalar("SELECT id FROM messages").fetch_all(connection).await?);
        Ok(ids.into_iter().collect())
    }

    /// Those of `ids` that are stored.
    pub(crate) async fn stored(&mut self, ids: &[Uuid]) -> Result<HashSet<Uuid>> {
        // Hexadecimal digits only, so that the list can stand in the statement, which differs between the two.
        let list: Vec<String> = ids.iter().map(|id| id.simple().to_string()).collect();
        let found: Vec<Uuid> = match &mut self.connection {
            Either::Sqlite(connection) => {
                let list = list.join("',X'");
                let select = format!("SELECT id FROM messages WHERE id IN (X'{list}')");
                sqlx::query_scalar(AssertSqlSafe(select)).fetch_all(connection).await?
            }
            Either::Postgres(connection) => {
                sqlx::query_scalar("SELECT id FROM messages WHERE id = ANY($1)")
                    .bind(ids)
                    .fetch_all(connection)
                    .await?
            }
        };
        Ok(found.into_iter().collect())
    }

    /// The owner of each partition and how often it changed.
    pub async fn owners(&mut self) -> Result<Vec<(String, i64)>> {
        let owners = "SELECT owner, fence FROM cursors ORDER BY partition";
        Ok(on!(self, connection => sqlx::query_as(owners).fetch_all(connection).await?))
    }

    /// What is stored in the rooms whose names begin with one of `prefixes`, of each room that had such a name.
    pub async fn room_contents(&mut self, prefixes: [&str; 2]) -> Result<Vec<RoomContents>> {
        let select = "SELECT r.name, r.incarnation, m.id FROM rooms r JOIN messages m ON m.room_id = r.id
                      WHERE r.name LIKE $1 OR r.name LIKE $2 ORDER BY r.name, r.incarnation, m.seq";
        let [one, other] = prefixes.map(|prefix| format!("{prefix}%"));
        let rows: Vec<(String, i64, Uuid)> =
            on!(self, connection => sqlx::query_as(select).bind(one).bind(other).fetch_all(connection).await?);
        let mut contents: Vec<RoomContents> = Vec::new();
        for (room, incarnation, id) in rows {
            match contents.last_mut() {
                Some(last) if last.room == room && last.incarnation == incarnation => last.messages.push(id),
                _ => contents.push(RoomContents {
                    room,
                    incarnation,
                    messages: vec![id],
                }),
            }
        }
        Ok(contents)
    }

    /// Runs a statement that the product never runs.
    pub async fn execute(&mut self, statement: &'static str) -> Result<()> {
        on!(self, connection => { sqlx::query(statement).execute(connection).await?; });
        Ok(())
    }

    /// How many changes of members and rooms are not in the logs yet.
    pub(crate) async fn count_outbox(&mut self) -> Result<i64> {
        Ok(on!(self, connection => sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(connection).await?))
    }

    /// The rooms that exist, with their last seqs and their members, by name.
    pub(crate) async fn existing_rooms(&mut self) -> Result<BTreeMap<String, ExistingRoom>> {
        let heads = "SELECT r.name, COALESCE(h.seq, 0) FROM rooms r LEFT JOIN room_heads h ON h.room_id = r.id
                     WHERE r.deleted_on IS NULL";
        let members = "SELECT r.name, u.username FROM members m
                       JOIN rooms r ON r.id = m.room_id JOIN users u ON u.id = m.user_id WHERE r.deleted_on IS NULL";
        let heads: Vec<(String, i64)> = on!(self, connection => sqlx::query_as(heads).fetch_all(connection).await?);
        let members: Vec<(String, String)> =
            on!(self, connection => sqlx::query_as(members).fetch_all(connection).await?);
        let mut rooms: BTreeMap<String, ExistingRoom> = BTreeMap::new();
        for (room, head) in heads {
            rooms.entry(room).or_default().head = head;
        }
        for (room, member) in members {
            rooms.entry(room).or_default().members.insert(member);
        }
        Ok(rooms)
    }

    /// Makes all messages older by `age`.
    pub async fn age_messages(&mut self, age: Duration) -> Result<()> {
        let statement = "UPDATE messages SET created_on = created_on - $1";
        let millis = i64::try_from(age.as_millis())?;
        on!(self, connection => { sqlx::query(statement).bind(millis).execute(connection).await?; });
        Ok(())
    }

    /// Deletes a message from history, as damage does.
    pub async fn lose_message(&mut self, room: &str, seq: i64) -> Result<()> {
        let statement = format!(
            "DELETE FROM messages WHERE seq = {seq} AND room_id = (SELECT id FROM rooms WHERE name = '{room}' AND deleted_on IS NULL)"
        );
        match &mut self.connection {
            Either::Sqlite(connection) => {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)?;
            }
            Either::Postgres(connection) => {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)?;
            }
        }
        Ok(())
    }

    /// Closes the connection, so that a service may checkpoint the file.
    pub async fn close(self) -> Result<()> {
        match self.connection {
            Either::Sqlite(connection) => connection.close().await?,
            Either::Postgres(connection) => connection.close().await?,
        }
        Ok(())
    }
}
