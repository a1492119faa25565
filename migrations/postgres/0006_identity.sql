-- Which installation this is, as it stands in every name in Redis: 12 hexadecimal digits.
-- epoch_number counts the epochs, so that a database that went back in time is told from one that went on.
-- carries_over: created before names in Redis held the identity; what still waits under the old ones is its own.
ALTER TABLE installation ADD COLUMN identity     text    NOT NULL DEFAULT '';
ALTER TABLE installation ADD COLUMN epoch_number bigint  NOT NULL DEFAULT 1;
ALTER TABLE installation ADD COLUMN carries_over boolean NOT NULL DEFAULT FALSE;
-- The upper 48 bits of a random UUID (RFC 9562, section 5.4).
UPDATE installation SET identity = substr(replace(gen_random_uuid()::text, '-', ''), 1, 12), carries_over = TRUE;
