-- What people say of events and whom they follow; what is counted of it; and whom it is told. The
-- verbs write what was said, with a message; the consumer of those messages counts, and remembers
-- with each row what of it is counted. No foreign keys: they would lock the rows of events, which
-- are hot while seats are sold, and neither events nor people are ever deleted.

CREATE TABLE event_interests (
    event_id        uuid NOT NULL,
    user_id         uuid NOT NULL,
    state           text CHECK (state IN ('sure', 'maybe', 'interested')),  -- null: withdrawn
    privacy         text NOT NULL CHECK (privacy IN ('public', 'followers', 'private')),
    version         bigint NOT NULL,            -- rises by one with every change
    changed_at      timestamptz NOT NULL,
    -- What the counters hold of it, what they held before that, and of which version it is.
    counted_state   text,
    counted_before  text,
    counted_version bigint NOT NULL DEFAULT 0,
    alert_id        uuid,                       -- the alerts that told of it: nobody is told twice
    PRIMARY KEY (event_id, user_id)
) WITH (fillfactor = 80);
CREATE INDEX event_interests_user ON event_interests (user_id, changed_at, event_id)
    WHERE state IS NOT NULL;
CREATE INDEX event_interests_public ON event_interests (event_id, changed_at, user_id)
    WHERE state IS NOT NULL AND privacy = 'public';

CREATE TABLE event_ratings (
    event_id        uuid NOT NULL,
    user_id         uuid NOT NULL,
    rating          integer CHECK (rating BETWEEN 1 AND 5),     -- null: taken back
    version         bigint NOT NULL,
    changed_at      timestamptz NOT NULL,
    counted_rating  integer,
    counted_before  integer,
    counted_version bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (event_id, user_id)
) WITH (fillfactor = 80);

CREATE TABLE organization_follows (
    organization_id uuid NOT NULL,
    user_id         uuid NOT NULL,
    following       boolean NOT NULL,
    version         bigint NOT NULL,
    changed_at      timestamptz NOT NULL,
    counted         boolean NOT NULL DEFAULT false,
    counted_before  boolean NOT NULL DEFAULT false,
    counted_version bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (organization_id, user_id)
) WITH (fillfactor = 80);
CREATE INDEX organization_follows_user ON organization_follows (user_id, organization_id)
    WHERE following;

-- Counters, and what is calculated anew from them with every count. Apart from the rows of events,
-- which only the booking desk locks. An upsert checks constraints before it finds the row that it
-- adds to, so that there can be none on the sums.
CREATE TABLE event_stats (
    event_id        uuid PRIMARY KEY,
    sure            integer NOT NULL DEFAULT 0,
    maybe           integer NOT NULL DEFAULT 0,
    interested      integer NOT NULL DEFAULT 0,
    ratings         integer NOT NULL DEFAULT 0,
    rating_sum      bigint NOT NULL DEFAULT 0,
    -- How much it draws people, for rankings: who is sure counts most.
    appeal          integer GENERATED ALWAYS AS (4 * sure + 2 * maybe + interested) STORED,
    rating_average  double precision GENERATED ALWAYS AS (
        CASE WHEN ratings > 0 THEN rating_sum::double precision / ratings END) STORED,
    counted_at      timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE user_stats (
    user_id         uuid PRIMARY KEY,
    sure            integer NOT NULL DEFAULT 0,
    maybe           integer NOT NULL DEFAULT 0,
    interested      integer NOT NULL DEFAULT 0,
    ratings         integer NOT NULL DEFAULT 0,
    rating_sum      bigint NOT NULL DEFAULT 0,
    follows         integer NOT NULL DEFAULT 0,
    interests       integer GENERATED ALWAYS AS (sure + maybe + interested) STORED,
    rating_average  double precision GENERATED ALWAYS AS (
        CASE WHEN ratings > 0 THEN rating_sum::double precision / ratings END) STORED,
    counted_at      timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE organization_stats (
    organization_id uuid PRIMARY KEY,
    followers       integer NOT NULL DEFAULT 0,
    counted_at      timestamptz NOT NULL
) WITH (fillfactor = 50);

-- "Ana and 37 others are interested in …": one row for whom it is told to, event and batch.
CREATE TABLE user_alerts (
    id              uuid PRIMARY KEY,           -- UUIDv7: later ones sort after earlier ones
    user_id         uuid NOT NULL,              -- who is told
    kind            text NOT NULL CHECK (kind IN ('interest')),
    event_id        uuid NOT NULL,
    actor_id        uuid NOT NULL,              -- who is named
    others          integer NOT NULL CHECK (others >= 0),
    sure            integer NOT NULL CHECK (sure >= 0),
    maybe           integer NOT NULL CHECK (maybe >= 0),
    interested      integer NOT NULL CHECK (interested >= 0),
    created_at      timestamptz NOT NULL,
    CHECK (others + 1 = sure + maybe + interested)
);
CREATE INDEX user_alerts_user ON user_alerts (user_id, id);

-- Up to which alert somebody has seen theirs.
CREATE TABLE alert_pointers (
    user_id         uuid PRIMARY KEY,
    last_seen       uuid NOT NULL,
    seen_at         timestamptz NOT NULL
);
