-- Every publication and every consumption, as a line (S3.65): written by the statements that mark
-- a message as sent or end a claim, so it costs no round trip and cannot be forgotten. A partition
-- a day: what is too old is dropped whole.

CREATE TABLE message_log (
    at              timestamptz NOT NULL,
    action          text NOT NULL,              -- published, refused; processed, skipped, failed
    message_id      text NOT NULL,
    type            text NOT NULL,
    service         text NOT NULL,              -- who consumed it; of a publication, its lane
    correlation_id  text,                       -- of a publication
    detail          text                        -- where the broker put it, or why it failed
) PARTITION BY RANGE (at);
CREATE INDEX message_log_at ON message_log (at);
CREATE INDEX message_log_message ON message_log (message_id);
-- What no day's partition is for. Empty unless a clock is odd or nobody made partitions in time.
CREATE TABLE message_log_default PARTITION OF message_log DEFAULT;

-- Makes the partition of a day (UTC) and brings there what has come too early.
CREATE FUNCTION message_log_begin_day(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name  text := 'message_log_' || to_char(day, 'YYYYMMDD');
    since timestamptz := day::timestamp AT TIME ZONE 'UTC';
    until timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(x'4d4c4f47'::bigint);
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    LOCK TABLE message_log_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE %I (LIKE message_log INCLUDING DEFAULTS)', name);
    EXECUTE format('WITH early AS (DELETE FROM message_log_default WHERE at >= %L AND at < %L
                                   RETURNING *)
                    INSERT INTO %I SELECT * FROM early', since, until, name);
    EXECUTE format('ALTER TABLE message_log ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   name, since, until);
END $$;

-- Drops the partitions of the days before one, and says how many.
CREATE FUNCTION message_log_end_days(before date) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    name    text;
    dropped bigint := 0;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'message_log'::regclass AND c.relname ~ '^message_log_[0-9]{8}$'
          AND c.relname < 'message_log_' || to_char(before, 'YYYYMMDD')
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM message_log_default WHERE at < before::timestamp AT TIME ZONE 'UTC';
    RETURN dropped;
END $$;

SELECT message_log_begin_day((now() AT TIME ZONE 'UTC')::date + ahead)
FROM generate_series(-1, 3) AS ahead;

-- It is read from the newest backwards now.
DROP INDEX audit_log_at;
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_subject ON audit_log (subject);
