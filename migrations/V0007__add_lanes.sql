-- Messages leave by two ways: notifications by mail (RabbitMQ), everything else by the bus. Each
-- way has a relay of its own, so that the outage of one broker delays nothing of the other.

ALTER TABLE outbox
    ADD COLUMN lane text NOT NULL DEFAULT 'mail' CHECK (lane IN ('mail', 'bus')),
    ADD COLUMN position text;                   -- where the broker put it
-- As before (see V0005), a lane at a time.
DROP INDEX outbox_unsent;
CREATE INDEX outbox_unsent ON outbox (lane, seq)
    WHERE sent_at IS NULL AND dead_at IS NULL AND seq > 0;
DROP INDEX outbox_unsent_aggregate;
CREATE INDEX outbox_unsent_aggregate ON outbox (lane, aggregate_id, seq)
    WHERE sent_at IS NULL AND dead_at IS NULL;
-- The trace of a request begins with what it caused.
CREATE INDEX outbox_correlation ON outbox (correlation_id);
