-- A membership has an identity, chosen at random when it begins: who leaves a room and joins it again has another one, and
-- the log of removals says which one ended. Those from before this column share the 0.
ALTER TABLE members ADD COLUMN id bigint NOT NULL DEFAULT 0;
ALTER TABLE removal_log ADD COLUMN member_id bigint;

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
    END CASE;
    DELETE FROM removal_log WHERE count <= reached - 1000;
    RETURN NULL;
END
$$;
