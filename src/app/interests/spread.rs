//! Telling those whom it concerns that others are interested in an event: at once those who run it
//! and the first followers of its organisation, the others part by part. Each part is a message of
//! its own on the bus, so that many followers are no large transaction.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::count::id;
use super::{CONTINUED, INTEREST_CHANGED};
use crate::app::messages::handle::Message;
use crate::clock::Ids;
use crate::domain::alert::{Crowd, Rumour};
use crate::domain::fact::{Fact, FactKind};
use crate::domain::ids::{AlertId, EventId, MessageId, OrganizationId, UserId};
use crate::domain::interest::{InterestCounts, InterestState};
use crate::domain::message::Lane;
use crate::postgres::alert::{self, NewAlert, Part};
use crate::postgres::outbox::{self, NewMessage, RawMessage};
use crate::postgres::{Conn, DbError};

/// Most people who run an event that are told.
const STAFF_MAX: i64 = 200;
/// How many followers are looked at in one part.
const FOLLOWERS: i64 = 1000;
/// Rows of one statement.
const CHUNK: usize = 1000;

/// Who is newly interested in each event.
pub(super) type Crowds = BTreeMap<EventId, Crowd>;

/// What goes round of an event, and how far it got; with the trace of whoever is named.
pub(super) struct Round {
    part: Part,
    rumour: Rumour,
    correlation_id: String,
    traceparent: Option<String>,
}

impl Round {
    /// Reads how far one got.
    pub(super) fn read(message: &Message) -> Option<Self> {
        let data = &message.data;
        let count = |member| u32::try_from(data.get(member)?.as_u64()?).ok();
        let alert_id = AlertId(id(data, "alertId")?);
        let (sure, maybe, interested) = (count("sure")?, count("maybe")?, count("interested")?);
        Some(Self {
            part: Part {
                event_id: EventId(id(data, "eventId")?),
                organization_id: OrganizationId(id(data, "organizationId")?),
                alert_id,
                after: UserId(id(data, "after")?),
            },
            rumour: Rumour {
                id: alert_id,
                actor: UserId(id(data, "actorId")?),
                next: id(data, "nextActorId").map(UserId),
                states: InterestCounts { sure, maybe, interested },
            },
            correlation_id: message.correlation_id.clone(),
            traceparent: message.traceparent.clone(),
        })
    }

    /// What somebody is told, if there is something.
    fn alert(&self, ids: Ids, user: UserId, own: Option<InterestState>) -> Option<NewAlert> {
        let alert = self.rumour.alert(AlertId(ids.uuid()), user, own)?;
        Some(NewAlert { user_id: user, event_id: self.part.event_id, alert })
    }

    /// How it goes on behind `after`.
    fn rest(&self, (ids, now): (Ids, Timestamp), after: UserId) -> RawMessage {
        let Self { part, rumour, .. } = self;
        let data = json!({
            "eventId": part.event_id.0,
            "organizationId": part.organization_id.0,
            "alertId": rumour.id.0,
            "after": after.0,
            "actorId": rumour.actor.0,
            "nextActorId": rumour.next.map(|id| id.0),
            "sure": rumour.states.sure,
            "maybe": rumour.states.maybe,
            "interested": rumour.states.interested,
        });
        RawMessage {
            id: MessageId(ids.uuid()),
            aggregate_id: part.event_id.0,
            kind: CONTINUED.to_owned(),
            // As it is written above.
            schema_version: 1,
            payload: data.to_string(),
            correlation_id: self.correlation_id.clone(),
            traceparent: self.traceparent.clone(),
            created_at: now,
            lane: Lane::Bus,
        }
    }

    /// What becomes of an alert in the inbox.
    fn message(&self, (ids, now): (Ids, Timestamp), new: &NewAlert) -> NewMessage {
        NewMessage {
            id: MessageId(ids.uuid()),
            fact: Fact {
                kind: FactKind::InterestAlert,
                aggregate_id: new.alert.id.0,
                event_id: Some(new.event_id),
                user_id: Some(new.user_id),
                seats: None,
                seat_numbers: Vec::new(),
                booking_id: None,
                invitation: None,
                alert: Some(new.alert),
                alarms: Vec::new(),
            },
            correlation_id: self.correlation_id.clone(),
            traceparent: self.traceparent.clone(),
            created_at: now,
        }
    }
}

/// What is to go round of these crowds.
///
/// # Errors
/// When PostgreSQL is away.
pub(super) async fn rounds(
    tx: &Conn,
    batch: &[Message],
    crowds: &Crowds,
    alerts: &BTreeMap<EventId, AlertId>,
) -> Result<Vec<Round>, DbError> {
    if crowds.is_empty() {
        return Ok(Vec::new());
    }
    let events: Vec<Uuid> = crowds.keys().map(|event| event.0).collect();
    let organizers = alert::organizers(tx, &events).await?;
    let causes: HashMap<_, &Message> = batch
        .iter()
        .filter(|one| one.kind == INTEREST_CHANGED)
        .filter_map(|one| Some(((id(&one.data, "eventId")?, id(&one.data, "userId")?), one)))
        .collect();
    let round = |(event, crowd): (&EventId, &Crowd)| {
        let alert_id = *alerts.get(event)?;
        let (rumour, organization_id) = (crowd.rumour(alert_id)?, *organizers.get(event)?);
        let cause = causes.get(&(event.0, rumour.actor.0));
        let after = UserId(Uuid::nil());
        Some(Round {
            part: Part { event_id: *event, organization_id, alert_id, after },
            rumour,
            correlation_id: cause
                .map_or_else(|| alert_id.to_string(), |cause| cause.correlation_id.clone()),
            traceparent: cause.and_then(|cause| cause.traceparent.clone()),
        })
    };
    Ok(crowds.iter().filter_map(round).collect())
}

/// Tells those who run the events and the first of the followers; says how many.
///
/// # Errors
/// When PostgreSQL is away.
pub(super) async fn begin(
    tx: &Conn,
    kit: (Ids, Timestamp),
    rounds: &[Round],
    crowds: &Crowds,
) -> Result<usize, DbError> {
    if rounds.is_empty() {
        return Ok(0);
    }
    let events: Vec<_> =
        rounds.iter().map(|one| (one.part.event_id, one.part.organization_id)).collect();
    let of: HashMap<EventId, &Round> = rounds.iter().map(|one| (one.part.event_id, one)).collect();
    let staff = alert::staff(tx, &events, STAFF_MAX).await?;
    let told = staff.into_iter().filter_map(|(event, user)| {
        let (round, crowd) = (*of.get(&event)?, crowds.get(&event)?);
        Some((round, round.alert(kit.0, user, crowd.state_of(user))?))
    });
    let told: Vec<_> = told.collect();
    write(tx, kit, &told).await?;
    Ok(told.len() + go_on(tx, kit, rounds).await?)
}

/// Tells the next of the followers, and leaves a message about those behind them; says how many.
///
/// # Errors
/// When PostgreSQL is away.
pub(super) async fn go_on(
    tx: &Conn,
    kit: (Ids, Timestamp),
    rounds: &[Round],
) -> Result<usize, DbError> {
    if rounds.is_empty() {
        return Ok(0);
    }
    let parts: Vec<Part> = rounds.iter().map(|one| one.part).collect();
    let of: HashMap<AlertId, &Round> = rounds.iter().map(|one| (one.rumour.id, one)).collect();
    let followers = alert::followers(tx, &parts, FOLLOWERS).await?;
    let told = followers.into_iter().filter_map(|(alert, user, own)| {
        let round = *of.get(&alert)?;
        Some((round, round.alert(kit.0, user, own)?))
    });
    let told: Vec<_> = told.collect();
    write(tx, kit, &told).await?;
    let ends = alert::ends(tx, &parts, FOLLOWERS).await?;
    let rests = ends.into_iter().filter_map(|(alert, last)| Some(of.get(&alert)?.rest(kit, last)));
    outbox::append_raw(tx, &rests.collect::<Vec<_>>()).await?;
    Ok(told.len())
}

/// Writes alerts, and what becomes of them in inboxes.
async fn write(
    tx: &Conn,
    kit: (Ids, Timestamp),
    told: &[(&Round, NewAlert)],
) -> Result<(), DbError> {
    for chunk in told.chunks(CHUNK) {
        let alerts: Vec<NewAlert> = chunk.iter().map(|(_, alert)| *alert).collect();
        alert::insert(tx, &alerts, kit.1).await?;
        let messages = chunk.iter().map(|(round, alert)| round.message(kit, alert));
        outbox::append(tx, &messages.collect::<Vec<_>>()).await?;
    }
    Ok(())
}
