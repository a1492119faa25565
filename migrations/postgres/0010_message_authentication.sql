-- mac_key: by which the processes of the installation know what they wrote into Redis: 32 bytes in hexadecimal digits, of which 244
-- bits are random.
-- unsigned_until: until then what gateways of earlier versions wrote is taken without it, milliseconds since 1970: for a week
-- after the upgrade.
ALTER TABLE installation ADD COLUMN mac_key        text   NOT NULL DEFAULT '';
ALTER TABLE installation ADD COLUMN unsigned_until bigint NOT NULL DEFAULT 0;
UPDATE installation SET mac_key = replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
                        unsigned_until = (extract(epoch FROM now())::bigint + 7 * 86400) * 1000;
