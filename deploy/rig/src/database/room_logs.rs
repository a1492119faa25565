//! Reads the logs of rooms: messages with what few of them have, changes, and members.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::{Database, Either, on};
use crate::evidence::{
    Digest, EditedRoom, EntryKind, LogEntry, MemberChange, RoomMembers, ShownMessage, Target, created_private, names,
    reaction_counts, replied_to,
};
use crate::failure::{Failure, Result};

impl Database {
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
