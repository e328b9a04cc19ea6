-- What the process needs to remember about itself: answers already given, the incarnation of
-- Redis it trusts, and who changed what.

CREATE TABLE idempotency_keys (
    principal_id    uuid NOT NULL,
    route           text NOT NULL,
    key             text NOT NULL,
    fingerprint     bytea NOT NULL,             -- SHA-256 of the request's body
    status          smallint NOT NULL,
    body            text NOT NULL,              -- what was answered, to the byte
    location        text,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (principal_id, route, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys USING brin (created_at);

-- One row: the Redis server (by run id) whose contents we believe, and which belief it is.
CREATE TABLE redis_epoch (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    run_id          text NOT NULL,
    epoch           bigint NOT NULL
);
INSERT INTO redis_epoch (run_id, epoch) VALUES ('', 0);

CREATE TABLE audit_log (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL,
    actor_id        uuid,                       -- null: the system itself
    action          text NOT NULL,              -- e.g. event.published, dead_letter.redriven
    subject         text NOT NULL,
    request_id      text,
    detail          json
);
CREATE INDEX audit_log_at ON audit_log USING brin (at);
