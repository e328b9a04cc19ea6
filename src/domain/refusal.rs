//! Every reason we say no. A refusal is data with a stable code, not a fault: nothing is broken,
//! nothing was changed, and the caller can act on it.

use super::hold::HoldLimit;

/// One thing wrong with one field of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// A JSON pointer (RFC 6901) to the field, e.g. `/waitlist/policy`.
    pub pointer: String,
    /// Stable and `snake_case`: `required`, `too_long`, `out_of_range`, …
    pub code: &'static str,
    /// What is wrong, for people.
    pub detail: String,
}

impl FieldError {
    /// Names a field and what is wrong with it.
    pub fn new(pointer: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.to_owned(), code, detail: detail.into() }
    }
}

/// Gathers everything that is wrong, so that it can be told at once.
#[derive(Debug, Default)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Keeps a good value, or notes what is wrong with it.
    pub fn take<T>(&mut self, parsed: Result<T, FieldError>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(error) => {
                self.0.push(error);
                None
            }
        }
    }

    /// Notes one more thing that is wrong.
    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// Refuses if anything is wrong.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with everything noted so far.
    pub fn check(self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(Refusal::Invalid(self.0)) }
    }
}

/// Every reason we say no. `http/problem.rs` gives each its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The input breaks rules that its shape does not show.
    Invalid(Vec<FieldError>),
    /// Nobody, or nobody we know, is asking.
    Unauthenticated,
    /// E-mail address and password do not belong together.
    WrongCredentials,
    /// The refresh token is unknown, used, revoked or expired.
    BadRefreshToken,
    /// The caller may see this but not do it; says what is missing.
    Forbidden(&'static str),
    /// The named thing does not exist, or the caller may not know of it.
    NotFound(&'static str),
    /// Another account has this e-mail address.
    EmailTaken,
    /// Another organisation has this slug.
    SlugTaken,
    /// The person already belongs to the organisation.
    AlreadyMember,
    /// An invitation for this address is open.
    AlreadyInvited,
    /// The invitation was answered or has expired.
    InvitationClosed,
    /// An organisation must keep one owner.
    LastOwner,
    /// The resource changed since the version the caller named (`If-Match`).
    VersionMismatch,
    /// The event's status does not allow this; says what it is.
    EventNotOpen(&'static str),
    /// Sales have not opened yet, or have closed.
    SalesClosed,
    /// The capacity cannot fall below the seats already sold.
    CapacityBelowConfirmed {
        /// Seats sold now.
        confirmed: u32,
    },
    /// A numbered event cannot lose seats that are sold; these are above the new capacity.
    SeatsAboveCapacity(Vec<u32>),
    /// Not enough free seats, and the caller would not wait.
    SoldOut,
    /// Some of the wanted seats are sold or held by somebody else.
    SeatsUnavailable(Vec<u32>),
    /// The hold token expired, was lost, or does not own the seats.
    HoldExpired,
    /// So many seats may not be held at once.
    HoldLimit(HoldLimit),
    /// The hold was renewed as often, or is as old, as it may be.
    RenewalsExhausted,
    /// The booking is cancelled.
    BookingCancelled,
    /// The booking is not in the waitlist.
    NotWaiting,
    /// The same idempotency key came with another body.
    IdempotencyMismatch,
    /// The same idempotency key is being worked on.
    RequestInFlight,
    /// The dead letter was already sent again or dropped.
    AlreadyRedriven,
    /// No message type has this name.
    UnknownType,
    /// This publisher may not publish messages of this type.
    PublisherNotAllowed,
    /// A message's data is larger than so many bytes.
    MessageTooLarge {
        /// The limit.
        max: usize,
    },
    /// This person, or this address, has too many open sockets.
    TooManySockets,
    /// This socket watches too many events.
    TooManyRooms,
}

impl Refusal {
    /// One invalid field.
    pub fn invalid(pointer: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, code, detail)])
    }

    /// The stable code that clients switch on; also the last part of the problem's type.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::WrongCredentials => "wrong_credentials",
            Self::BadRefreshToken => "bad_refresh_token",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::EmailTaken => "email_taken",
            Self::SlugTaken => "slug_taken",
            Self::AlreadyMember => "already_member",
            Self::AlreadyInvited => "already_invited",
            Self::InvitationClosed => "invitation_closed",
            Self::LastOwner => "last_owner",
            Self::VersionMismatch => "version_mismatch",
            Self::EventNotOpen(_) => "event_not_open",
            Self::SalesClosed => "sales_closed",
            Self::CapacityBelowConfirmed { .. } => "capacity_below_confirmed",
            Self::SeatsAboveCapacity(_) => "seats_above_capacity",
            Self::SoldOut => "sold_out",
            Self::SeatsUnavailable(_) => "seats_unavailable",
            Self::HoldExpired => "hold_expired",
            Self::HoldLimit(HoldLimit::User) => "hold_limit_user",
            Self::HoldLimit(HoldLimit::Address) => "hold_limit_address",
            Self::HoldLimit(HoldLimit::Event) => "hold_limit_event",
            Self::RenewalsExhausted => "renewals_exhausted",
            Self::BookingCancelled => "booking_cancelled",
            Self::NotWaiting => "not_waiting",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::RequestInFlight => "request_in_flight",
            Self::AlreadyRedriven => "already_redriven",
            Self::UnknownType => "unknown_type",
            Self::PublisherNotAllowed => "publisher_not_allowed",
            Self::MessageTooLarge { .. } => "message_too_large",
            Self::TooManySockets => "too_many_sockets",
            Self::TooManyRooms => "too_many_rooms",
        }
    }
}
