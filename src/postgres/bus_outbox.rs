//! Messages on their way to the bus: a log. A row is written in the transaction of its cause and
//! never changes; how far the relay has read it is kept beside it (`bus_relay.rs`).

use jiff::Timestamp;

use super::{Conn, DbError, Statements as _};

/// Identity values follow the arrays' order, so within an aggregate `seq` is the order of facts.
/// The transaction's id is drawn before the first of them: whoever finds a gap and waits until all
/// transactions are over that had an id by then, waits for this one, too.
pub(super) const INSERT: &str = "INSERT INTO bus_outbox
    (id, aggregate_id, type, schema_version, payload, correlation_id, traceparent, created_at)
    SELECT m.id, m.aggregate_id, m.type, m.schema_version, m.payload::json, m.correlation_id,
           m.traceparent, m.created_at
    FROM pg_current_xact_id() AS drawn,
         unnest($1::uuid[], $2::uuid[], $3::text[], $4::integer[], $5::text[], $6::text[],
                $7::text[], $8::timestamptz[])
         AS m (id, aggregate_id, type, schema_version, payload, correlation_id, traceparent,
               created_at)";
const PRUNE: &str = "WITH old AS MATERIALIZED (
        SELECT o.seq FROM bus_outbox o LEFT JOIN bus_stragglers s ON s.seq = o.seq
        WHERE o.seq <= (SELECT last_seq FROM bus_publications WHERE at < $1
                        ORDER BY at DESC LIMIT 1)
          AND (s.seq IS NULL OR s.sent_at < $1 OR s.dead_at < $1)
          AND NOT EXISTS (SELECT FROM bus_relay r
              CROSS JOIN LATERAL unnest(r.gap_firsts, r.gap_lasts) AS g (first, last)
              WHERE o.seq BETWEEN g.first AND g.last)
        ORDER BY o.seq LIMIT $2),
    stragglers AS (
        DELETE FROM bus_stragglers WHERE seq = ANY (ARRAY(SELECT seq FROM old)))
    DELETE FROM bus_outbox WHERE seq = ANY (ARRAY(SELECT seq FROM old))";
const PRUNE_PUBLICATIONS: &str = "DELETE FROM bus_publications WHERE last_seq = ANY (ARRAY(
    SELECT last_seq FROM bus_publications
    WHERE last_seq < (SELECT coalesce(min(seq), 0) FROM bus_outbox) LIMIT $1))";

/// Forgets up to `limit` messages that were sent or given up before `before`, and what is noted of
/// them.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn prune(conn: &Conn, before: Timestamp, limit: i64) -> Result<u64, DbError> {
    let gone = conn.run(PRUNE, &[&before, &limit]).await?;
    conn.run(PRUNE_PUBLICATIONS, &[&limit]).await?;
    Ok(gone)
}
