-- Of which version of its type a message's data is. The relay that sends it may be of a newer
-- release than the process that wrote it, and consumers lift what they are told is old.
ALTER TABLE outbox ADD COLUMN schema_version integer NOT NULL DEFAULT 1;
ALTER TABLE dead_letters ADD COLUMN schema_version integer NOT NULL DEFAULT 1;
