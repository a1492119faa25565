-- Lists are one range of one index, whoever asks and whatever others own. For that a membership carries the member's name and,
-- in a private room that exists, the room's. Triggers keep both, so that no change can be committed without.
ALTER TABLE members ADD COLUMN username text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE members ADD COLUMN private_name text COLLATE "C";
UPDATE members SET
    username = (SELECT username FROM users WHERE users.id = members.user_id),
    private_name = (SELECT name FROM rooms WHERE rooms.id = members.room_id AND is_private AND deleted_on IS NULL);

CREATE INDEX members_by_name ON members (room_id, username);
CREATE INDEX members_private ON members (user_id, private_name) WHERE private_name IS NOT NULL;
CREATE INDEX rooms_public ON rooms (name) WHERE deleted_on IS NULL AND NOT is_private;
CREATE INDEX rooms_owned ON rooms (owner_id) WHERE deleted_on IS NULL;

CREATE FUNCTION list_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.username := COALESCE((SELECT username FROM users WHERE id = NEW.user_id), '');
    NEW.private_name := (SELECT name FROM rooms WHERE id = NEW.room_id AND is_private AND deleted_on IS NULL);
    RETURN NEW;
END
$$;
CREATE TRIGGER members_listed BEFORE INSERT ON members FOR EACH ROW EXECUTE FUNCTION list_member();

CREATE FUNCTION rename_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE members SET username = NEW.username WHERE user_id = NEW.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER members_of_renamed_user AFTER UPDATE OF username ON users FOR EACH ROW EXECUTE FUNCTION rename_member();

CREATE FUNCTION unlist_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE members SET private_name = NULL WHERE room_id = NEW.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER members_of_deleted_room AFTER UPDATE OF deleted_on ON rooms FOR EACH ROW
WHEN (OLD.deleted_on IS NULL AND NEW.deleted_on IS NOT NULL AND NEW.is_private) EXECUTE FUNCTION unlist_room();

-- Networks from which a user has signed in lately, as digests: failures of strangers elsewhere do not shut them out.
CREATE TABLE known_networks (
    user_id    bigint           NOT NULL,
    network    text COLLATE "C" NOT NULL,
    expires_on bigint           NOT NULL,
    CONSTRAINT known_networks_pk PRIMARY KEY (user_id, network),
    CONSTRAINT known_networks_user FOREIGN KEY (user_id) REFERENCES users (id)
);

-- Fingerprints of the keys that sign access tokens, as the gateway that started last has them. One whose keys are all others
-- would refuse everybody's tokens.
CREATE TABLE signing_keys (
    fingerprint text COLLATE "C" NOT NULL,
    added_on    bigint           NOT NULL,
    CONSTRAINT signing_keys_pk PRIMARY KEY (fingerprint)
);
