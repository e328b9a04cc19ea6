-- Who has which seats, who waits for some, and why each decision about the queue was taken.

-- A waiting party is a booking whose status is 'waitlisted'; its waiting_number is its place.
-- user_id has no foreign key on purpose: the check would write to the user's row with every
-- booking, users are anonymised and never deleted, and the id comes from a token we signed.
CREATE TABLE bookings (
    id              uuid PRIMARY KEY,
    event_id        uuid NOT NULL REFERENCES events (id),
    user_id         uuid NOT NULL,
    status          text NOT NULL CHECK (status IN ('confirmed', 'waitlisted', 'cancelled')),
    seats           integer NOT NULL CHECK (seats > 0),
    cancelled_seats integer NOT NULL DEFAULT 0 CHECK (cancelled_seats >= 0),
    waiting_number  bigint,
    bypassed        integer NOT NULL DEFAULT 0, -- how many parties were promoted past this one
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL
);
CREATE INDEX bookings_user ON bookings (user_id, id);
CREATE INDEX bookings_event ON bookings (event_id, id);
CREATE UNIQUE INDEX bookings_waitlist ON bookings (event_id, waiting_number)
    WHERE status = 'waitlisted';

-- Rows stand for seats that are taken now; the primary key is the promise that no seat is sold
-- twice (research/reliability.md, invariant 3).
CREATE TABLE booking_seats (
    event_id        uuid NOT NULL,
    seat_number     integer NOT NULL CHECK (seat_number > 0),
    booking_id      uuid NOT NULL REFERENCES bookings (id),
    PRIMARY KEY (event_id, seat_number)
);
CREATE INDEX booking_seats_booking ON booking_seats (booking_id);

CREATE TABLE waitlist_ledger (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id        uuid NOT NULL,
    booking_id      uuid NOT NULL,
    at              timestamptz NOT NULL,
    what            text NOT NULL,              -- joined, promoted, bypassed, parked, skipped, …
    why             text NOT NULL
);
CREATE INDEX waitlist_ledger_booking ON waitlist_ledger (booking_id, id);
