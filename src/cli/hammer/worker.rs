//! One connection's work: ask, understand the answer, ask again with the same key when the answer
//! was lost, and remember everything that the verdict needs.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use super::client::{self, Connection, Target};
use super::load::{Cancelled, Outcome, Run, Seen, Shared};
use super::plan::Ask;
use super::progress::Tally;

/// How often a request with a key is sent before its outcome counts as unknown.
const ATTEMPTS: u32 = 7;
/// The pause before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
/// After so many unknown outcomes in a row a connection gives up: nobody is there.
const GIVE_UP_AFTER: u32 = 5;
/// Sentences kept about unequal pairs, per connection; all are counted.
const SENTENCES_MAX: usize = 20;

/// One connection (two, once a booking is sent twice).
pub(super) struct Worker {
    shared: Arc<Shared>,
    first: Connection,
    second: Connection,
    request: Vec<u8>,
    /// Codes seen so far, so that each is kept once.
    codes: Vec<Arc<str>>,
    run: Run,
}

/// What one request came to in the end.
struct Reply {
    outcome: Outcome,
    booking: Option<Uuid>,
    /// The body, if it was asked to be kept.
    body: Vec<u8>,
    /// What went wrong on the way.
    errors: Vec<String>,
}

/// What is read of a booking in the hot loop.
#[derive(Deserialize)]
struct Booked<'a> {
    id: Uuid,
    status: &'a str,
    waiting_number: Option<i64>,
}

/// What is read of a problem in the hot loop.
#[derive(Deserialize)]
struct Told<'a> {
    code: &'a str,
}

impl Worker {
    pub fn new(shared: Arc<Shared>, target: &Arc<Target>) -> Self {
        Self {
            shared,
            first: Connection::new(Arc::clone(target)),
            second: Connection::new(Arc::clone(target)),
            request: Vec::with_capacity(1024),
            codes: Vec::new(),
            run: Run::default(),
        }
    }

    /// Books until there is nothing more to ask for, or nobody to ask.
    pub async fn work(mut self) -> Run {
        let mut unknown_in_a_row = 0;
        while let Some(index) = self.shared.take() {
            let ask = self.shared.plan.ask(index);
            let seen = self.book(&ask).await;
            let lost = seen.outcome == Outcome::Unknown;
            unknown_in_a_row = if lost { unknown_in_a_row + 1 } else { 0 };
            self.tally(&seen.outcome);
            self.run.seen.push(seen);
            if unknown_in_a_row >= GIVE_UP_AFTER {
                self.error("a connection gave up: nobody answers");
                break;
            }
        }
        self.run
    }

    async fn book(&mut self, ask: &Ask) -> Seen {
        let shared = Arc::clone(&self.shared);
        let key = shared.plan.keys.then(|| shared.plan.key(ask.index));
        self.request.clear();
        self.request.extend_from_slice(shared.heads.get(ask.person).map_or(&[], Vec::as_slice));
        client::finish(&mut self.request, key.as_deref(), Some(&shared.plan.body(ask)));
        let sent_us = shared.now_us();
        let reply =
            if ask.twice { self.twice(ask.index).await } else { self.settle(key.is_some()).await };
        let answered_us = shared.now_us();
        let cancelled = match (ask.cancel, reply.booking) {
            (true, Some(booking)) => self.cancel(ask, booking).await,
            _ => Cancelled::No,
        };
        Seen {
            index: ask.index,
            booking: reply.booking,
            outcome: self.intern(reply.outcome),
            sent_us,
            answered_us,
            cancelled,
        }
    }

    async fn settle(&mut self, keyed: bool) -> Reply {
        let mut reply = settle(&mut self.first, &self.request, keyed, false).await;
        self.errors(&mut reply);
        reply
    }

    /// The same request on two connections at once: one booking, and two equal answers.
    async fn twice(&mut self, index: u64) -> Reply {
        let (mut one, mut two) = tokio::join!(
            settle(&mut self.first, &self.request, true, true),
            settle(&mut self.second, &self.request, true, true),
        );
        self.errors(&mut one);
        self.errors(&mut two);
        self.run.pairs += 1;
        let comparable = one.outcome != Outcome::Unknown && two.outcome != Outcome::Unknown;
        let accepted = one.booking.is_some() || two.booking.is_some();
        let equal = one.outcome == two.outcome && (!accepted || one.body == two.body);
        if comparable && !equal {
            let told = |reply: &Reply| {
                format!("{:?} {}", reply.outcome, String::from_utf8_lossy(&reply.body))
            };
            let sentence = format!("booking {index}: {} but {}", told(&one), told(&two));
            if self.run.unequal.len() < SENTENCES_MAX {
                self.run.unequal.push(sentence);
            }
        }
        if one.booking.is_some() || two.outcome == Outcome::Unknown { one } else { two }
    }

    async fn cancel(&mut self, ask: &Ask, booking: Uuid) -> Cancelled {
        let shared = Arc::clone(&self.shared);
        let token = shared.people.get(ask.person).map(|person| person.token.as_str());
        let path = format!("/bookings/{booking}/cancel");
        let key = format!("{}-cancel", shared.plan.key(ask.index));
        self.request = self.first.target().head("POST", &path, token);
        client::finish(&mut self.request, Some(&key), Some("{}"));
        match self.settle(true).await.outcome {
            Outcome::Cancelled => Cancelled::Yes,
            Outcome::Refused(code) => {
                self.error(&format!("a cancellation was refused: {code}"));
                Cancelled::Perhaps
            }
            _ => Cancelled::Perhaps,
        }
    }

    fn intern(&mut self, outcome: Outcome) -> Outcome {
        let Outcome::Refused(code) = outcome else { return outcome };
        if let Some(known) = self.codes.iter().find(|known| **known == code) {
            return Outcome::Refused(Arc::clone(known));
        }
        self.codes.push(Arc::clone(&code));
        Outcome::Refused(code)
    }

    fn errors(&mut self, reply: &mut Reply) {
        for error in std::mem::take(&mut reply.errors) {
            self.error(&error);
        }
    }

    fn error(&mut self, name: &str) {
        Tally::count(&self.shared.tally.errors);
        *self.run.errors.entry(name.to_owned()).or_default() += 1;
    }

    fn tally(&self, outcome: &Outcome) {
        let tally = &self.shared.tally;
        match outcome {
            Outcome::Confirmed => Tally::count(&tally.confirmed),
            Outcome::Waitlisted(_) => Tally::count(&tally.waitlisted),
            Outcome::Refused(_) => Tally::count(&tally.refused),
            Outcome::Cancelled | Outcome::Unknown => {}
        }
        Tally::count(&tally.answered);
    }
}

/// Sends a request until its outcome is known. Without a key it is sent once: a second time could
/// book twice.
async fn settle(
    connection: &mut Connection,
    request: &[u8],
    keyed: bool,
    keep_body: bool,
) -> Reply {
    let mut errors = Vec::new();
    let attempts = if keyed { ATTEMPTS } else { 1 };
    let mut pause = PAUSE;
    for attempt in 1..=attempts {
        match connection.exchange(request).await {
            Ok(answer) => match understand(answer.status, answer.body) {
                Ok((outcome, booking)) => {
                    let body = if keep_body { answer.body.to_vec() } else { Vec::new() };
                    return Reply { outcome, booking, body, errors };
                }
                Err(Some(error)) => errors.push(error),
                Err(None) => {} // the same key is in flight: ask again for its answer
            },
            Err(trouble) => errors.push(trouble.name().to_owned()),
        }
        if attempt < attempts {
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
    }
    Reply { outcome: Outcome::Unknown, booking: None, body: Vec::new(), errors }
}

/// What an answer means; an error if it does not tell what happened.
fn understand(status: u16, body: &[u8]) -> Result<(Outcome, Option<Uuid>), Option<String>> {
    match status {
        200 | 201 => {
            let Ok(booked) = serde_json::from_slice::<Booked<'_>>(body) else {
                return Err(Some(format!("{status} without a booking")));
            };
            let outcome = match (booked.status, booked.waiting_number) {
                ("confirmed", _) => Outcome::Confirmed,
                ("waitlisted", Some(number)) => Outcome::Waitlisted(number),
                ("cancelled", _) => Outcome::Cancelled,
                (other, _) => return Err(Some(format!("a booking with status {other}"))),
            };
            Ok((outcome, Some(booked.id)))
        }
        400..500 => match serde_json::from_slice::<Told<'_>>(body) {
            Ok(told) if told.code == "request_in_flight" => Err(None),
            Ok(told) => Ok((Outcome::Refused(told.code.into()), None)),
            Err(_) => Ok((Outcome::Refused(format!("status {status}").into()), None)),
        },
        other => Err(Some(format!("status {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        let id = Uuid::from_u128(9);
        let body = format!(r#"{{"id":"{id}","status":"waitlisted","waiting_number":4,"x":[1]}}"#);
        assert_eq!(understand(201, body.as_bytes()), Ok((Outcome::Waitlisted(4), Some(id))));
        let body = format!(r#"{{"id":"{id}","status":"confirmed","waiting_number":null}}"#);
        assert_eq!(understand(201, body.as_bytes()), Ok((Outcome::Confirmed, Some(id))));
        let refused = understand(409, br#"{"status":409,"code":"sold_out"}"#);
        assert_eq!(refused, Ok((Outcome::Refused("sold_out".into()), None)));
        assert_eq!(understand(409, br#"{"code":"request_in_flight"}"#), Err(None));
        assert_eq!(understand(404, b"nothing"), Ok((Outcome::Refused("status 404".into()), None)));
        assert!(understand(503, b"").unwrap_err().is_some());
        assert!(understand(201, b"{}").unwrap_err().is_some());
    }
}
