-- ordered_ids_from: an idempotency key with a timestamp from then on, in milliseconds since 1970, gives it to the message's id; the
-- ids of earlier keys are hashes alone, as gateways of earlier versions made them, which may be at work for a week after the
-- upgrade.
ALTER TABLE installation ADD COLUMN ordered_ids_from bigint NOT NULL DEFAULT 0;
UPDATE installation SET ordered_ids_from = (extract(epoch FROM now())::bigint + 7 * 86400) * 1000;
