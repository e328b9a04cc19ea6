//! The fold: each job in its turn, its answer, its facts; at the end all that has to be written.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::load::Batch;
use super::{Aftermath, Settled};
use crate::app::bookings::desk::{Command, Job, Outcome};
use crate::app::once::{Answer, Submission};
use crate::clock::Ids;
use crate::domain::event::{Event, EventStatus};
use crate::domain::event_patch::EventPatch;
use crate::domain::fact::{Fact, FactKind};
use crate::domain::ids::{BookingId, EventId, MessageId, UserId};
use crate::domain::inventory::Inventory;
use crate::domain::refusal::Refusal;
use crate::domain::seat_map::SeatMap;
use crate::domain::submission::Reply;
use crate::postgres::inventory::{self, Key, Writes};
use crate::postgres::outbox::NewMessage;
use crate::postgres::{DbError, Tx, audit, cascade, event, seat_map};

/// A batch after its fold.
pub(super) struct Folded {
    pub settled: Settled,
    writes: Writes,
    events: Vec<Event>,
    maps: HashMap<EventId, Option<SeatMap>>,
    closed: Vec<EventId>,
    notes: Vec<Note>,
}

/// A line of the audit log: who did what to which event.
struct Note {
    by: UserId,
    action: &'static str,
    event: EventId,
    request: String,
    detail: Value,
}

impl Note {
    /// What is noted of a command that changed the event, if it is one of an organiser's.
    fn of(job: &Job, event: &Event) -> Option<Self> {
        let Event { version, .. } = event;
        let (by, action, detail) = match &job.command {
            Command::Publish { by } => (*by, "event.published", json!({ "version": version })),
            Command::Change { by, .. } => {
                let capacity = event.stock.capacity;
                (*by, "event.changed", json!({ "version": version, "capacity": capacity }))
            }
            Command::CancelEvent { by, reason } => {
                (*by, "event.cancelled", json!({ "version": version, "reason": reason }))
            }
            _ => return None,
        };
        let request = job.origin.correlation_id.clone();
        Some(Self { by, action, event: job.event, request, detail })
    }
}

impl Folded {
    /// Whether every job was refused or answered from memory.
    pub fn writes_nothing(&self) -> bool {
        self.writes.stocks.is_empty()
            && self.writes.answers.is_empty()
            && self.writes.messages.is_empty()
            && self.events.is_empty()
            && self.closed.is_empty()
    }

    /// Writes everything and commits.
    pub async fn save(&self, tx: Tx) -> Result<(), DbError> {
        for changed in &self.events {
            event::update(&tx, changed).await?;
        }
        for (event, map) in &self.maps {
            seat_map::set(&tx, *event, map.as_ref()).await?;
        }
        for closed in &self.closed {
            cascade::done(&tx, *closed, self.writes.now).await?;
        }
        for Note { by, action, event, request, detail } in &self.notes {
            let (now, subject) = (self.writes.now, event.to_string());
            audit::append(&tx, now, Some(*by), action, &subject, Some(request), Some(detail))
                .await?;
        }
        inventory::close(tx, &self.writes).await
    }
}

/// Folds the jobs in their order.
pub(super) fn fold(jobs: &[Job], batch: Batch, now: Timestamp, ids: Ids) -> Folded {
    let mut fold = Fold {
        batch,
        now,
        ids,
        answers: Vec::with_capacity(jobs.len()),
        messages: Vec::with_capacity(jobs.len()),
        replies: Vec::new(),
        changed: HashSet::new(),
        maps: HashMap::new(),
        closed: Vec::new(),
        notes: Vec::new(),
        cancelled: HashSet::new(),
    };
    for job in jobs {
        let answer = fold.answer(job);
        fold.answers.push(answer);
    }
    fold.finish()
}

struct Fold {
    batch: Batch,
    now: Timestamp,
    ids: Ids,
    answers: Vec<crate::app::Result<Answer<Outcome>>>,
    messages: Vec<NewMessage>,
    replies: Vec<(Submission, Reply)>,
    changed: HashSet<EventId>,
    maps: HashMap<EventId, Option<SeatMap>>,
    closed: Vec<EventId>,
    notes: Vec<Note>,
    cancelled: HashSet<EventId>,
}

impl Fold {
    /// One job's answer: from memory if its key was answered, else by doing it.
    fn answer(&mut self, job: &Job) -> crate::app::Result<Answer<Outcome>> {
        let Some((submission, render)) = &job.once else {
            return Ok(self.perform(job).map(Answer::Fresh)?);
        };
        let key: Key = (submission.principal, submission.route.clone(), submission.key.clone());
        if let Some((fingerprint, reply)) = self.batch.answered.get(&key) {
            return if fingerprint == submission.fingerprint.as_slice() {
                Ok(Answer::Replayed(reply.clone()))
            } else {
                Err(Refusal::IdempotencyMismatch.into())
            };
        }
        let outcome = self.perform(job);
        let reply = render(&outcome);
        self.batch.answered.insert(key, (submission.fingerprint.to_vec(), reply.clone()));
        self.replies.push((submission.clone(), reply));
        Ok(outcome.map(Answer::Fresh)?)
    }

    fn perform(&mut self, job: &Job) -> Result<Outcome, Refusal> {
        if let Some(refusal) = &job.early {
            return Err(refusal.clone());
        }
        let before = self.batch.events.get(&job.event).map(|event| event.version);
        let outcome = match &job.command {
            Command::Book { request, .. } => {
                let inventory = self.inventory(job.event)?;
                if inventory.rules().status == EventStatus::Draft {
                    return Err(Refusal::NotFound("event"));
                }
                let now = self.now;
                self.inventory(job.event)?.book(request, now).map(Outcome::Booking)
            }
            Command::Cancel { booking, part } => {
                self.inventory(job.event)?.cancel(*booking, part).map(Outcome::Booking)
            }
            Command::Change { patch, if_version, .. } => {
                self.change(job.event, patch, *if_version).map(Outcome::Event)
            }
            Command::Publish { .. } => self.publish(job.event).map(Outcome::Event),
            Command::CancelEvent { reason, .. } => {
                self.cancel_event(job.event, reason.clone()).map(Outcome::Event)
            }
            Command::Close { .. } => self.close(job.event).map(Outcome::Closed),
            Command::Sweep => {
                self.inventory(job.event)?.promote("found by the sweeper");
                Ok(Outcome::Swept)
            }
        }?;
        let facts = self.inventory(job.event)?.take_facts();
        for fact in facts {
            self.tell(fact, job);
        }
        if let Outcome::Event(event) = &outcome
            && before != Some(event.version)
        {
            self.notes.extend(Note::of(job, event));
            let changed = matches!(job.command, Command::Change { .. });
            if changed && event.rules.status == EventStatus::Published {
                self.tell(updated(event), job);
            }
        }
        Ok(outcome)
    }

    fn change(
        &mut self,
        id: EventId,
        patch: &EventPatch,
        if_version: Option<i64>,
    ) -> Result<Box<Event>, Refusal> {
        let now = self.now;
        let event = self.event(id)?;
        if if_version.is_some_and(|version| version != event.version) {
            return Err(Refusal::VersionMismatch);
        }
        let event_version = event.version;
        let mut changed = patch.apply(event, now)?;
        let inventory = self.inventory(id)?;
        if let Some(capacity) = patch.capacity {
            inventory.resize(capacity)?;
        }
        if *inventory.rules() != changed.rules {
            inventory.set_rules(changed.rules.clone());
        }
        changed.stock = *inventory.stock();
        if changed.version == event_version {
            return Ok(Box::new(changed));
        }
        if let Some(map) = &patch.seat_map {
            self.maps.insert(id, map.clone());
        }
        Ok(self.keep(changed))
    }

    fn publish(&mut self, id: EventId) -> Result<Box<Event>, Refusal> {
        let now = self.now;
        let mut event = self.event(id)?.clone();
        match event.rules.status {
            EventStatus::Published => return Ok(Box::new(event)),
            EventStatus::Draft => {}
            other => return Err(Refusal::EventNotOpen(other.name())),
        }
        event.rules.status = EventStatus::Published;
        event.version = event.version.saturating_add(1);
        event.updated_at = now;
        let inventory = self.inventory(id)?;
        inventory.set_rules(event.rules.clone());
        inventory.touch();
        event.stock = *inventory.stock();
        Ok(self.keep(event))
    }

    fn cancel_event(&mut self, id: EventId, reason: Option<String>) -> Result<Box<Event>, Refusal> {
        let now = self.now;
        let mut event = self.event(id)?.clone();
        if event.rules.status == EventStatus::Cancelled {
            return Ok(Box::new(event));
        }
        let inventory = self.inventory(id)?;
        inventory.cancel_event()?;
        inventory.touch();
        event.rules = inventory.rules().clone();
        event.stock = *inventory.stock();
        event.cancel_reason = reason;
        event.version = event.version.saturating_add(1);
        event.updated_at = now;
        self.cancelled.insert(id);
        Ok(self.keep(event))
    }

    /// Cancels the loaded chunk of a cancelled event's bookings; answers the last of them, or
    /// nothing when none was left.
    fn close(&mut self, id: EventId) -> Result<Option<BookingId>, Refusal> {
        let chunk = self.batch.closing.remove(&id).unwrap_or_default();
        let inventory = self.inventory(id)?;
        if inventory.rules().status != EventStatus::Cancelled {
            return Err(Refusal::EventNotOpen(inventory.rules().status.name()));
        }
        inventory.close(&chunk);
        if chunk.is_empty() {
            self.closed.push(id);
        }
        Ok(chunk.last().copied())
    }

    fn tell(&mut self, fact: Fact, job: &Job) {
        self.messages.push(NewMessage {
            id: MessageId(self.ids.uuid()),
            fact,
            correlation_id: job.origin.correlation_id.clone(),
            traceparent: job.origin.traceparent.clone(),
            created_at: self.now,
        });
    }

    fn inventory(&mut self, id: EventId) -> Result<&mut Inventory, Refusal> {
        self.batch.inventories.get_mut(&id).ok_or(Refusal::NotFound("event"))
    }

    fn event(&self, id: EventId) -> Result<&Event, Refusal> {
        self.batch.events.get(&id).ok_or(Refusal::NotFound("event"))
    }

    fn keep(&mut self, event: Event) -> Box<Event> {
        self.changed.insert(event.id);
        self.batch.events.insert(event.id, event.clone());
        Box::new(event)
    }

    fn finish(mut self) -> Folded {
        let mut writes = Writes { now: self.now, answers: self.replies, ..Writes::default() };
        let mut aftermath = Vec::new();
        for (id, inventory) in self.batch.inventories {
            let before = inventory.loaded_version();
            let unfinished = inventory.unfinished();
            let (stock, changes) = inventory.finish();
            if stock.version == before {
                continue;
            }
            writes.stocks.push((id, stock));
            aftermath.push(Aftermath {
                event: id,
                versions: (before, stock.version),
                available: stock.available,
                total: stock.capacity,
                freed: changes.freed.clone(),
                taken: changes.taken.iter().map(|(number, _)| *number).collect(),
                queue: changes.queue,
                unfinished,
                cancelled: self.cancelled.contains(&id),
            });
            writes.made.extend(changes.made);
            writes.changed.extend(changes.changed);
            writes.freed.extend(changes.freed.into_iter().map(|number| (id, number)));
            let taken = changes.taken.into_iter().map(|(number, owner)| (id, number, owner));
            writes.taken.extend(taken);
            let ledger = changes.ledger.into_iter();
            writes
                .ledger
                .extend(ledger.map(|line| (id, line.booking_id, line.what.name(), line.why)));
        }
        let events: HashMap<EventId, Event> = std::mem::take(&mut self.batch.events);
        let changed = self.changed;
        let messages = self.messages.len();
        writes.messages = self.messages;
        Folded {
            settled: Settled {
                answers: self.answers,
                aftermath,
                messages,
                unknown: HashSet::new(),
            },
            writes,
            events: events.into_values().filter(|event| changed.contains(&event.id)).collect(),
            maps: self.maps,
            closed: self.closed,
            notes: self.notes,
        }
    }
}

fn updated(event: &Event) -> Fact {
    Fact {
        kind: FactKind::EventUpdated,
        aggregate_id: event.id.0,
        event_id: Some(event.id),
        user_id: None,
        seats: None,
        seat_numbers: Vec::new(),
        booking_id: None,
        invitation: None,
        alert: None,
        alarms: Vec::new(),
    }
}
