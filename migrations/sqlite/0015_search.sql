-- The words of messages, by which they are found. See shared/src/storage/search.rs.
--
-- indexed: the messages up to this seq are in search_pages, and those above it are not. altered: how often messages of the room were
-- changed, by which the worker notices that what it read to index is out of date.
CREATE TABLE search_rooms (
    room_id INTEGER PRIMARY KEY,
    indexed INTEGER NOT NULL DEFAULT 0,
    altered INTEGER NOT NULL DEFAULT 0
);

-- A range of the words in a segment of a room's log, from first_word on, each with the seqs of its messages. The segment is the
-- range of seqs of this number among those of its level.
CREATE TABLE search_pages (
    room_id    INTEGER NOT NULL,
    level      INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    first_word BLOB    NOT NULL,
    postings   BLOB    NOT NULL,
    CONSTRAINT search_pages_pk PRIMARY KEY (room_id, level, number, first_word)
);
