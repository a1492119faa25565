//! Reads for searches, and the pages of their index.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::Sqlite;
use super::json_list::json_list;
use crate::blocking::block_in_place_if_large;
use crate::domain::{RoomId, Seq, UserId};
use crate::storage::search::segment::{Key, Page, SMALLEST, Segment};
use crate::storage::search::{
    self, IndexStatements, KeyRange, PageEdit, PageRow, PageStatements, RoomRow, SearchStatements, TextRange, TextRow,
};
use crate::storage::sql::search::{self as sql, ends, found_is_visible};
use crate::storage::{Search, SearchError, SearchIndex, SearchPage, StoreError};

/// Messages in one row: with SQLite, handing a row from its thread to ours costs more than reading it.
macro_rules! texts {
    ($rest:literal) => {
        concat!(
            "SELECT json_group_array(json_array(m.room_id, m.seq, m.position, m.sender_id, m.text)) FROM json_each($1) j
             CROSS JOIN messages m ON ",
            $rest
        )
    };
}

const TEXTS_BETWEEN: &str = texts!("m.room_id = j.value ->> 0 AND m.seq > j.value ->> 1 AND m.seq < j.value ->> 2");

const TEXTS_AT: &str = texts!("m.room_id = $2 AND m.seq = j.value");

const ENDS: &str = ends!("(SELECT j.value FROM json_each($2) j)");

/// CROSS JOIN: in this order, so that each page is looked up by its key.
const PAGES: &str = "SELECT i.indexed, p.level, p.number, k.key, p.postings
     FROM search_rooms i CROSS JOIN json_each($2) s CROSS JOIN json_each($3) k CROSS JOIN search_pages p
     WHERE i.room_id = $1 AND p.room_id = $1 AND p.level = s.value ->> 0 AND p.number = s.value ->> 1
       AND p.first_word >= (SELECT q.first_word FROM search_pages q
                            WHERE q.room_id = $1 AND q.level = s.value ->> 0 AND q.number = s.value ->> 1
                              AND q.first_word <= unhex(k.value ->> 0) ORDER BY q.first_word DESC LIMIT 1)
       AND p.first_word <= unhex(k.value ->> 1)";

const ALL_PAGES: &str = "SELECT p.level, p.number, p.postings FROM json_each($2) s CROSS JOIN search_pages p
     WHERE p.room_id = $1 AND p.level = s.value ->> 0 AND p.number = s.value ->> 1";

const FOUND: &str = concat!(
    "SELECT json_group_array(json_array(m.room_id, r.name, m.position,
            json_array(m.seq, hex(m.id), u.username, u.public_id, m.kind, m.text, m.created_on, json(m.extra))))
     FROM json_each($2) j CROSS JOIN messages m ON m.room_id = j.value ->> 0 AND m.seq = j.value ->> 1
     JOIN users u ON u.id = m.sender_id JOIN rooms r ON r.id = m.room_id WHERE ",
    found_is_visible!()
);

const COUNT_ALTERED: &str =
    "INSERT INTO search_rooms (room_id, altered) SELECT j.value, 1 FROM json_each($1) j WHERE true
     ON CONFLICT (room_id) DO UPDATE SET altered = search_rooms.altered + 1 RETURNING room_id, indexed";

const PAGES_OF: &str = "SELECT k.key, p.first_word, p.postings FROM json_each($1) k CROSS JOIN search_pages p
     WHERE p.room_id = k.value ->> 0 AND p.level = k.value ->> 1 AND p.number = k.value ->> 2
       AND p.first_word = (SELECT q.first_word FROM search_pages q
                           WHERE q.room_id = k.value ->> 0 AND q.level = k.value ->> 1 AND q.number = k.value ->> 2
                             AND q.first_word <= unhex(k.value ->> 3) ORDER BY q.first_word DESC LIMIT 1)";

const REMOVE_PAGES: &str = "DELETE FROM search_pages WHERE (room_id, level, number, first_word) IN
     (SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, unhex(j.value ->> 3) FROM json_each($1) j)";

const INSERT_PAGES: &str = "INSERT INTO search_pages (room_id, level, number, first_word, postings)
     SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, unhex(j.value ->> 3), unhex(j.value ->> 4) FROM json_each($1) j";

fn levels_and_numbers(segments: &[Segment]) -> Result<String, sqlx::Error> {
    json_list(segments.iter().map(|segment| (segment.level, segment.number)))
}

/// A page as [`INSERT_PAGES`] reads it.
fn page_row(room: RoomId, segment: Segment, (first_word, postings): &Page) -> (RoomId, usize, i64, String, String) {
    (room, segment.level, segment.number, hex::encode(first_word), hex::encode(postings))
}

fn decode_texts(json: &str) -> Result<Vec<TextRow>, sqlx::Error> {
    let read = || serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()));
    block_in_place_if_large(json.len(), read)
}

#[async_trait]
impl SearchIndex for Sqlite {
    async fn search(&self, search: &Search) -> Result<Option<SearchPage>, SearchError> {
        search::run(self, search).await
    }

    async fn rooms_to_index(&self, after: RoomId, limit: u32) -> Result<Vec<RoomId>, StoreError> {
        let rooms: Vec<i64> = sqlx::query_scalar(sql::ROOMS_TO_INDEX)
            .bind(after.0)
            .bind(SMALLEST)
            .bind(limit)
            .fetch_all(&self.read)
            .await?;
        Ok(rooms.into_iter().map(RoomId).collect())
    }

    async fn index_room(&self, room: RoomId) -> Result<bool, StoreError> {
        Ok(search::index_next(self, room).await?)
    }
}

impl SearchStatements for Sqlite {
    async fn rooms(&self, user: UserId, room: Option<RoomId>) -> Result<Vec<RoomRow>, sqlx::Error> {
        let query = match room {
            Some(room) => sqlx::query_as(sql::ONE_ROOM).bind(user.0).bind(room.0),
            None => sqlx::query_as(sql::ROOMS_OF_USER).bind(user.0),
        };
        query.fetch_all(&self.history).await
    }

    async fn ends(&self, rooms: &[RoomId], before: i64) -> Result<Vec<(i64, i64)>, sqlx::Error> {
        sqlx::query_as(ENDS).bind(before).bind(json_list(rooms)?).fetch_all(&self.history).await
    }

    async fn texts_between(&self, ranges: &[TextRange]) -> Result<Vec<TextRow>, sqlx::Error> {
        let query = sqlx::query_scalar(TEXTS_BETWEEN).bind(json_list(ranges)?);
        let json: String = query.fetch_one(&self.history).await?;
        decode_texts(&json)
    }

    async fn texts_at(&self, room: RoomId, seqs: &[Seq]) -> Result<Vec<TextRow>, sqlx::Error> {
        let query = sqlx::query_scalar(TEXTS_AT).bind(json_list(seqs)?).bind(room.0);
        let json: String = query.fetch_one(&self.history).await?;
        decode_texts(&json)
    }

    async fn pages(
        &self,
        room: RoomId,
        segments: &[Segment],
        ranges: &[KeyRange],
    ) -> Result<Vec<PageRow>, sqlx::Error> {
        let ranges = ranges.iter().map(|(low, high)| (hex::encode(low), hex::encode(high)));
        sqlx::query_as(PAGES)
            .bind(room.0)
            .bind(levels_and_numbers(segments)?)
            .bind(json_list(ranges)?)
            .fetch_all(&self.history)
            .await
    }

    async fn indexed(&self, room: RoomId) -> Result<Seq, sqlx::Error> {
        sqlx::query_scalar(sql::INDEXED).bind(room.0).fetch_one(&self.history).await.map(Seq)
    }

    async fn position_from(&self, room: RoomId, seq: Seq) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query_scalar(sql::POSITION_FROM).bind(room.0).bind(seq.0).fetch_optional(&self.history).await
    }

    async fn found(&self, user: UserId, at: &[(RoomId, Seq)]) -> Result<String, sqlx::Error> {
        sqlx::query_scalar(FOUND).bind(user.0).bind(json_list(at)?).fetch_one(&self.history).await
    }
}

impl IndexStatements for Sqlite {
    async fn index_state(&self, room: RoomId) -> Result<(i64, i64, i64), sqlx::Error> {
        if let Some(state) = sqlx::query_as(sql::INDEX_STATE).bind(room.0).fetch_optional(&self.history).await? {
            return Ok(state);
        }
        let add = sqlx::query(sql::ADD_ROOM).bind(room.0);
        add.execute(&self.write).await?;
        sqlx::query_as(sql::INDEX_STATE).bind(room.0).fetch_one(&self.history).await
    }

    async fn all_pages(&self, room: RoomId, segments: &[Segment]) -> Result<Vec<(i64, i64, Vec<u8>)>, sqlx::Error> {
        sqlx::query_as(ALL_PAGES)
            .bind(room.0)
            .bind(levels_and_numbers(segments)?)
            .fetch_all(&self.history)
            .await
    }

    async fn write_index(
        &self,
        room: RoomId,
        (indexed, altered): (i64, i64),
        to: Seq,
        removed: &[Segment],
        pages: Vec<(Segment, Page)>,
    ) -> Result<bool, sqlx::Error> {
        let removed = removed.to_vec();
        let pages = json_list(pages.iter().map(|(segment, page)| page_row(room, *segment, page)))?;
        self.transaction(move |tx| {
            Box::pin(async move {
                let moved = sqlx::query(sql::MOVE_INDEXED).bind(room.0).bind(to.0).bind(indexed).bind(altered);
                if moved.execute(&mut *tx).await?.rows_affected() == 0 {
                    return Ok(false);
                }
                for segment in removed {
                    let level = i64::try_from(segment.level).unwrap_or(i64::MAX);
                    let remove = sqlx::query(sql::REMOVE_SEGMENT).bind(room.0).bind(level).bind(segment.number);
                    remove.execute(&mut *tx).await?;
                }
                sqlx::query(INSERT_PAGES).bind(pages).execute(&mut *tx).await?;
                Ok(true)
            })
        })
        .await
    }
}

impl PageStatements for SqliteConnection {
    async fn count_altered(&mut self, rooms: &[RoomId]) -> Result<Vec<(i64, i64)>, sqlx::Error> {
        sqlx::query_as(COUNT_ALTERED).bind(json_list(rooms)?).fetch_all(&mut *self).await
    }

    async fn pages_of(&mut self, keys: &[(RoomId, Segment, Key)]) -> Result<Vec<(i64, Vec<u8>, Vec<u8>)>, sqlx::Error> {
        let keys = keys.iter().map(|(room, segment, key)| (room, segment.level, segment.number, hex::encode(key)));
        sqlx::query_as(PAGES_OF).bind(json_list(keys)?).fetch_all(&mut *self).await
    }

    async fn drop_index(&mut self, room: RoomId) -> Result<(), sqlx::Error> {
        for statement in sql::DROP_INDEX {
            sqlx::query(statement).bind(room.0).execute(&mut *self).await?;
        }
        Ok(())
    }

    async fn replace_pages(&mut self, edits: &[PageEdit]) -> Result<(), sqlx::Error> {
        let removed = edits.iter().map(|edit| {
            let segment = edit.segment;
            (edit.room, segment.level, segment.number, hex::encode(&edit.first_word))
        });
        sqlx::query(REMOVE_PAGES).bind(json_list(removed)?).execute(&mut *self).await?;
        let pages = edits.iter().flat_map(|edit| edit.pages.iter().map(|page| page_row(edit.room, edit.segment, page)));
        sqlx::query(INSERT_PAGES).bind(json_list(pages)?).execute(&mut *self).await?;
        Ok(())
    }
}
