//! What happened, and whom to tell. Each fact becomes one outbox row in the transaction of its
//! cause; the payload of the documented message types is fixed (S4.25 to S4.35).

use uuid::Uuid;

use super::alarm::{Alarm, Turn};
use super::alert::Alert;
use super::ids::{BookingId, EventId, InvitationId, OrganizationId, UserId};

/// The documented message types (S4.30 to S4.35; `event_updated`, `interest_alert` and
/// those about alarms by decision).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FactKind {
    /// Seats are theirs.
    BookingConfirmed,
    /// They wait.
    BookingWaitlisted,
    /// They waited, and now seats are theirs.
    WaitlistPromoted,
    /// Their booking, or a part of it, is cancelled.
    BookingCancelled,
    /// The event will not take place.
    EventCancelled,
    /// The event changed.
    EventUpdated,
    /// They are asked to join an organisation.
    InvitationReceived,
    /// Others are interested in an event that they run or are interested in themselves.
    InterestAlert,
    /// Something is wrong with the instance that they run.
    AlarmOpened,
    /// It still is.
    AlarmReminder,
    /// It is over.
    AlarmClosed,
}

impl FactKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::BookingConfirmed,
        Self::BookingWaitlisted,
        Self::WaitlistPromoted,
        Self::BookingCancelled,
        Self::EventCancelled,
        Self::EventUpdated,
        Self::InvitationReceived,
        Self::InterestAlert,
        Self::AlarmOpened,
        Self::AlarmReminder,
        Self::AlarmClosed,
    ];

    /// The `type` on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::BookingConfirmed => "booking_confirmed",
            Self::BookingWaitlisted => "booking_waitlisted",
            Self::WaitlistPromoted => "waitlist_promoted",
            Self::BookingCancelled => "booking_cancelled",
            Self::EventCancelled => "event_cancelled",
            Self::EventUpdated => "event_updated",
            Self::InvitationReceived => "invitation_received",
            Self::InterestAlert => "interest_alert",
            Self::AlarmOpened => "alarm_opened",
            Self::AlarmReminder => "alarm_reminder",
            Self::AlarmClosed => "alarm_closed",
        }
    }

    /// The type that tells of alarms that took this turn.
    pub fn of_alarms(turn: Turn) -> Self {
        match turn {
            Turn::Opened => Self::AlarmOpened,
            Turn::Reminder => Self::AlarmReminder,
            Turn::Closed => Self::AlarmClosed,
        }
    }

    /// The turn that it tells of, if it is one of those about alarms.
    pub fn turn(self) -> Option<Turn> {
        match self {
            Self::AlarmOpened => Some(Turn::Opened),
            Self::AlarmReminder => Some(Turn::Reminder),
            Self::AlarmClosed => Some(Turn::Closed),
            _ => None,
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Something that happened and that somebody is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What happened.
    pub kind: FactKind,
    /// Order is kept among facts of one aggregate: the booking, else the event or invitation.
    pub aggregate_id: Uuid,
    /// To which event.
    pub event_id: Option<EventId>,
    /// Whom to tell. `None` with [`FactKind::EventUpdated`]: everybody who booked.
    pub user_id: Option<UserId>,
    /// How many seats it is about.
    pub seats: Option<u32>,
    /// Which seats, if they are numbered.
    pub seat_numbers: Vec<u32>,
    /// Which booking.
    pub booking_id: Option<BookingId>,
    /// Which invitation, into which organisation.
    pub invitation: Option<(InvitationId, OrganizationId)>,
    /// Who is interested, with [`FactKind::InterestAlert`].
    pub alert: Option<Alert>,
    /// What is wrong, with those about alarms; else empty.
    pub alarms: Vec<Alarm>,
}
