-- How many sessions were revoked, memberships ended and rooms deleted so far. Gateways remember who may do what, and look
-- here whether some of that is no longer true. Triggers raise it, so that no such change can be committed without.
-- There is no row before the first removal. A row and not a sequence: it moves when the change is seen, and not before.
CREATE TABLE removals (
    id    bigint NOT NULL,
    count bigint NOT NULL,
    CONSTRAINT removals_pk PRIMARY KEY (id),
    CONSTRAINT removals_single CHECK (id = 1)
);

CREATE FUNCTION count_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO removals (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = removals.count + 1;
    RETURN NULL;
END
$$;

CREATE TRIGGER removals_of_sessions AFTER UPDATE OF revoked_on ON sessions FOR EACH ROW
WHEN (OLD.revoked_on IS NULL AND NEW.revoked_on IS NOT NULL)
EXECUTE FUNCTION count_removal();

CREATE TRIGGER removals_of_members AFTER DELETE ON members FOR EACH ROW
EXECUTE FUNCTION count_removal();

CREATE TRIGGER removals_of_rooms AFTER UPDATE OF deleted_on ON rooms FOR EACH ROW
WHEN (OLD.deleted_on IS NULL AND NEW.deleted_on IS NOT NULL)
EXECUTE FUNCTION count_removal();
