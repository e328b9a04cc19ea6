//! One type per noun, so that an event's id cannot be passed for a booking's.

use std::fmt;

use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )+};
}

ids!(
    /// A person with an account.
    UserId,
    /// A key that stands for a person, with scopes.
    ApiKeyId,
    /// An organisation that holds events.
    OrganizationId,
    /// An invitation into an organisation.
    InvitationId,
    /// Something that people attend.
    EventId,
    /// A party's seats, or its place in the waitlist.
    BookingId,
    /// A fact on its way to its consumers: the outbox id, `revision` in `processed_events`.
    MessageId,
    /// An entry of somebody's in-app inbox.
    NotificationId,
    /// An alert in somebody's list.
    AlertId,
    /// Something that somebody was woken for.
    AlarmId,
    /// A message that could not be published or processed.
    DeadLetterId,
    /// A job that sends many of those again.
    RedriveId,
);
