//! The whole life of what one request caused: what it changed, which messages it wrote, where the
//! broker put each, what every service did with it, and whom it reached.

use super::consume::streams;
use crate::app::{App, Result};
use crate::domain::dead_letter::{BROKER, RELAY};
use crate::domain::processing::ServiceContext;
use crate::domain::refusal::Refusal;
use crate::postgres::trace;
pub use crate::postgres::trace::{Change, Delivered, Letter, Sent, Step};

/// Most messages and changes shown of one request, and inboxes shown of one message.
pub const SHOWN_MAX: i64 = 200;

/// What became of a message.
#[derive(Clone, Debug)]
pub struct Life {
    /// How it left.
    pub sent: Sent,
    /// What services did with it.
    pub steps: Vec<Step>,
    /// Where it died.
    pub letters: Vec<Letter>,
    /// Whom it reached.
    pub deliveries: Vec<Delivered>,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Passport {
    /// What it changed.
    pub changes: Vec<Change>,
    /// The messages, in the order in which they were written.
    pub messages: Vec<Life>,
}

/// What became of the request with this id.
///
/// # Errors
/// [`Refusal::NotFound`] when nothing is known of it (any more), or PostgreSQL is away.
pub async fn trace(app: &App, correlation_id: &str) -> Result<Passport> {
    let conn = app.db.get().await?;
    let changes = trace::changes(&conn, correlation_id, SHOWN_MAX).await?;
    let sent = trace::messages(&conn, correlation_id, SHOWN_MAX).await?;
    if changes.is_empty() && sent.is_empty() {
        return Err(Refusal::NotFound("trace").into());
    }
    let (mut names, mut revisions) = (Vec::new(), Vec::new());
    for message in &sent {
        for stream in streams(&message.kind) {
            names.push(stream);
            revisions.push(message.id.to_string());
        }
    }
    let ids: Vec<String> = sent.iter().map(|message| message.id.to_string()).collect();
    let services = ServiceContext::ALL.into_iter().map(ServiceContext::name);
    let sources: Vec<&str> = [RELAY, BROKER].into_iter().chain(services).collect();
    let mut steps = trace::steps(&conn, &names, &revisions).await?;
    let mut letters = trace::letters(&conn, &ids, &sources).await?;
    let mut deliveries = trace::deliveries(&conn, &ids, SHOWN_MAX).await?;
    let life = |sent: Sent| {
        let id = sent.id.to_string();
        Life {
            steps: steps.extract_if(.., |step| step.message == id).collect(),
            letters: letters.extract_if(.., |letter| letter.message == id).collect(),
            deliveries: deliveries.extract_if(.., |one| one.message == id).collect(),
            sent,
        }
    };
    Ok(Passport { changes, messages: sent.into_iter().map(life).collect() })
}
