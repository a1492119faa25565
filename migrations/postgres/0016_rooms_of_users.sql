-- What a room is for each of its members: what they have read, when they are notified, whether they hide it. And what changed of a
-- user's rooms since a version that a client knows. Triggers keep the versions, so that no change can be committed without, not even
-- by a gateway of an earlier release.
--
-- rooms_version: grows with every change of the set of rooms that the user is in, and of what a room is for them. The row of the user
-- is locked from then on until the commit, so the changes of one user are committed in the order of their versions.
ALTER TABLE users ADD COLUMN rooms_version bigint NOT NULL DEFAULT 0;

-- version: the rooms_version of the last change of the row. 0 in no committed row: a row that is inserted with another one was copied.
-- joined: the rooms_version with which the membership began; 0 if it is older than this column.
-- read_seq: the last entry that the member has read. read_messages: how many messages the room has up to it.
-- notify: 'all', 'mentions' or 'none'; notify_until: when it ends and is 'all' again.
-- hidden_upto: of a direct room: it is hidden while its head is not above this.
ALTER TABLE members ADD COLUMN version       bigint NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN joined        bigint NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN read_seq      bigint NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN read_messages bigint NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN notify        text   NOT NULL DEFAULT 'all';
ALTER TABLE members ADD COLUMN notify_until  bigint;
ALTER TABLE members ADD COLUMN hidden_upto   bigint;
-- Who was a member before has read everything.
UPDATE users SET rooms_version = 1 WHERE id IN (SELECT user_id FROM members);
UPDATE members SET
    version = 1,
    read_seq = COALESCE((SELECT seq FROM room_heads h WHERE h.room_id = members.room_id), 0),
    read_messages = COALESCE((SELECT seq - others FROM room_heads h WHERE h.room_id = members.room_id), 0);
-- Rows change in place with every read mark.
ALTER TABLE users   SET (fillfactor = 80);
ALTER TABLE members SET (fillfactor = 80);

-- kind: 'room' or 'direct'. direct_key: the ids of the two members of a direct room, the smaller one first, with a hyphen between.
-- removal: the count of removals that the deletion of the room got; NULL if it exists, or was deleted before there was this column.
ALTER TABLE rooms ADD COLUMN kind       text NOT NULL DEFAULT 'room';
ALTER TABLE rooms ADD COLUMN direct_key text;
ALTER TABLE rooms ADD COLUMN removal    bigint;
CREATE UNIQUE INDEX rooms_direct_key ON rooms (direct_key) WHERE direct_key IS NOT NULL;

-- The rooms that a user has left, with the rooms_version of leaving for the last time. The row stays when they join again: to a client that
-- was away meanwhile the room has ended, and another one begins.
CREATE TABLE departures (
    user_id bigint NOT NULL,
    room_id bigint NOT NULL,
    version bigint NOT NULL,
    name    text   NOT NULL,
    CONSTRAINT departures_pk PRIMARY KEY (user_id, room_id),
    CONSTRAINT departures_user FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT departures_room FOREIGN KEY (room_id) REFERENCES rooms (id)
);
CREATE INDEX departures_of_user ON departures (user_id, version);

-- A direct room is in no list of names.
CREATE OR REPLACE FUNCTION list_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.username := COALESCE((SELECT username FROM users WHERE id = NEW.user_id), '');
    NEW.private_name := (SELECT name FROM rooms
                         WHERE id = NEW.room_id AND is_private AND kind = 'room' AND deleted_on IS NULL);
    RETURN NEW;
END
$$;

CREATE FUNCTION next_rooms_version(changed_user bigint) RETURNS bigint LANGUAGE sql AS $$
    UPDATE users SET rooms_version = rooms_version + 1 WHERE id = changed_user RETURNING rooms_version
$$;

-- Who joins has read what was said before. It runs after the insertion, since one that conflicts with a row must change nothing.
CREATE FUNCTION join_member() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    reached bigint := next_rooms_version(NEW.user_id);
BEGIN
    UPDATE members SET
        version = reached,
        joined = reached,
        read_seq = COALESCE((SELECT seq FROM room_heads WHERE room_id = NEW.room_id), 0),
        read_messages = COALESCE((SELECT seq - others FROM room_heads WHERE room_id = NEW.room_id), 0)
    WHERE room_id = NEW.room_id AND user_id = NEW.user_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER members_joined AFTER INSERT ON members FOR EACH ROW
WHEN (NEW.version = 0) EXECUTE FUNCTION join_member();

CREATE FUNCTION change_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := next_rooms_version(NEW.user_id);
    RETURN NEW;
END
$$;
CREATE TRIGGER members_changed BEFORE UPDATE OF read_seq, notify, notify_until, hidden_upto ON members FOR EACH ROW
WHEN (OLD.version = NEW.version
      AND (OLD.read_seq <> NEW.read_seq OR OLD.notify <> NEW.notify OR OLD.notify_until IS DISTINCT FROM NEW.notify_until
           OR OLD.hidden_upto IS DISTINCT FROM NEW.hidden_upto))
EXECUTE FUNCTION change_member();

-- Triggers run in the order of their names: this one before removals_of_members, so that the row of the user is locked before that of
-- the removals, which is the last one in every transaction.
CREATE FUNCTION depart_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO departures (user_id, room_id, version, name)
    SELECT OLD.user_id, id, next_rooms_version(OLD.user_id), name FROM rooms WHERE id = OLD.room_id
    ON CONFLICT (user_id, room_id) DO UPDATE SET version = excluded.version, name = excluded.name;
    RETURN NULL;
END
$$;
CREATE TRIGGER members_departed AFTER DELETE ON members FOR EACH ROW EXECUTE FUNCTION depart_member();

-- The one row of removals is locked from here until the commit: removals take turns, and their numbers have no hole.
CREATE OR REPLACE FUNCTION count_removal() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    reached bigint;
BEGIN
    INSERT INTO removals (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = removals.count + 1
    RETURNING removals.count INTO reached;
    CASE TG_TABLE_NAME
        WHEN 'sessions' THEN
            INSERT INTO removal_log (count, session_id, user_id) VALUES (reached, NEW.id, NEW.user_id);
        WHEN 'members' THEN
            INSERT INTO removal_log (count, room_id, user_id, member_id)
            VALUES (reached, OLD.room_id, OLD.user_id, OLD.id);
        WHEN 'rooms' THEN
            INSERT INTO removal_log (count, room_id) VALUES (reached, NEW.id);
            UPDATE rooms SET removal = reached WHERE id = NEW.id AND removal IS NULL;
    END CASE;
    DELETE FROM removal_log WHERE count <= reached - 1000;
    RETURN NULL;
END
$$;
