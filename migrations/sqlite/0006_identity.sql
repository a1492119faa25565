-- Which installation this is, as it stands in every name in Redis: 12 hexadecimal digits.
-- epoch_number counts the epochs, so that a database that went back in time is told from one that went on.
-- carries_over: created before names in Redis held the identity; what still waits under the old ones is its own.
ALTER TABLE installation ADD COLUMN identity     TEXT    NOT NULL DEFAULT '';
ALTER TABLE installation ADD COLUMN epoch_number INTEGER NOT NULL DEFAULT 1;
ALTER TABLE installation ADD COLUMN carries_over BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE installation SET identity = lower(hex(randomblob(6))), carries_over = TRUE;
