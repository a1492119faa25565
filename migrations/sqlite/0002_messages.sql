-- Messages, the last seq of each room, how far each partition of the accept log was stored, and what could not be.
-- Written by the worker.

-- position grows with every commit and within a partition only upwards: what a reader of many rooms resumes from.
CREATE TABLE messages (
    position   INTEGER PRIMARY KEY,
    room_id    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    id         BLOB    NOT NULL,
    sender_id  INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    text       TEXT    NOT NULL,
    created_on INTEGER NOT NULL,
    CONSTRAINT messages_room FOREIGN KEY (room_id) REFERENCES rooms (id),
    CONSTRAINT messages_sender FOREIGN KEY (sender_id) REFERENCES users (id)
);
CREATE UNIQUE INDEX messages_room_seq ON messages (room_id, seq);
CREATE UNIQUE INDEX messages_id       ON messages (id);

CREATE TABLE room_heads (
    room_id INTEGER PRIMARY KEY,
    seq     INTEGER NOT NULL,
    CONSTRAINT room_heads_room FOREIGN KEY (room_id) REFERENCES rooms (id)
);

-- The read position in a partition's accept stream (Redis's id in two parts), moved in the transaction that stores what
-- was read. fence is raised by each new owner; a commit under an older one is refused.
CREATE TABLE cursors (
    partition      INTEGER PRIMARY KEY,
    stream_ms      INTEGER NOT NULL DEFAULT 0,
    stream_counter INTEGER NOT NULL DEFAULT 0,
    fence          INTEGER NOT NULL DEFAULT 0,
    owner          TEXT    NOT NULL DEFAULT ''
);

-- Entries that can never be stored, with the reason and all they held (JSON), kept until an operator decides.
-- AUTOINCREMENT: the id of one that was removed is not given to the next, which an operator could take for it.
CREATE TABLE dead_letters (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    partition  INTEGER NOT NULL,
    stream_id  TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    entry      TEXT    NOT NULL,
    created_on INTEGER NOT NULL
);
-- Where an entry that is read again finds itself. Not unique: a Redis that came back older gives ids out a second time.
CREATE INDEX dead_letters_place ON dead_letters (partition, stream_id);
