-- A claim asks of each message whether an earlier one of its aggregate is leased or waits for its
-- retry. Of those there are never many; of unsent ones of a busy aggregate there may be a hundred
-- thousand, and looking through them for each message took longer than a statement may.
CREATE INDEX outbox_underway ON outbox (lane, aggregate_id, seq)
    WHERE sent_at IS NULL AND dead_at IS NULL
      AND (lease_until IS NOT NULL OR next_attempt_at IS NOT NULL);
DROP INDEX outbox_unsent_aggregate;
