-- Ranges of a BRIN index only widen: once pages are used again they say nothing any more, and
-- whoever forgets old rows would read the whole table for each portion.
CREATE INDEX processed_events_at ON processed_events (processedAt);
DROP INDEX processed_events_age;
-- The outbox is searched by place instead (a place and a time rise together).
DROP INDEX outbox_sent;

-- What operators look for in the log of messages: one request, and what went wrong.
CREATE INDEX message_log_request ON message_log (correlation_id, at)
    WHERE correlation_id IS NOT NULL;
CREATE INDEX message_log_wrong ON message_log (action, at)
    WHERE action IN ('failed', 'refused');
