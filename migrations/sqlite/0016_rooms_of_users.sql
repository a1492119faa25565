-- What a room is for each of its members: what they have read, when they are notified, whether they hide it. And what changed of a
-- user's rooms since a version that a client knows. Triggers keep the versions, so that no change can be committed without, not even
-- by a gateway of an earlier release.
--
-- rooms_version: grows with every change of the set of rooms that the user is in, and of what a room is for them.
ALTER TABLE users ADD COLUMN rooms_version INTEGER NOT NULL DEFAULT 0;

-- version: the rooms_version of the last change of the row. 0 in no committed row: a row that is inserted with another one was copied.
-- joined: the rooms_version with which the membership began; 0 if it is older than this column.
-- read_seq: the last entry that the member has read. read_messages: how many messages the room has up to it.
-- notify: 'all', 'mentions' or 'none'; notify_until: when it ends and is 'all' again.
-- hidden_upto: of a direct room: it is hidden while its head is not above this.
ALTER TABLE members ADD COLUMN version       INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN joined        INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN read_seq      INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN read_messages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN notify        TEXT    NOT NULL DEFAULT 'all';
ALTER TABLE members ADD COLUMN notify_until  INTEGER;
ALTER TABLE members ADD COLUMN hidden_upto   INTEGER;
-- Who was a member before has read everything.
UPDATE users SET rooms_version = 1 WHERE id IN (SELECT user_id FROM members);
UPDATE members SET
    version = 1,
    read_seq = COALESCE((SELECT seq FROM room_heads h WHERE h.room_id = members.room_id), 0),
    read_messages = COALESCE((SELECT seq - others FROM room_heads h WHERE h.room_id = members.room_id), 0);

-- kind: 'room' or 'direct'. direct_key: the ids of the two members of a direct room, the smaller one first, with a hyphen between.
-- removal: the count of removals that the deletion of the room got; NULL if it exists, or was deleted before there was this column.
ALTER TABLE rooms ADD COLUMN kind       TEXT NOT NULL DEFAULT 'room';
ALTER TABLE rooms ADD COLUMN direct_key TEXT;
ALTER TABLE rooms ADD COLUMN removal    INTEGER;
CREATE UNIQUE INDEX rooms_direct_key ON rooms (direct_key) WHERE direct_key IS NOT NULL;

-- The rooms that a user has left, with the rooms_version of leaving for the last time. The row stays when they join again: to a client that
-- was away meanwhile the room has ended, and another one begins.
CREATE TABLE departures (
    user_id INTEGER NOT NULL,
    room_id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    CONSTRAINT departures_pk PRIMARY KEY (user_id, room_id),
    CONSTRAINT departures_user FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT departures_room FOREIGN KEY (room_id) REFERENCES rooms (id)
) WITHOUT ROWID;
CREATE INDEX departures_of_user ON departures (user_id, version);

-- A direct room is in no list of names.
DROP TRIGGER members_listed;
CREATE TRIGGER members_listed AFTER INSERT ON members
BEGIN
    UPDATE members SET
        username = COALESCE((SELECT username FROM users WHERE id = NEW.user_id), ''),
        private_name = (SELECT name FROM rooms
                        WHERE id = NEW.room_id AND is_private AND kind = 'room' AND deleted_on IS NULL)
    WHERE room_id = NEW.room_id AND user_id = NEW.user_id;
END;

-- Who joins has read what was said before.
CREATE TRIGGER members_joined AFTER INSERT ON members WHEN NEW.version = 0
BEGIN
    UPDATE users SET rooms_version = rooms_version + 1 WHERE id = NEW.user_id;
    UPDATE members SET
        version = (SELECT rooms_version FROM users WHERE id = NEW.user_id),
        joined = (SELECT rooms_version FROM users WHERE id = NEW.user_id),
        read_seq = COALESCE((SELECT seq FROM room_heads WHERE room_id = NEW.room_id), 0),
        read_messages = COALESCE((SELECT seq - others FROM room_heads WHERE room_id = NEW.room_id), 0)
    WHERE room_id = NEW.room_id AND user_id = NEW.user_id;
END;

CREATE TRIGGER members_changed AFTER UPDATE OF read_seq, notify, notify_until, hidden_upto ON members
WHEN OLD.version = NEW.version
     AND (OLD.read_seq <> NEW.read_seq OR OLD.notify <> NEW.notify OR OLD.notify_until IS NOT NEW.notify_until
          OR OLD.hidden_upto IS NOT NEW.hidden_upto)
BEGIN
    UPDATE users SET rooms_version = rooms_version + 1 WHERE id = NEW.user_id;
    UPDATE members SET version = (SELECT rooms_version FROM users WHERE id = NEW.user_id)
    WHERE room_id = NEW.room_id AND user_id = NEW.user_id;
END;

CREATE TRIGGER members_departed AFTER DELETE ON members
BEGIN
    UPDATE users SET rooms_version = rooms_version + 1 WHERE id = OLD.user_id;
    INSERT INTO departures (user_id, room_id, version, name)
    SELECT u.id, r.id, u.rooms_version, r.name FROM users u JOIN rooms r ON r.id = OLD.room_id WHERE u.id = OLD.user_id
    ON CONFLICT (user_id, room_id) DO UPDATE SET version = excluded.version, name = excluded.name;
END;

DROP TRIGGER removals_of_rooms;
CREATE TRIGGER removals_of_rooms AFTER UPDATE OF deleted_on ON rooms
WHEN OLD.deleted_on IS NULL AND NEW.deleted_on IS NOT NULL
BEGIN
    INSERT INTO removals (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = removals.count + 1;
    INSERT INTO removal_log (count, room_id) SELECT count, NEW.id FROM removals;
    UPDATE rooms SET removal = (SELECT count FROM removals) WHERE id = NEW.id AND removal IS NULL;
END;
