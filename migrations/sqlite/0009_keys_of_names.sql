-- Keys by which spellings of one text are the same: of an e-mail whatever its case, of a username and a public id whatever is
-- drawn alike (see the domain types of the same names). Computed by the program, which fills those of earlier users when it
-- starts. NULL: not computed yet, or taken by somebody who was there before; such a user goes on as they are, by the spelling
-- they have.
ALTER TABLE users ADD COLUMN email_key     TEXT;
ALTER TABLE users ADD COLUMN username_key  TEXT;
ALTER TABLE users ADD COLUMN public_id_key TEXT;
CREATE UNIQUE INDEX users_email_key     ON users (email_key);
CREATE UNIQUE INDEX users_username_key  ON users (username_key);
CREATE UNIQUE INDEX users_public_id_key ON users (public_id_key);
CREATE INDEX users_without_key ON users (id)
    WHERE email_key IS NULL OR username_key IS NULL OR public_id_key IS NULL;

-- No two rooms that exist have names that differ in case alone, those aside that did when this was made: of them the first
-- one counts, and the others are told by differs_in_case.
ALTER TABLE rooms ADD COLUMN differs_in_case BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE rooms SET differs_in_case = TRUE
WHERE deleted_on IS NULL
  AND id NOT IN (SELECT MIN(id) FROM rooms WHERE deleted_on IS NULL GROUP BY lower(name));
CREATE UNIQUE INDEX rooms_live_name_caseless ON rooms (lower(name)) WHERE deleted_on IS NULL AND NOT differs_in_case;
-- Names are ASCII. The name of a deleted room is kept for its owner in every case.
CREATE INDEX rooms_name_caseless ON rooms (lower(name));
