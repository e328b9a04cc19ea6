//! An entry of somebody's in-app inbox, and how a fact is told to a person.

use jiff::Timestamp;

use super::alarm::{self, Turn};
use super::alert;
use super::fact::{Fact, FactKind};
use super::ids::{BookingId, EventId, MessageId, NotificationId, UserId};

/// What somebody was told.
#[derive(Clone, Debug)]
pub struct Notification {
    /// Which. Later ones sort after earlier ones.
    pub id: NotificationId,
    /// Whom.
    pub user_id: UserId,
    /// By which message; nobody is told twice of the same one.
    pub message_id: MessageId,
    /// The message's type.
    pub kind: String,
    /// About which event.
    pub event_id: Option<EventId>,
    /// About which booking.
    pub booking_id: Option<BookingId>,
    /// One line.
    pub title: String,
    /// One or two sentences.
    pub body: String,
    /// The details, as JSON.
    pub data: String,
    /// When.
    pub created_at: Timestamp,
    /// When it was read, if it was.
    pub read_at: Option<Timestamp>,
}

/// What those that a fact is about are called, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Called<'a> {
    /// The event.
    pub event: Option<&'a str>,
    /// The organisation.
    pub organization: Option<&'a str>,
    /// Whoever is named in an alert.
    pub actor: Option<&'a str>,
}

/// What the title of an alert begins with.
const INTEREST_IN: &str = "Interest in ";

impl Notification {
    /// The text of an alert without the name in it, for when whoever is named has hidden.
    pub fn nameless(&self, told: &alert::Alert) -> String {
        let event = self.title.strip_prefix(INTEREST_IN).unwrap_or("an event");
        alert::sentence(told, None, event)
    }
}

/// Title and text for a fact.
pub fn compose(fact: &Fact, called: Called<'_>) -> (String, String) {
    let event = called.event.unwrap_or("your event");
    let seats = seats(fact);
    match fact.kind {
        FactKind::BookingConfirmed => (
            format!("Booked: {event}"),
            format!("{} for {event} {}.", capital(&seats), verb(fact, "is yours", "are yours")),
        ),
        FactKind::BookingWaitlisted => (
            format!("On the waitlist: {event}"),
            format!("You are waiting for {seats} for {event}. We tell you when you have a place."),
        ),
        FactKind::WaitlistPromoted => (
            format!("You are in: {event}"),
            format!(
                "Your wait is over: {seats} for {event} {}.",
                verb(fact, "is yours now", "are yours now")
            ),
        ),
        FactKind::BookingCancelled => (
            format!("Cancelled: {event}"),
            format!(
                "{} for {event} {}.",
                capital(&seats),
                verb(fact, "was cancelled", "were cancelled")
            ),
        ),
        FactKind::EventCancelled => (
            format!("{event} is cancelled"),
            format!("{event} will not take place. Your booking is cancelled with it."),
        ),
        FactKind::EventUpdated => (
            format!("{event} has changed"),
            format!("The organiser changed {event}. Please look at its details again."),
        ),
        FactKind::InvitationReceived => {
            let organization = called.organization.unwrap_or("an organisation");
            (
                format!("Invitation to {organization}"),
                format!("You are invited to join {organization}. Accept or decline as you like."),
            )
        }
        FactKind::InterestAlert => {
            let told = |told| alert::sentence(told, called.actor, event);
            let body = fact.alert.as_ref().map_or_else(String::new, told);
            (format!("{INTEREST_IN}{event}"), body)
        }
        FactKind::AlarmOpened => alarm::compose(Turn::Opened, &fact.alarms),
        FactKind::AlarmReminder => alarm::compose(Turn::Reminder, &fact.alarms),
        FactKind::AlarmClosed => alarm::compose(Turn::Closed, &fact.alarms),
    }
}

fn seats(fact: &Fact) -> String {
    if let [one] = fact.seat_numbers.as_slice() {
        return format!("seat {one}");
    }
    if !fact.seat_numbers.is_empty() {
        let shown: Vec<String> = fact.seat_numbers.iter().take(20).map(u32::to_string).collect();
        let more = if fact.seat_numbers.len() > shown.len() { ", …" } else { "" };
        return format!("seats {}{more}", shown.join(", "));
    }
    match fact.seats {
        Some(1) => "1 seat".to_owned(),
        Some(many) => format!("{many} seats"),
        None => "your seats".to_owned(),
    }
}

fn verb<'a>(fact: &Fact, one: &'a str, many: &'a str) -> &'a str {
    let single = fact.seat_numbers.len() == 1 || fact.seats == Some(1);
    if single { one } else { many }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn fact(kind: FactKind, seats: Option<u32>, seat_numbers: &[u32]) -> Fact {
        Fact {
            kind,
            aggregate_id: Uuid::nil(),
            event_id: None,
            user_id: None,
            seats,
            seat_numbers: seat_numbers.to_vec(),
            booking_id: None,
            invitation: None,
            alert: None,
            alarms: Vec::new(),
        }
    }

    #[test]
    fn says_how_many_or_which_seats() {
        let text = |seats, numbers: &[u32]| {
            let called = Called { event: Some("Jazz"), ..Called::default() };
            compose(&fact(FactKind::BookingConfirmed, seats, numbers), called).1
        };
        assert_eq!(text(Some(1), &[]), "1 seat for Jazz is yours.");
        assert_eq!(text(Some(2), &[]), "2 seats for Jazz are yours.");
        assert_eq!(text(Some(2), &[4, 5]), "Seats 4, 5 for Jazz are yours.");
        assert_eq!(text(Some(1), &[4]), "Seat 4 for Jazz is yours.");
        assert_eq!(text(None, &[]), "Your seats for Jazz are yours.");
    }
}
