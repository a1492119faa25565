-- The words of messages, by which they are found. See shared/src/storage/search.rs.
--
-- indexed: the messages up to this seq are in search_pages, and those above it are not. altered: how often messages of the room were
-- changed, by which the worker notices that what it read to index is out of date.
CREATE TABLE search_rooms (
    room_id bigint NOT NULL,
    indexed bigint NOT NULL DEFAULT 0,
    altered bigint NOT NULL DEFAULT 0,
    CONSTRAINT search_rooms_pk PRIMARY KEY (room_id)
);

-- A range of the words in a segment of a room's log, from first_word on, each with the seqs of its messages. The segment is the
-- range of seqs of this number among those of its level.
CREATE TABLE search_pages (
    room_id    bigint NOT NULL,
    level      bigint NOT NULL,
    number     bigint NOT NULL,
    first_word bytea  NOT NULL,
    postings   bytea  NOT NULL,
    CONSTRAINT search_pages_pk PRIMARY KEY (room_id, level, number, first_word)
);
