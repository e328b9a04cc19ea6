-- What somebody was woken for. Any number of processes watch: who first sees that something is wrong
-- opens a row, whoever sees it keeps last_seen_at fresh, and it ends when nobody has for a while.

CREATE TABLE alarms (
    id              uuid PRIMARY KEY,           -- UUIDv7: later ones sort after earlier ones
    kind            text NOT NULL,
    subject         text NOT NULL,              -- which service, lane or type
    opened_at       timestamptz NOT NULL,
    last_seen_at    timestamptz NOT NULL,
    closed_at       timestamptz,
    told_at         timestamptz NOT NULL,       -- when people were last told that it is there
    process         text NOT NULL,              -- who saw it last
    detail          jsonb NOT NULL CHECK (octet_length(detail::text) <= 4096)
);
-- One at a time of a kind and subject, however many processes see it.
CREATE UNIQUE INDEX alarms_open ON alarms (kind, subject) WHERE closed_at IS NULL;
CREATE INDEX alarms_over ON alarms (closed_at) WHERE closed_at IS NOT NULL;

-- What is looked at every few seconds: letters that the relay gave up, whatever else died; and whom
-- to tell.
CREATE INDEX dead_letters_given_up ON dead_letters (died_at)
    WHERE source = 'relay' AND resolved_at IS NULL;
CREATE INDEX users_admins ON users (id) WHERE role = 'admin' AND deactivated_at IS NULL;

-- Alerts are forgotten after a while, too.
CREATE INDEX user_alerts_age ON user_alerts USING brin (created_at);
