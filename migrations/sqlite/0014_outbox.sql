-- What gateways changed about members and rooms, to become entries of the rooms' logs. A row is written in the transaction of
-- the change, and removed in the one that stores its entry: each change gets one entry, whoever ends in between.
-- AUTOINCREMENT: a hint names the last row it is about, and must not name a later one that got the id of a removed one.
-- sender_id: who did it; member_id: the user it is about, if it is about one; kind and detail as in changes.
CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    room_id    INTEGER NOT NULL,
    sender_id  INTEGER NOT NULL,
    member_id  INTEGER,
    kind       TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    created_on INTEGER NOT NULL,
    CONSTRAINT outbox_room FOREIGN KEY (room_id) REFERENCES rooms (id),
    CONSTRAINT outbox_sender FOREIGN KEY (sender_id) REFERENCES users (id),
    CONSTRAINT outbox_member FOREIGN KEY (member_id) REFERENCES users (id)
);
CREATE INDEX outbox_of_room ON outbox (room_id, id);
