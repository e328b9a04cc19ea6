-- The trace of a request shows what it changed, too.
CREATE INDEX audit_log_request ON audit_log (request_id) WHERE request_id IS NOT NULL;
