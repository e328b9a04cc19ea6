-- What was done about a dead letter stays with it: sent again, replaced by an edited copy, or
-- discarded, by whom and why. Many are sent again by a job that anybody can watch and that any
-- process goes on with.

ALTER TABLE dead_letters RENAME COLUMN redriven_at TO resolved_at;
ALTER TABLE dead_letters
    ADD COLUMN resolution text CHECK (resolution IN ('redriven', 'copied', 'discarded')),
    ADD COLUMN resolved_by uuid,                -- null: somebody at the command line
    ADD COLUMN note text,                       -- why, in their words
    ADD COLUMN replaced_by text;                -- the id of the message that is its edited copy
UPDATE dead_letters SET resolution = 'redriven' WHERE resolved_at IS NOT NULL;
ALTER TABLE dead_letters
    ADD CONSTRAINT dead_letters_resolved CHECK ((resolution IS NULL) = (resolved_at IS NULL));
CREATE INDEX dead_letters_open_id ON dead_letters (id) WHERE resolved_at IS NULL;
CREATE INDEX dead_letters_over ON dead_letters (resolved_at) WHERE resolved_at IS NOT NULL;
CREATE INDEX dead_letters_replaced ON dead_letters (replaced_by) WHERE replaced_by IS NOT NULL;

CREATE TABLE redrives (
    id              uuid PRIMARY KEY,
    -- Which letters: open ones that died before created_at and fit all that is not null.
    type            text,
    source          text,
    fingerprint     text,
    ids             uuid[] NOT NULL,            -- empty: any
    rate_per_second integer NOT NULL CHECK (rate_per_second > 0),
    most            bigint NOT NULL,            -- at most so many
    force           boolean NOT NULL,           -- also those that were sent again too often
    matched         bigint NOT NULL,            -- when it began
    redriven        bigint NOT NULL DEFAULT 0,
    refused         bigint NOT NULL DEFAULT 0,
    refusals        json NOT NULL DEFAULT '[]', -- the first of them: [{"id", "reason"}]
    -- The lock of this row is the lease: who holds it takes the next step.
    after_id        uuid,                       -- the letters up to here are dealt with
    paid_until      timestamptz NOT NULL,       -- the rate allows what fits between here and now
    created_at      timestamptz NOT NULL,
    created_by      uuid,
    request_id      text NOT NULL,
    finished_at     timestamptz,
    cancelled       boolean NOT NULL DEFAULT false
);
CREATE INDEX redrives_running ON redrives (id) WHERE finished_at IS NULL;

-- S2.45 to S2.52: publications that failed, under the documented name and with the documented
-- fields. The outbox kept them before they were tried, so nothing has to be stored when one fails.
ALTER TABLE outbox ADD COLUMN failed_at timestamptz;
CREATE VIEW failed_events AS
    SELECT id::text AS id, type, payload::text AS data, last_error AS error,
           coalesce(failed_at, created_at) AS "timestamp", attempts - 1 AS "retryCount",
           next_attempt_at, false AS dead
    FROM outbox WHERE sent_at IS NULL AND dead_at IS NULL AND attempts > 0
    UNION ALL
    SELECT message_id, type, payload, reason, died_at, attempts - 1, NULL, true
    FROM dead_letters WHERE source = 'relay' AND resolved_at IS NULL;
