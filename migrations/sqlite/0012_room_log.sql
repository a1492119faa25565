-- The log of a room: messages, and from now on changes: of messages, of members and of the room. All take the next seq of the
-- room and the next position, each position one of the two tables has. A message of a room stays in one row, which is what it is
-- now: changes alter it in the transaction that stores them, and keep no text, so that nothing but the row has to lose what is
-- deleted.
--
-- others: how many entries of the room before the message are not messages; seq - others is its number among the messages.
-- extra: what most messages do not have, as one JSON object (see MessageExtra); NULL if nothing.
ALTER TABLE messages ADD COLUMN others INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN extra  TEXT;

-- others: how many entries of the room are not messages. changed: the seq of the last one that altered a message, by which
-- a cached page finds that it is out of date.
ALTER TABLE room_heads ADD COLUMN others  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE room_heads ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;

-- id is that of the request, by which an entry of the accept log that is read again is recognised, and a new one for what came
-- from the outbox. target, target_seq: the
-- message that it is about, if it is about one; member_id: the user, if it is about one. detail: JSON, by kind.
CREATE TABLE changes (
    position   INTEGER PRIMARY KEY,
    room_id    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    id         BLOB    NOT NULL,
    sender_id  INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    target     BLOB,
    target_seq INTEGER,
    member_id  INTEGER,
    detail     TEXT,
    created_on INTEGER NOT NULL,
    CONSTRAINT changes_room FOREIGN KEY (room_id) REFERENCES rooms (id),
    CONSTRAINT changes_sender FOREIGN KEY (sender_id) REFERENCES users (id),
    CONSTRAINT changes_member FOREIGN KEY (member_id) REFERENCES users (id)
);
CREATE UNIQUE INDEX changes_room_seq ON changes (room_id, seq);
CREATE UNIQUE INDEX changes_id       ON changes (id);

-- Who reacts to which message with what. The counts stand in the row of the message as well.
CREATE TABLE reactions (
    room_id INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    emoji   TEXT    NOT NULL,
    user_id INTEGER NOT NULL,
    CONSTRAINT reactions_pk PRIMARY KEY (room_id, seq, emoji, user_id)
) WITHOUT ROWID;

-- The replies to a message, of which seq_of_reply is one.
CREATE TABLE replies (
    room_id      INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    seq_of_reply INTEGER NOT NULL,
    CONSTRAINT replies_pk PRIMARY KEY (room_id, seq, seq_of_reply)
) WITHOUT ROWID;

-- The messages that mention a user.
CREATE TABLE mentions (
    user_id INTEGER NOT NULL,
    room_id INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    CONSTRAINT mentions_pk PRIMARY KEY (user_id, room_id, seq)
) WITHOUT ROWID;
CREATE INDEX mentions_of_message ON mentions (room_id, seq);
