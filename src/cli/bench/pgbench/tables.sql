-- The plain way: the same three tables with the same indexes, and one hot event.
CREATE TABLE events (
    id              integer PRIMARY KEY,
    capacity        integer NOT NULL,
    available_slots integer NOT NULL CHECK (available_slots >= 0)
) WITH (fillfactor = 50);

CREATE TABLE bookings (
    id              uuid PRIMARY KEY,
    event_id        integer NOT NULL REFERENCES events (id),
    user_id         uuid NOT NULL,
    status          text NOT NULL,
    seats           integer NOT NULL CHECK (seats > 0),
    created_at      timestamptz NOT NULL
);
CREATE INDEX bookings_user ON bookings (user_id, id);
CREATE INDEX bookings_event ON bookings (event_id, id);

CREATE TABLE outbox (
    seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              uuid NOT NULL,
    aggregate_id    uuid NOT NULL,
    type            text NOT NULL,
    payload         json NOT NULL,
    created_at      timestamptz NOT NULL,
    sent_at         timestamptz
);
CREATE INDEX outbox_unsent ON outbox (seq) WHERE sent_at IS NULL;

INSERT INTO events VALUES (1, 2000000000, 2000000000);
