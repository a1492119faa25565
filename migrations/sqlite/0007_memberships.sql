-- A membership has an identity, chosen at random when it begins: who leaves a room and joins it again has another one, and
-- the log of removals says which one ended. Those from before this column share the 0.
ALTER TABLE members ADD COLUMN id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE removal_log ADD COLUMN member_id INTEGER;

DROP TRIGGER removals_of_members;
CREATE TRIGGER removals_of_members AFTER DELETE ON members
BEGIN
    INSERT INTO removals (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = removals.count + 1;
    INSERT INTO removal_log (count, room_id, user_id, member_id)
    SELECT count, OLD.room_id, OLD.user_id, OLD.id FROM removals;
END;
