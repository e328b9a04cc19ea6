-- Messages of the bus are dealt with in the order of their partition key: while one waits for its
-- next attempt, those behind it wait too. And one process at a time reads a stream for a service.

ALTER TABLE processed_events ADD COLUMN partition_key text;
CREATE INDEX processed_events_waiting ON processed_events (serviceContext, partition_key)
    WHERE processingStatus = 'failed' AND dead_at IS NULL AND partition_key IS NOT NULL;

CREATE TABLE stream_leases (
    service         text NOT NULL,
    stream          text NOT NULL,
    holder          uuid NOT NULL,
    lease_until     timestamptz NOT NULL,
    PRIMARY KEY (service, stream)
);
