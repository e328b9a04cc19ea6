-- The bus gets an outbox of its own: a log that one relay at a time reads with a cursor. Marking a
-- row twice (claimed, sent) cost more than publishing it; now nothing of a row changes when it is
-- sent, and a batch leaves one row behind. Notifications stay in the outbox as it was.

CREATE TABLE bus_outbox (
    -- Taken under the lock of the aggregate, so within an aggregate it follows commit order.
    seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              uuid NOT NULL,              -- the message id; consumers know it as revision
    aggregate_id    uuid NOT NULL,              -- order is kept among messages of one aggregate
    type            text NOT NULL,
    schema_version  integer NOT NULL DEFAULT 1,
    payload         json NOT NULL,
    correlation_id  text NOT NULL,
    traceparent     text,
    created_at      timestamptz NOT NULL
);
CREATE INDEX bus_outbox_id ON bus_outbox (id);
CREATE INDEX bus_outbox_correlation ON bus_outbox (correlation_id);

-- How far the relay has read, and which relay it is. One row.
CREATE TABLE bus_relay (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    read_to         bigint NOT NULL DEFAULT 0,
    -- Places up to read_to where nothing was to be seen: rolled back, or of a transaction that goes
    -- on. What is empty once all transactions before its horizon are over stays empty.
    gap_firsts      bigint[] NOT NULL DEFAULT '{}',
    gap_lasts       bigint[] NOT NULL DEFAULT '{}',
    gap_horizons    bigint[] NOT NULL DEFAULT '{}',
    holder          uuid,
    lease_until     timestamptz,
    fence           bigint NOT NULL DEFAULT 0   -- rises whenever another one takes over
);
INSERT INTO bus_relay DEFAULT VALUES;

-- What the cursor has passed and that goes its own way: refused and tried again, waiting behind
-- one of its aggregate, committed late, lost by the broker and sent once more. Few, but for what
-- moves here below.
CREATE TABLE bus_stragglers (
    seq             bigint PRIMARY KEY,
    aggregate_id    uuid NOT NULL,
    attempts        integer NOT NULL DEFAULT 0, -- failed publications (S2.50)
    due_at          timestamptz,                -- when to try again; null is at once
    last_error      text,
    failed_at       timestamptz,
    sent_at         timestamptz,
    position        text,                       -- where the broker put it
    dead_at         timestamptz                 -- given up; see dead_letters
);
CREATE INDEX bus_stragglers_unsent ON bus_stragglers (seq)
    WHERE sent_at IS NULL AND dead_at IS NULL;
CREATE INDEX bus_stragglers_unsent_aggregate ON bus_stragglers (aggregate_id, seq)
    WHERE sent_at IS NULL AND dead_at IS NULL;
CREATE INDEX bus_stragglers_sent ON bus_stragglers (sent_at) WHERE sent_at IS NOT NULL;

-- Everything else that was sent, a batch a row: which messages, and where the broker put each.
CREATE TABLE bus_publications (
    first_seq       bigint NOT NULL,
    last_seq        bigint PRIMARY KEY,         -- batches do not overlap
    at              timestamptz NOT NULL,
    seqs            bigint[] NOT NULL,
    positions       text[] NOT NULL
);
-- Packing them costs more than they take.
ALTER TABLE bus_publications
    ALTER COLUMN seqs SET STORAGE EXTERNAL, ALTER COLUMN positions SET STORAGE EXTERNAL;
CREATE INDEX bus_publications_at ON bus_publications (at);

-- What has not left for the bus.
CREATE VIEW bus_unsent AS
    SELECT o.seq, o.type FROM bus_relay r JOIN bus_outbox o ON o.seq > r.read_to
    UNION ALL
    SELECT o.seq, o.type FROM bus_relay r
        CROSS JOIN LATERAL unnest(r.gap_firsts, r.gap_lasts) AS g (first, last)
        JOIN bus_outbox o ON o.seq BETWEEN g.first AND g.last
    UNION ALL
    SELECT o.seq, o.type FROM bus_stragglers s JOIN bus_outbox o ON o.seq = s.seq
    WHERE s.sent_at IS NULL AND s.dead_at IS NULL;

-- How far each message of the bus is.
CREATE VIEW bus_messages AS
    SELECT o.*, coalesce(s.attempts, 0) AS attempts, s.due_at AS next_attempt_at, s.last_error,
           s.failed_at, s.dead_at,
           CASE WHEN s.seq IS NULL THEN p.at ELSE s.sent_at END AS sent_at,
           CASE WHEN s.seq IS NULL THEN p.position ELSE s.position END AS position
    FROM bus_outbox o
    LEFT JOIN bus_stragglers s ON s.seq = o.seq
    LEFT JOIN LATERAL (
        SELECT b.at, b.positions[b.place] AS position
        FROM (SELECT c.first_seq, c.at, c.positions, array_position(c.seqs, o.seq) AS place
              FROM bus_publications c WHERE c.last_seq >= o.seq
              ORDER BY c.last_seq LIMIT 1) b
        WHERE b.first_seq <= o.seq AND b.place IS NOT NULL) p ON s.seq IS NULL;

-- Those who are replaced by this release may still write to the old place.
CREATE FUNCTION outbox_to_bus() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Before a place is drawn: see postgres/bus_outbox.rs.
    PERFORM pg_current_xact_id();
    INSERT INTO bus_outbox (id, aggregate_id, type, schema_version, payload, correlation_id,
                            traceparent, created_at)
    VALUES (NEW.id, NEW.aggregate_id, NEW.type, NEW.schema_version, NEW.payload,
            NEW.correlation_id, NEW.traceparent, NEW.created_at);
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_to_bus BEFORE INSERT ON outbox FOR EACH ROW WHEN (NEW.lane = 'bus')
    EXECUTE FUNCTION outbox_to_bus();

-- What may be sent, or sent once more, moves, each as far as it was: the cursor has passed all of
-- it. (Older ones stay until they are forgotten: writers wait for this.)
WITH moved AS (
    DELETE FROM outbox
    WHERE lane = 'bus' AND ((sent_at IS NULL AND dead_at IS NULL)
                            OR created_at > now() - interval '13 hours')
    RETURNING *),
kept AS (
    INSERT INTO bus_outbox (seq, id, aggregate_id, type, schema_version, payload, correlation_id,
                            traceparent, created_at)
    OVERRIDING SYSTEM VALUE
    SELECT seq, id, aggregate_id, type, schema_version, payload, correlation_id, traceparent,
           created_at
    FROM moved)
INSERT INTO bus_stragglers
    (seq, aggregate_id, attempts, due_at, last_error, failed_at, sent_at, position, dead_at)
SELECT seq, aggregate_id, attempts, next_attempt_at, last_error, failed_at, sent_at, position,
       dead_at
FROM moved;
-- Its publications are told from there now.
DELETE FROM message_log l USING bus_outbox o
WHERE l.message_id = o.id::text AND l.action = 'published' AND l.service = 'bus';
UPDATE bus_relay SET read_to = coalesce((SELECT max(seq) FROM bus_outbox), 0);
SELECT setval(pg_get_serial_sequence('bus_outbox', 'seq'),
              greatest((SELECT read_to FROM bus_relay), 1), (SELECT read_to > 0 FROM bus_relay));

-- S2.45 to S2.52, as before, of both ways.
CREATE OR REPLACE VIEW failed_events AS
    SELECT id::text AS id, type, payload::text AS data, last_error AS error,
           coalesce(failed_at, created_at) AS "timestamp", attempts - 1 AS "retryCount",
           next_attempt_at, false AS dead
    FROM outbox WHERE sent_at IS NULL AND dead_at IS NULL AND attempts > 0
    UNION ALL
    SELECT o.id::text, o.type, o.payload::text, s.last_error, coalesce(s.failed_at, o.created_at),
           s.attempts - 1, s.due_at, false
    FROM bus_stragglers s JOIN bus_outbox o ON o.seq = s.seq
    WHERE s.sent_at IS NULL AND s.dead_at IS NULL AND s.attempts > 0
    UNION ALL
    SELECT message_id, type, payload, reason, died_at, attempts - 1, NULL, true
    FROM dead_letters WHERE source = 'relay' AND resolved_at IS NULL;

-- Since when the oldest message waits that has not left, by way; null without one.
CREATE VIEW oldest_unsent AS
    SELECT 'mail' AS lane,
           (SELECT created_at FROM outbox
            WHERE lane = 'mail' AND sent_at IS NULL AND dead_at IS NULL AND seq > 0
            ORDER BY seq LIMIT 1) AS created_at
    UNION ALL
    SELECT 'bus', least(
        (SELECT created_at FROM bus_outbox WHERE seq > (SELECT read_to FROM bus_relay)
         ORDER BY seq LIMIT 1),
        (SELECT min(o.created_at) FROM bus_stragglers s JOIN bus_outbox o ON o.seq = s.seq
         WHERE s.sent_at IS NULL AND s.dead_at IS NULL));
