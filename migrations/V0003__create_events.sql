-- What people attend. The row is also the lock under which an event's inventory changes, and it
-- carries the inventory's sums, so that one row tells whether a seat can be sold.

CREATE TABLE events (
    id                    uuid PRIMARY KEY,
    organization_id       uuid NOT NULL REFERENCES organizations (id),
    title                 text NOT NULL,
    description           text,
    category              text,
    venue                 text,
    starts_at             timestamptz NOT NULL,
    ends_at               timestamptz,
    sales_open_at         timestamptz,
    sales_close_at        timestamptz,
    status                text NOT NULL
                          CHECK (status IN ('draft', 'published', 'cancelled', 'completed')),
    cancel_reason         text,
    -- Set when the last booking of a cancelled event was cancelled: until then the cascade goes on.
    cascade_done_at       timestamptz,
    seating               text NOT NULL CHECK (seating IN ('general', 'numbered')),
    seat_map              jsonb,
    max_seats_per_booking integer NOT NULL CHECK (max_seats_per_booking >= 1),
    waitlist_policy       text NOT NULL CHECK (waitlist_policy IN ('strict', 'bypass')),
    waitlist_max_bypass   integer NOT NULL CHECK (waitlist_max_bypass >= 0),

    capacity              integer NOT NULL CHECK (capacity BETWEEN 1 AND 1000000),
    available_slots       integer NOT NULL CHECK (available_slots >= 0),
    confirmed_seats       integer NOT NULL CHECK (confirmed_seats >= 0),
    reserved_seats        integer NOT NULL CHECK (reserved_seats >= 0),  -- parked for the waitlist
    waitlist_length       integer NOT NULL CHECK (waitlist_length >= 0), -- parties waiting
    last_waiting_number   bigint NOT NULL,
    seat_cursor           integer NOT NULL,     -- numbered: every seat up to here is taken
    inventory_version     bigint NOT NULL,      -- rises by one with every change of the inventory

    created_at            timestamptz NOT NULL,
    updated_at            timestamptz NOT NULL,
    version               bigint NOT NULL,      -- of the description, for ETag and If-Match
    search                tsvector GENERATED ALWAYS AS (
        to_tsvector('simple', title || ' ' || coalesce(description, '') || ' '
                    || coalesce(category, '') || ' ' || coalesce(venue, ''))) STORED,

    CONSTRAINT events_conservation
        CHECK (available_slots + confirmed_seats + reserved_seats = capacity)
) WITH (fillfactor = 50);                       -- room for in-page updates of a hot row

CREATE INDEX events_organization ON events (organization_id, id);
CREATE INDEX events_listing ON events (starts_at, id) WHERE status = 'published';
CREATE INDEX events_search ON events USING gin (search);
CREATE INDEX events_cascade ON events (id) WHERE status = 'cancelled' AND cascade_done_at IS NULL;
