-- The last removals, each under the count it raised: a gateway that knows an earlier count finds here what was taken away
-- since, and need not forget everything. Of a session there is its user, of a membership its room and user, of a room its
-- room. Bounded: whoever is further behind than this reaches compares all it knows.
CREATE TABLE removal_log (
    count      bigint NOT NULL,
    session_id uuid,
    user_id    bigint,
    room_id    bigint,
    CONSTRAINT removal_log_pk PRIMARY KEY (count)
);

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
            INSERT INTO removal_log (count, room_id, user_id) VALUES (reached, OLD.room_id, OLD.user_id);
        WHEN 'rooms' THEN
            INSERT INTO removal_log (count, room_id) VALUES (reached, NEW.id);
    END CASE;
    DELETE FROM removal_log WHERE count <= reached - 1000;
    RETURN NULL;
END
$$;
