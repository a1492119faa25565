//! Records who owns partitions and who commits to them, by triggers in tables of the rig's own.

use super::{Database, Either, on};
use crate::evidence::Position;
use crate::failure::Result;

/// Creates a table of the rig's own in which a trigger records who owns a partition, whenever the owner changes or a position
/// goes back. Commits of the same owner that go forward, which are nearly all, cost no row.
const WATCH_SQLITE: &str = "
    CREATE TABLE IF NOT EXISTS rig_positions (
        number INTEGER PRIMARY KEY, partition INTEGER, stream_ms INTEGER, stream_counter INTEGER, fence INTEGER, owner TEXT);
    CREATE TRIGGER IF NOT EXISTS rig_watch AFTER UPDATE ON cursors
    WHEN OLD.fence <> NEW.fence OR OLD.owner <> NEW.owner
        OR (NEW.stream_ms, NEW.stream_counter) < (OLD.stream_ms, OLD.stream_counter)
    BEGIN
        INSERT INTO rig_positions (partition, stream_ms, stream_counter, fence, owner)
        VALUES (OLD.partition, OLD.stream_ms, OLD.stream_counter, OLD.fence, OLD.owner),
               (NEW.partition, NEW.stream_ms, NEW.stream_counter, NEW.fence, NEW.owner);
    END;";

const WATCH_POSTGRES: &str = "
    CREATE TABLE IF NOT EXISTS rig_positions (
        number bigint GENERATED ALWAYS AS IDENTITY, partition bigint, stream_ms bigint, stream_counter bigint,
        fence bigint, owner text);
    CREATE OR REPLACE FUNCTION rig_note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO rig_positions (partition, stream_ms, stream_counter, fence, owner)
        VALUES (OLD.partition, OLD.stream_ms, OLD.stream_counter, OLD.fence, OLD.owner),
               (NEW.partition, NEW.stream_ms, NEW.stream_counter, NEW.fence, NEW.owner);
        RETURN NULL;
    END $$;
    CREATE OR REPLACE TRIGGER rig_watch AFTER UPDATE ON cursors FOR EACH ROW
    WHEN (OLD.fence <> NEW.fence OR OLD.owner <> NEW.owner
        OR (NEW.stream_ms, NEW.stream_counter) < (OLD.stream_ms, OLD.stream_counter))
    EXECUTE FUNCTION rig_note();";

/// Compares, at each commit, the user who commits with the user who has claimed the partition: workers of the rig log in under
/// names of their own. Only Postgres knows who its client is.
const WATCH_COMMITS: &str = "
    CREATE TABLE IF NOT EXISTS rig_claims (partition bigint PRIMARY KEY, claimer text);
    CREATE TABLE IF NOT EXISTS rig_foreign (partition bigint, fence bigint, owner text, claimer text, committer text);
    CREATE SEQUENCE IF NOT EXISTS rig_commits;
    CREATE OR REPLACE FUNCTION rig_compare() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.fence <> NEW.fence THEN
            INSERT INTO rig_claims VALUES (NEW.partition, session_user)
            ON CONFLICT (partition) DO UPDATE SET claimer = excluded.claimer;
        ELSE
            PERFORM nextval('rig_commits');
            INSERT INTO rig_foreign SELECT NEW.partition, NEW.fence, NEW.owner, c.claimer, session_user
            FROM rig_claims c WHERE c.partition = NEW.partition AND c.claimer <> session_user;
        END IF;
        RETURN NULL;
    END $$;
    CREATE OR REPLACE TRIGGER rig_compare AFTER UPDATE ON cursors FOR EACH ROW EXECUTE FUNCTION rig_compare();";

impl Database {
    /// Begins to record each change of ownership, and each position that goes back.
    pub(crate) async fn watch_positions(&mut self) -> Result<()> {
        match &mut self.connection {
            Either::Sqlite(connection) => sqlx::raw_sql(WATCH_SQLITE).execute(connection).await.map(drop)?,
            Either::Postgres(connection) => {
                sqlx::raw_sql(WATCH_POSTGRES).execute(&mut *connection).await?;
                sqlx::raw_sql(WATCH_COMMITS).execute(connection).await?;
            }
        }
        Ok(())
    }

    /// How often a partition was committed to, and the commits by another session than the one that had claimed it; `None`
    /// with SQLite, which does not know its clients.
    pub(crate) async fn foreign_commits(&mut self) -> Result<Option<(i64, Vec<String>)>> {
        let Either::Postgres(connection) = &mut self.connection else {
            return Ok(None);
        };
        let foreign = "SELECT format('%s committed to partition %s, which %s had claimed (fence %s, %s)',
                              committer, partition, claimer, fence, owner) FROM rig_foreign";
        let foreign = sqlx::query_scalar(foreign).fetch_all(&mut *connection).await?;
        let commits = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM rig_commits";
        Ok(Some((sqlx::query_scalar(commits).fetch_one(connection).await?, foreign)))
    }

    /// The recorded positions in their order, and the current ones after them.
    pub(crate) async fn positions(&mut self) -> Result<Vec<Position>> {
        let recorded = "SELECT partition, stream_ms, stream_counter, fence, owner FROM rig_positions ORDER BY number";
        let current = "SELECT partition, stream_ms, stream_counter, fence, owner FROM cursors";
        let mut positions = Vec::new();
        for select in [recorded, current] {
            let rows: Vec<(i64, i64, i64, i64, String)> =
                on!(self, connection => sqlx::query_as(select).fetch_all(connection).await?);
            positions.extend(rows.into_iter().map(|(partition, ms, counter, fence, owner)| Position {
                partition,
                cursor: (ms, counter),
                fence,
                owner,
            }));
        }
        Ok(positions)
    }
}
