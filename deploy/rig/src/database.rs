//! Reads and changes the database of a stack directly, past the services.

mod population;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use uuid::Uuid;

pub(crate) use self::population::Table;
use crate::evidence::{
    Digest, EditedRoom, EntryKind, ExistingRoom, LogEntry, MemberChange, Message, Position, RoomContents, RoomMembers,
    ShownMessage, Target, created_private, names, reaction_counts, replied_to,
};
use crate::failure::{Explain as _, Failure, Result};

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

/// How long opening a connection may take.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// The tables that a backup is of: what workers write, and the epoch.
const BACKED_UP: [&str; 10] = [
    "messages",
    "changes",
    "reactions",
    "replies",
    "mentions",
    "room_heads",
    "search_rooms",
    "search_pages",
    "cursors",
    "installation",
];

/// The database of a stack.
pub struct Database {
    connection: Either,
}

enum Either {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Runs the same expression on whichever connection it is.
macro_rules! on {
    ($database:expr, $connection:ident => $run:expr) => {
        match &mut $database.connection {
            Either::Sqlite($connection) => $run,
            Either::Postgres($connection) => $run,
        }
    };
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

    /// Copies what workers write into tables beside it.
    pub async fn back_up(&mut self) -> Result<()> {
        for table in BACKED_UP {
            let statement = format!("CREATE TABLE rig_old_{table} AS SELECT * FROM {table}");
            on!(self, connection => sqlx::query(AssertSqlSafe(statement)).execute(connection).await.map(drop)?);
        }
        Ok(())
    }

    /// Puts the tables back to what they were at [`Database::back_up`]. No worker may run.
    pub async fn restore(&mut self) -> Result<()> {
        let statements =
            BACKED_UP.map(|table| format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM rig_old_{table};"));
        // In one transaction: gateways read what is restored.
        let all = format!("BEGIN; {} COMMIT", statements.concat());
        on!(self, connection => sqlx::raw_sql(AssertSqlSafe(all)).execute(connection).await.map(drop)?);
        Ok(())
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

    /// The entries beside messages in the log of a room, by seq.
    pub(crate) async fn other_entries(&mut self, room: &str) -> Result<Vec<LogEntry>> {
        let changes: Vec<ChangeRow> = on!(self, connection => {
            sqlx::query_as(CHANGES_OF_ROOM).bind(room).fetch_all(connection).await?
        });
        changes.into_iter().map(change_entry).collect()
    }

    /// Who is in which room, of all rooms, with the seqs of the messages where the name of a room begins with one of `prefixes`.
    pub(crate) async fn room_members(&mut self, prefixes: [&str; 2]) -> Result<Vec<RoomMembers>> {
        let rooms = "SELECT r.id, r.name, r.incarnation, u.username FROM rooms r JOIN users u ON u.id = r.owner_id";
        let changes = "SELECT c.room_id, c.seq, u.username, c.kind, o.username, c.detail FROM changes c
                       JOIN users u ON u.id = c.sender_id LEFT JOIN users o ON o.id = c.member_id
                       WHERE c.kind IN ('member', 'room') ORDER BY c.seq";
        let members = "SELECT m.room_id, u.username FROM members m JOIN users u ON u.id = m.user_id";
        let messages = "SELECT m.room_id, m.id, m.seq FROM messages m JOIN rooms r ON r.id = m.room_id
                        WHERE r.name LIKE $1 OR r.name LIKE $2";
        let rooms: Vec<(i64, String, i64, String)> =
            on!(self, connection => sqlx::query_as(rooms).fetch_all(connection).await?);
        let of_room = |(id, room, incarnation, owner)| {
            let members = RoomMembers {
                room,
                incarnation,
                owner,
                ..RoomMembers::default()
            };
            (id, members)
        };
        let mut rooms: BTreeMap<i64, RoomMembers> = rooms.into_iter().map(of_room).collect();
        let changes: Vec<MemberRow> = on!(self, connection => sqlx::query_as(changes).fetch_all(connection).await?);
        for (room, seq, username, kind, member, detail) in changes {
            let entry = change_entry((seq, username, kind, None, None, member, detail, 0))?;
            rooms.entry(room).or_default().log.push(entry);
        }
        let members: Vec<(i64, String)> = on!(self, connection => sqlx::query_as(members).fetch_all(connection).await?);
        for (room, member) in members {
            rooms.entry(room).or_default().members.insert(member);
        }
        let [one, other] = prefixes.map(|prefix| format!("{prefix}%"));
        let messages: Vec<(i64, Uuid, i64)> =
            on!(self, connection => sqlx::query_as(messages).bind(one).bind(other).fetch_all(connection).await?);
        for (room, id, seq) in messages {
            rooms.entry(room).or_default().messages.insert(id, seq);
        }
        Ok(rooms.into_values().collect())
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

    /// The whole log of a room, who reacts to which of its messages, and who is in it.
    pub(crate) async fn edited_room(&mut self, room: &str) -> Result<EditedRoom> {
        let messages = "SELECT m.seq, u.username, m.id, m.text, m.extra FROM messages m
                        JOIN rooms r ON r.id = m.room_id JOIN users u ON u.id = m.sender_id
                        WHERE r.name = $1 AND r.deleted_on IS NULL";
        let members = "SELECT u.username FROM members m
                       JOIN rooms r ON r.id = m.room_id JOIN users u ON u.id = m.user_id
                       WHERE r.name = $1 AND r.deleted_on IS NULL";
        let reactions = "SELECT x.seq, x.emoji, u.username FROM reactions x
                         JOIN rooms r ON r.id = x.room_id JOIN users u ON u.id = x.user_id
                         WHERE r.name = $1 AND r.deleted_on IS NULL";
        let messages: Vec<MessageRow> =
            on!(self, connection => sqlx::query_as(messages).bind(room).fetch_all(connection).await?);
        let members: Vec<String> =
            on!(self, connection => sqlx::query_scalar(members).bind(room).fetch_all(connection).await?);
        let reactions: Vec<(i64, String, String)> =
            on!(self, connection => sqlx::query_as(reactions).bind(room).fetch_all(connection).await?);
        let mut log = messages.into_iter().map(message_entry).collect::<Result<Vec<_>>>()?;
        log.append(&mut self.other_entries(room).await?);
        log.sort_by_key(|entry| entry.seq);
        Ok(EditedRoom {
            history: Vec::new(),
            log,
            reactions: reactions.into_iter().collect(),
            members: members.into_iter().collect(),
        })
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

/// A row of a message: seq, sender, id, text, and in JSON what few messages have.
type MessageRow = (i64, String, Uuid, String, Option<String>);
/// A row of a change: seq, sender, kind, the message that it is about and its seq, the user that it is about, in JSON what its kind
/// has, and the time.
type ChangeRow = (i64, String, String, Option<Uuid>, Option<i64>, Option<String>, Option<String>, i64);

/// A row of a change of a member or a room: room, seq, user, kind, the user that it is about, and in JSON what its kind has.
type MemberRow = (i64, i64, String, String, Option<String>, Option<String>);

/// Selects the changes in the log of room `$1`, by seq.
const CHANGES_OF_ROOM: &str =
    "SELECT c.seq, u.username, c.kind, c.target, c.target_seq, o.username, c.detail, c.created_on FROM changes c
     JOIN rooms r ON r.id = c.room_id JOIN users u ON u.id = c.sender_id LEFT JOIN users o ON o.id = c.member_id
     WHERE r.name = $1 AND r.deleted_on IS NULL ORDER BY c.seq";

fn message_entry((seq, username, id, text, extra): MessageRow) -> Result<LogEntry> {
    let extra: Value = extra.map_or(Ok(Value::Null), |extra| serde_json::from_str(&extra))?;
    let garbage = || Failure::new(format!("message {seq} has {extra}"));
    let message = ShownMessage {
        id,
        text: Digest::of(&text),
        edited_on: extra["edited_on"].as_i64(),
        deleted: extra["deleted"].as_bool().unwrap_or(false),
        reactions: reaction_counts(&extra["reactions"]).ok_or_else(garbage)?,
        reply_to: replied_to(&extra["reply_to"])?,
        mentions: names(&extra["mentions"]).ok_or_else(garbage)?,
    };
    Ok(LogEntry {
        seq,
        username,
        kind: EntryKind::Message(message),
    })
}

fn change_entry((seq, username, kind, id, target_seq, member, detail, created_on): ChangeRow) -> Result<LogEntry> {
    let data: Value = detail.map_or(Ok(Value::Null), |detail| serde_json::from_str(&detail))?;
    let target = id.zip(target_seq).map(|(id, seq)| Target { id, seq });
    let parsed = match kind.as_str() {
        // The text is kept in the row of the message alone.
        "edit" => target.map(|target| EntryKind::Edit {
            target,
            text: Digest::of(""),
            edited_on: created_on,
        }),
        "delete" => target.map(|target| EntryKind::Delete { target }),
        "reaction" => target.and_then(|target| {
            Some(EntryKind::Reaction {
                target,
                emoji: data["emoji"].as_str()?.to_owned(),
                on: data["on"].as_bool()?,
                count: data["count"].as_i64()?,
            })
        }),
        "member" => member.and_then(|member| {
            let change = MemberChange::parse(&data)?;
            Some(EntryKind::Member { member, change })
        }),
        "room" => created_private(&data).map(|private| EntryKind::Created { private }),
        _ => None,
    };
    let kind = parsed.ok_or_else(|| Failure::new(format!("the change {seq} of kind '{kind}' has {data}")))?;
    Ok(LogEntry { seq, username, kind })
}
