-- The last removals, each under the count it raised: a gateway that knows an earlier count finds here what was taken away
-- since, and need not forget everything. Of a session there is its user, of a membership its room and user, of a room its
-- room. Bounded: whoever is further behind than this reaches compares all it knows.
CREATE TABLE removal_log (
    count      INTEGER PRIMARY KEY,
    session_id BLOB,
    user_id    INTEGER,
    room_id    INTEGER
);

CREATE TRIGGER removal_log_bound AFTER INSERT ON removal_log
BEGIN
    DELETE FROM removal_log WHERE count <= NEW.count - 1000;
END;

DROP TRIGGER removals_of_sessions;
CREATE TRIGGER removals_of_sessions AFTER UPDATE OF revoked_on ON sessions
WHEN OLD.revoked_on IS NULL AND NEW.revoked_on IS NOT NULL
BEGIN
    INSERT INTO removals (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = removals.count + 1;
    INSERT INTO removal_log (count, session_id, user_id) SELECT count, NEW.id, NEW.user_id FROM removals;
END;

DROP TRIGGER removals_of_members;
CREATE TRIGGER removals_of_members AFTER DELETE ON members
BEGIN
    INSERT INTO removals (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = removals.count + 1;
    INSERT INTO removal_log (count, room_id, user_id) SELECT count, OLD.room_id, OLD.user_id FROM removals;
END;

DROP TRIGGER removals_of_rooms;
CREATE TRIGGER removals_of_rooms AFTER UPDATE OF deleted_on ON rooms
WHEN OLD.deleted_on IS NULL AND NEW.deleted_on IS NOT NULL
BEGIN
    INSERT INTO removals (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = removals.count + 1;
    INSERT INTO removal_log (count, room_id) SELECT count, NEW.id FROM removals;
END;
