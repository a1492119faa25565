-- mac_key: by which the processes of the installation know what they wrote into Redis: 32 random bytes in hexadecimal digits.
-- unsigned_until: until then what gateways of earlier versions wrote is taken without it, milliseconds since 1970: for a week
-- after the upgrade.
ALTER TABLE installation ADD COLUMN mac_key        TEXT    NOT NULL DEFAULT '';
ALTER TABLE installation ADD COLUMN unsigned_until INTEGER NOT NULL DEFAULT 0;
UPDATE installation SET mac_key = lower(hex(randomblob(32))), unsigned_until = (unixepoch() + 7 * 86400) * 1000;
