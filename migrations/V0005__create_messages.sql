-- Every consequence of a change, written in the transaction of its cause (outbox), and every
-- consumer's memory of what it has done (inbox), so that nothing is lost or done twice.

CREATE TABLE outbox (
    -- Taken under the lock of the aggregate, so within an aggregate it follows commit order.
    seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              uuid NOT NULL,              -- the message id; consumers know it as revision
    aggregate_id    uuid NOT NULL,              -- order is kept among messages of one aggregate
    type            text NOT NULL,
    payload         json NOT NULL,
    correlation_id  text NOT NULL,
    traceparent     text,
    created_at      timestamptz NOT NULL,
    -- One claim at a time: a fence that rises with every claim, and when the claim lapses.
    lease_until     timestamptz,
    fence           bigint NOT NULL DEFAULT 0,
    attempts        integer NOT NULL DEFAULT 0, -- failed publications (S2.50)
    next_attempt_at timestamptz,
    last_error      text,
    sent_at         timestamptz,
    dead_at         timestamptz                 -- given up; see dead_letters
) WITH (fillfactor = 70);
-- seq > 0 always holds. A query that does not say so cannot use this index: the relay's look at a
-- row's aggregate must never take it, whatever the statistics say of a table that was empty a
-- moment ago, because that would read the whole backlog for each row.
CREATE INDEX outbox_unsent ON outbox (seq)
    WHERE sent_at IS NULL AND dead_at IS NULL AND seq > 0;
CREATE INDEX outbox_unsent_aggregate ON outbox (aggregate_id, seq)
    WHERE sent_at IS NULL AND dead_at IS NULL;
-- Empty unless something is wrong.
CREATE INDEX outbox_failed ON outbox (seq)
    WHERE sent_at IS NULL AND dead_at IS NULL AND attempts > 0;
CREATE INDEX outbox_sent ON outbox USING brin (created_at);

-- S1.14 to S1.20: names and types as documented (unquoted, as the document writes them), plus
-- what makes a claim safe: a lease, a fence, attempts, and the end of trying.
CREATE TABLE processed_events (
    streamName       varchar(500) NOT NULL,
    revision         varchar(50) NOT NULL,
    serviceContext   varchar(100) NOT NULL,
    processingStatus varchar(50) NOT NULL
                     CHECK (processingStatus IN ('processing', 'processed', 'failed', 'skipped')),
    processedAt      timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
    lease_until      timestamptz,
    fence            bigint NOT NULL DEFAULT 1,
    attempts         integer NOT NULL DEFAULT 1,
    next_attempt_at  timestamptz,
    last_error       text,
    dead_at          timestamptz,
    PRIMARY KEY (streamName, revision, serviceContext)
);
CREATE INDEX processed_events_age ON processed_events USING brin (processedAt);

-- What could not be published or processed, with its reason, until somebody redrives or drops it.
CREATE TABLE dead_letters (
    id              uuid PRIMARY KEY,
    source          text NOT NULL,              -- 'relay' or the consumer's service context
    message_id      text NOT NULL,
    type            text NOT NULL,
    payload         text NOT NULL,              -- as received: it may not even be JSON
    correlation_id  text,
    traceparent     text,
    reason          text NOT NULL,
    fingerprint     text NOT NULL,              -- groups letters that died of the same thing
    attempts        integer NOT NULL,
    died_at         timestamptz NOT NULL,
    redriven_at     timestamptz,
    redrives        integer NOT NULL DEFAULT 0
);
CREATE INDEX dead_letters_open ON dead_letters (died_at, id) WHERE redriven_at IS NULL;
-- One row a message: one that dies again after a redrive opens its letter again, and the counter
-- of redrives goes on.
CREATE UNIQUE INDEX dead_letters_message ON dead_letters (source, message_id);

-- The in-app inbox.
CREATE TABLE notifications (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL,
    message_id      text NOT NULL,
    type            text NOT NULL,
    event_id        uuid,
    booking_id      uuid,
    title           text NOT NULL,
    body            text NOT NULL,
    data            json NOT NULL,
    created_at      timestamptz NOT NULL,
    read_at         timestamptz
);
-- The second guard against a double notification, after the inbox claim.
CREATE UNIQUE INDEX notifications_message ON notifications (message_id, user_id);
CREATE INDEX notifications_user ON notifications (user_id, id);
