//! Reads for searches, and the pages of their index.

use async_trait::async_trait;
use sqlx::PgConnection;

use super::{Postgres, run_detached, within_deadline};
use crate::domain::{RoomId, Seq, UserId};
use crate::storage::search::segment::{Key, Page, SMALLEST, Segment};
use crate::storage::search::{
    self, IndexStatements, KeyRange, PageEdit, PageRow, PageStatements, RoomRow, SearchStatements, TextRange, TextRow,
};
use crate::storage::sql::search::{self as sql, ends, found_is_visible};
use crate::storage::{Search, SearchError, SearchIndex, SearchPage, StoreError};

/// OFFSET 0: the planner does not take the subquery apart, so each range is one of the index.
const TEXTS_BETWEEN: &str = "SELECT m.*
     FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS t (room_id, above, below)
     CROSS JOIN LATERAL (SELECT room_id, seq, position, sender_id, text FROM messages
                         WHERE room_id = t.room_id AND seq > t.above AND seq < t.below OFFSET 0) m";

const TEXTS_AT: &str =
    "SELECT room_id, seq, position, sender_id, text FROM messages WHERE room_id = $1 AND seq = ANY ($2)";

const ENDS: &str = ends!("(SELECT UNNEST($2::bigint[]))");

/// OFFSET 0: the planner does not take the subquery apart, so each page is looked up by its key.
const PAGES: &str = "SELECT i.indexed, s.level, s.number, k.rank - 1, p.postings
     FROM search_rooms i
     CROSS JOIN UNNEST($2::bigint[], $3::bigint[]) AS s (level, number)
     CROSS JOIN UNNEST($4::bytea[], $5::bytea[]) WITH ORDINALITY AS k (low, high, rank)
     CROSS JOIN LATERAL (
         SELECT p.postings FROM search_pages p
         WHERE p.room_id = $1 AND p.level = s.level AND p.number = s.number
           AND p.first_word >= (SELECT q.first_word FROM search_pages q
                                WHERE q.room_id = $1 AND q.level = s.level AND q.number = s.number AND q.first_word <= k.low
                                ORDER BY q.first_word DESC LIMIT 1)
           AND p.first_word <= k.high
         OFFSET 0) p
     WHERE i.room_id = $1";

const ALL_PAGES: &str = "SELECT s.level, s.number, p.postings
     FROM UNNEST($2::bigint[], $3::bigint[]) AS s (level, number)
     CROSS JOIN LATERAL (SELECT p.postings FROM search_pages p
                         WHERE p.room_id = $1 AND p.level = s.level AND p.number = s.number OFFSET 0) p";

const FOUND: &str = concat!(
    "SELECT COALESCE(json_agg(json_build_array(m.room_id, r.name, m.position,
            json_build_array(m.seq, m.id, u.username, u.public_id, m.kind, m.text, m.created_on, m.extra::json))), '[]')::text
     FROM UNNEST($2::bigint[], $3::bigint[]) AS t (room_id, seq)
     JOIN messages m ON m.room_id = t.room_id AND m.seq = t.seq
     JOIN users u ON u.id = m.sender_id JOIN rooms r ON r.id = m.room_id WHERE ",
    found_is_visible!()
);

/// In the order of the rooms, in which every transaction locks them.
const COUNT_ALTERED: &str =
    "INSERT INTO search_rooms (room_id, altered) SELECT room_id, 1 FROM UNNEST($1::bigint[]) AS t (room_id)
     ON CONFLICT (room_id) DO UPDATE SET altered = search_rooms.altered + 1 RETURNING room_id, indexed";

const PAGES_OF: &str = "SELECT k.rank - 1, p.first_word, p.postings
     FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[]) WITH ORDINALITY AS k (room_id, level, number, word, rank)
     CROSS JOIN LATERAL (
         SELECT p.first_word, p.postings FROM search_pages p
         WHERE p.room_id = k.room_id AND p.level = k.level AND p.number = k.number AND p.first_word <= k.word
         ORDER BY p.first_word DESC LIMIT 1) p";

const REMOVE_PAGES: &str = "DELETE FROM search_pages p
     USING UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[]) AS t (room_id, level, number, first_word)
     WHERE (p.room_id, p.level, p.number, p.first_word) = (t.room_id, t.level, t.number, t.first_word)";

const INSERT_PAGES: &str = "INSERT INTO search_pages (room_id, level, number, first_word, postings)
     SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[])";

fn level(segment: Segment) -> i64 {
    i64::try_from(segment.level).unwrap_or(i64::MAX)
}

/// Segments, by column.
fn levels_and_numbers(segments: &[Segment]) -> (Vec<i64>, Vec<i64>) {
    segments.iter().map(|segment| (level(*segment), segment.number)).unzip()
}

async fn insert_pages(connection: &mut PgConnection, pages: &[(RoomId, Segment, &Page)]) -> Result<(), sqlx::Error> {
    let (mut rooms, mut levels, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut first_words, mut postings) = (Vec::new(), Vec::new());
    for (room, segment, (first_word, page)) in pages {
        rooms.push(room.0);
        levels.push(level(*segment));
        numbers.push(segment.number);
        first_words.push(first_word.as_slice());
        postings.push(page.as_slice());
    }
    sqlx::query(INSERT_PAGES)
        .bind(rooms)
        .bind(levels)
        .bind(numbers)
        .bind(first_words)
        .bind(postings)
        .execute(connection)
        .await?;
    Ok(())
}

#[async_trait]
impl SearchIndex for Postgres {
    async fn search(&self, search: &Search) -> Result<Option<SearchPage>, SearchError> {
        search::run(self, search).await
    }

    async fn rooms_to_index(&self, after: RoomId, limit: u32) -> Result<Vec<RoomId>, StoreError> {
        let query = sqlx::query_scalar(sql::ROOMS_TO_INDEX).bind(after.0).bind(SMALLEST).bind(i64::from(limit));
        let rooms: Vec<i64> = within_deadline(query.fetch_all(&self.pool)).await?;
        Ok(rooms.into_iter().map(RoomId).collect())
    }

    async fn index_room(&self, room: RoomId) -> Result<bool, StoreError> {
        Ok(search::index_next(self, room).await?)
    }
}

impl SearchStatements for Postgres {
    async fn rooms(&self, user: UserId, room: Option<RoomId>) -> Result<Vec<RoomRow>, sqlx::Error> {
        let query = match room {
            Some(room) => sqlx::query_as(sql::ONE_ROOM).bind(user.0).bind(room.0),
            None => sqlx::query_as(sql::ROOMS_OF_USER).bind(user.0),
        };
        within_deadline(query.fetch_all(&self.history)).await
    }

    async fn ends(&self, rooms: &[RoomId], before: i64) -> Result<Vec<(i64, i64)>, sqlx::Error> {
        let rooms: Vec<i64> = rooms.iter().map(|room| room.0).collect();
        within_deadline(sqlx::query_as(ENDS).bind(before).bind(rooms).fetch_all(&self.history)).await
    }

    async fn texts_between(&self, ranges: &[TextRange]) -> Result<Vec<TextRow>, sqlx::Error> {
        let rooms: Vec<i64> = ranges.iter().map(|(room, ..)| room.0).collect();
        let (above, below): (Vec<i64>, Vec<i64>) = ranges.iter().map(|(_, above, below)| (above.0, below.0)).unzip();
        let query = sqlx::query_as(TEXTS_BETWEEN).bind(rooms).bind(above).bind(below);
        within_deadline(query.fetch_all(&self.history)).await
    }

    async fn texts_at(&self, room: RoomId, seqs: &[Seq]) -> Result<Vec<TextRow>, sqlx::Error> {
        let seqs: Vec<i64> = seqs.iter().map(|seq| seq.0).collect();
        let query = sqlx::query_as(TEXTS_AT).bind(room.0).bind(seqs);
        within_deadline(query.fetch_all(&self.history)).await
    }

    async fn pages(
        &self,
        room: RoomId,
        segments: &[Segment],
        ranges: &[KeyRange],
    ) -> Result<Vec<PageRow>, sqlx::Error> {
        let (levels, numbers) = levels_and_numbers(segments);
        let (low, high): (Vec<&[u8]>, Vec<&[u8]>) =
            ranges.iter().map(|(low, high)| (low.as_slice(), high.as_slice())).unzip();
        let query = sqlx::query_as(PAGES).bind(room.0).bind(levels).bind(numbers).bind(low).bind(high);
        within_deadline(query.fetch_all(&self.history)).await
    }

    async fn indexed(&self, room: RoomId) -> Result<Seq, sqlx::Error> {
        let query = sqlx::query_scalar(sql::INDEXED).bind(room.0);
        within_deadline(query.fetch_one(&self.history)).await.map(Seq)
    }

    async fn position_from(&self, room: RoomId, seq: Seq) -> Result<Option<i64>, sqlx::Error> {
        let query = sqlx::query_scalar(sql::POSITION_FROM).bind(room.0).bind(seq.0);
        within_deadline(query.fetch_optional(&self.history)).await
    }

    async fn found(&self, user: UserId, at: &[(RoomId, Seq)]) -> Result<String, sqlx::Error> {
        let (rooms, seqs): (Vec<i64>, Vec<i64>) = at.iter().map(|(room, seq)| (room.0, seq.0)).unzip();
        let query = sqlx::query_scalar(FOUND).bind(user.0).bind(rooms).bind(seqs);
        within_deadline(query.fetch_one(&self.history)).await
    }
}

impl IndexStatements for Postgres {
    async fn index_state(&self, room: RoomId) -> Result<(i64, i64, i64), sqlx::Error> {
        let state = || sqlx::query_as(sql::INDEX_STATE).bind(room.0);
        if let Some(state) = within_deadline(state().fetch_optional(&self.history)).await? {
            return Ok(state);
        }
        within_deadline(sqlx::query(sql::ADD_ROOM).bind(room.0).execute(&self.history)).await?;
        within_deadline(state().fetch_one(&self.history)).await
    }

    async fn all_pages(&self, room: RoomId, segments: &[Segment]) -> Result<Vec<(i64, i64, Vec<u8>)>, sqlx::Error> {
        let (levels, numbers) = levels_and_numbers(segments);
        let query = sqlx::query_as(ALL_PAGES).bind(room.0).bind(levels).bind(numbers);
        within_deadline(query.fetch_all(&self.history)).await
    }

    async fn write_index(
        &self,
        room: RoomId,
        (indexed, altered): (i64, i64),
        to: Seq,
        removed: &[Segment],
        pages: Vec<(Segment, Page)>,
    ) -> Result<bool, sqlx::Error> {
        let (pool, removed) = (self.history.clone(), removed.to_vec());
        run_detached(async move {
            let mut tx = pool.begin().await?;
            let moved = sqlx::query(sql::MOVE_INDEXED).bind(room.0).bind(to.0).bind(indexed).bind(altered);
            if moved.execute(&mut *tx).await?.rows_affected() == 0 {
                return Ok::<_, sqlx::Error>(false);
            }
            for segment in removed {
                let remove = sqlx::query(sql::REMOVE_SEGMENT).bind(room.0).bind(level(segment)).bind(segment.number);
                remove.execute(&mut *tx).await?;
            }
            let pages: Vec<_> = pages.iter().map(|(segment, page)| (room, *segment, page)).collect();
            insert_pages(&mut tx, &pages).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }
}

impl PageStatements for PgConnection {
    async fn count_altered(&mut self, rooms: &[RoomId]) -> Result<Vec<(i64, i64)>, sqlx::Error> {
        let rooms: Vec<i64> = rooms.iter().map(|room| room.0).collect();
        sqlx::query_as(COUNT_ALTERED).bind(rooms).fetch_all(&mut *self).await
    }

    async fn pages_of(&mut self, keys: &[(RoomId, Segment, Key)]) -> Result<Vec<(i64, Vec<u8>, Vec<u8>)>, sqlx::Error> {
        let rooms: Vec<i64> = keys.iter().map(|(room, ..)| room.0).collect();
        let (levels, numbers) = levels_and_numbers(&keys.iter().map(|(_, segment, _)| *segment).collect::<Vec<_>>());
        let words: Vec<&[u8]> = keys.iter().map(|(.., word)| word.as_slice()).collect();
        sqlx::query_as(PAGES_OF)
            .bind(rooms)
            .bind(levels)
            .bind(numbers)
            .bind(words)
            .fetch_all(&mut *self)
            .await
    }

    async fn drop_index(&mut self, room: RoomId) -> Result<(), sqlx::Error> {
        for statement in sql::DROP_INDEX {
            sqlx::query(statement).bind(room.0).execute(&mut *self).await?;
        }
        Ok(())
    }

    async fn replace_pages(&mut self, edits: &[PageEdit]) -> Result<(), sqlx::Error> {
        let rooms: Vec<i64> = edits.iter().map(|edit| edit.room.0).collect();
        let (levels, numbers) = levels_and_numbers(&edits.iter().map(|edit| edit.segment).collect::<Vec<_>>());
        let first_words: Vec<&[u8]> = edits.iter().map(|edit| edit.first_word.as_slice()).collect();
        sqlx::query(REMOVE_PAGES)
            .bind(rooms)
            .bind(levels)
            .bind(numbers)
            .bind(first_words)
            .execute(&mut *self)
            .await?;
        let mut pages = Vec::new();
        for edit in edits {
            pages.extend(edit.pages.iter().map(|page| (edit.room, edit.segment, page)));
        }
        insert_pages(self, &pages).await
    }
}
