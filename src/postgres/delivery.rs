//! Messages become entries of inboxes: the claim, the effects and the end of any number of
//! messages are one statement, so that nothing of a message happens without its claim, twice, or
//! by half.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::inbox;
use super::outbox::{self, RawMessage};
use super::{Conn, Db, DbError, Statements as _, dead_letter};
use crate::domain::dead_letter::DeadLetter;
use crate::domain::ids::{MessageId, NotificationId};
use crate::domain::notification::Notification;
use crate::domain::processing::{ProcessingStatus, ServiceContext};

/// A claim as in [`super::inbox`], but ended with the statement that makes it: the lease of a claim
/// is for work that takes longer. Sorted, so that two that deal with the same messages wait for
/// each other instead of deadlocking. The notifications' own unique index is the second guard.
const TELL: &str = "WITH claim AS (
        INSERT INTO processed_events AS p (streamName, revision, serviceContext,
            processingStatus, processedAt, last_error, dead_at)
        SELECT k.stream, k.revision, $1, k.status, $2, k.error, k.dead_at
        FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
             AS k (stream, revision, status, error, dead_at) ORDER BY 1, 2
        ON CONFLICT (streamName, revision, serviceContext) DO UPDATE
        SET processingStatus = EXCLUDED.processingStatus, processedAt = $2, lease_until = NULL,
            fence = p.fence + 1, attempts = p.attempts + 1, next_attempt_at = NULL,
            last_error = EXCLUDED.last_error, dead_at = EXCLUDED.dead_at
        WHERE (p.processingStatus = 'failed' AND p.dead_at IS NULL
               AND (p.next_attempt_at IS NULL OR p.next_attempt_at <= $2))
           OR (p.processingStatus = 'processing'
               AND (p.lease_until IS NULL OR p.lease_until <= $2))
        RETURNING revision, streamName, processingStatus, last_error, attempts),
    logged AS (
        INSERT INTO message_log (at, action, message_id, type, service, detail)
        SELECT $2, c.processingStatus, c.revision, k.type, $1, c.last_error
        FROM claim c JOIN unnest($19::text[], $20::text[]) AS k (stream, type)
          ON c.streamName = k.stream),
    told AS (
        INSERT INTO notifications (id, user_id, message_id, type, event_id, booking_id, title,
            body, data, created_at)
        SELECT n.id, n.user_id, n.message_id, n.type, n.event_id, n.booking_id, n.title, n.body,
               n.data::json, n.created_at
        FROM unnest($8::text[], $9::uuid[], $10::uuid[], $11::text[], $12::text[], $13::uuid[],
                    $14::uuid[], $15::text[], $16::text[], $17::text[], $18::timestamptz[])
             AS n (revision, id, user_id, message_id, type, event_id, booking_id, title, body,
                   data, created_at)
        WHERE n.revision IN (SELECT revision FROM claim)
        ON CONFLICT DO NOTHING
        RETURNING id)
    SELECT revision, attempts, NULL::uuid AS entry FROM claim
    UNION ALL SELECT NULL, NULL, id FROM told";

/// What becomes of one message if its claim is won.
#[derive(Clone, Debug)]
pub struct End {
    /// Which message; `revision` in `processed_events`.
    pub message: MessageId,
    /// The stream it is remembered under.
    pub stream: String,
    /// How it ends.
    pub status: ProcessingStatus,
    /// Why it was skipped or makes no sense.
    pub error: Option<String>,
    /// Its letter, if it makes no sense.
    pub letter: Option<DeadLetter>,
    /// What is left of a message to many.
    pub rest: Option<RawMessage>,
}

/// What a batch of messages comes to.
#[derive(Debug, Default)]
pub struct Effects {
    /// One for each message; messages differ.
    pub ends: Vec<End>,
    /// Entries of inboxes, and the message that each is written for.
    pub entries: Vec<(MessageId, Notification)>,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The messages whose claims were won, and which attempt it was.
    pub won: HashMap<MessageId, i32>,
    /// The entries that are new.
    pub entries: Vec<NotificationId>,
}

/// Claims the messages and writes what they come to, all at once or nothing; says which claims
/// were won. Of the others nothing is written: they are final, leased by somebody else, or not
/// due yet.
///
/// # Errors
/// [`DbError::Query`] means that nothing was written; any other leaves it unknown.
pub async fn tell(
    db: &Db,
    service: ServiceContext,
    effects: &Effects,
    now: Timestamp,
) -> Result<Written, DbError> {
    let rare = effects.ends.iter().any(|end| end.letter.is_some() || end.rest.is_some());
    if !rare {
        return claim(&*db.get().await?, service, effects, now).await;
    }
    let tx = db.begin().await?;
    let written = claim(&tx, service, effects, now).await?;
    let won = || effects.ends.iter().filter(|end| written.won.contains_key(&end.message));
    let rests: Vec<RawMessage> = won().filter_map(|end| end.rest.clone()).collect();
    let letters = won().filter_map(|end| {
        let attempts = written.won.get(&end.message).copied().unwrap_or(1);
        end.letter.clone().map(|letter| DeadLetter { attempts, ..letter })
    });
    let letters: Vec<DeadLetter> = letters.collect();
    outbox::append_raw(&tx, &rests).await?;
    dead_letter::save(&tx, &letters).await?;
    tx.commit().await?;
    Ok(written)
}

/// The statement.
async fn claim(
    conn: &Conn,
    service: ServiceContext,
    effects: &Effects,
    now: Timestamp,
) -> Result<Written, DbError> {
    let Effects { ends, entries } = effects;
    let streams: Vec<&str> = ends.iter().map(|end| end.stream.as_str()).collect();
    let revisions: Vec<String> = ends.iter().map(|end| end.message.to_string()).collect();
    let (named, types) = inbox::types(&streams);
    let statuses: Vec<&str> = ends.iter().map(|end| end.status.name()).collect();
    let errors: Vec<Option<&str>> = ends.iter().map(|end| end.error.as_deref()).collect();
    let dead: Vec<_> = ends.iter().map(|end| end.letter.as_ref().map(|one| one.died_at)).collect();
    let of: Vec<String> = entries.iter().map(|(message, _)| message.to_string()).collect();
    let entries = || entries.iter().map(|(_, entry)| entry);
    let ids: Vec<Uuid> = entries().map(|entry| entry.id.0).collect();
    let users: Vec<Uuid> = entries().map(|entry| entry.user_id.0).collect();
    let messages: Vec<String> = entries().map(|entry| entry.message_id.to_string()).collect();
    let kinds: Vec<&str> = entries().map(|entry| entry.kind.as_str()).collect();
    let events: Vec<_> = entries().map(|entry| entry.event_id.map(|id| id.0)).collect();
    let bookings: Vec<_> = entries().map(|entry| entry.booking_id.map(|id| id.0)).collect();
    let titles: Vec<&str> = entries().map(|entry| entry.title.as_str()).collect();
    let bodies: Vec<&str> = entries().map(|entry| entry.body.as_str()).collect();
    let data: Vec<&str> = entries().map(|entry| entry.data.as_str()).collect();
    let created: Vec<Timestamp> = entries().map(|entry| entry.created_at).collect();
    let rows = conn
        .rows(
            TELL,
            &[
                &service.name(),
                &now,
                &streams,
                &revisions,
                &statuses,
                &errors,
                &dead,
                &of,
                &ids,
                &users,
                &messages,
                &kinds,
                &events,
                &bookings,
                &titles,
                &bodies,
                &data,
                &created,
                &named,
                &types,
            ],
        )
        .await?;
    let mut written = Written::default();
    for row in &rows {
        let (revision, entry): (Option<&str>, Option<Uuid>) =
            (row.try_get("revision")?, row.try_get("entry")?);
        written.entries.extend(entry.map(NotificationId));
        let Some(revision) = revision else { continue };
        let message = revision.parse().map_err(|_| DbError::Corrupt {
            table: "processed_events",
            column: "revision",
            value: revision.to_owned(),
        })?;
        written.won.insert(MessageId(message), row.try_get("attempts")?);
    }
    Ok(written)
}
