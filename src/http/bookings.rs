//! Bookings: book, read, give back. `POST /bookings` is the hottest path there is: it goes from
//! the parsed body to the desk without asking anybody anything.

use actix_web::{HttpResponse, get, post, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::accounts::unchecked;
use super::body::{Body, MaybeBody};
use super::booking_lists;
use super::caller::{Authorized, ReadBookings, WriteBookings};
use super::page::{PageBody, PageQuery};
use super::problem::Problem;
use super::query::Query;
use super::reply::{self, IdempotencyKey};
use super::time::rfc3339;
use super::trace::Traced;
use crate::app::App;
use crate::app::bookings::desk::Outcome;
use crate::app::bookings::{book, cancel, get, list, waitlist};
use crate::app::once::Reply;
use crate::domain::booking::{Booking, BookingStatus, Part, Party};
use crate::domain::event::{CAPACITY_MAX, MAX_SEATS_MAX};
use crate::domain::ids::{BookingId, EventId};
use crate::domain::refusal::{FieldError, FieldErrors, Refusal};

/// Longest hold token, in bytes.
const HOLD_TOKEN_MAX: usize = 255;

/// Everything about bookings.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(booked).service(own).service(got).service(cancelled).service(waiting);
    booking_lists::routes(cfg);
}

/// Seats to book: either how many, or which.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewBooking {
    event_id: Uuid,
    /// How many. The event may allow fewer.
    #[schema(minimum = 1, maximum = 1000)]
    seats: Option<i64>,
    /// Which, each once; of an event with numbered seats.
    #[schema(min_items = 1, max_items = 1000)]
    seat_numbers: Option<Vec<i64>>,
    /// The hold that these seats are booked from.
    #[schema(max_length = 255)]
    hold_token: Option<String>,
    /// Whether to wait if there are too few seats; else it is refused with `sold_out`.
    #[schema(default = true)]
    waitlist: Option<bool>,
}

/// What to give back; all of it if nothing is said.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BookingCancellation {
    /// So many; of numbered seats those with the highest numbers.
    #[schema(minimum = 1, maximum = 1000)]
    seats: Option<i64>,
    /// These.
    #[schema(min_items = 1, max_items = 1000)]
    seat_numbers: Option<Vec<i64>>,
}

/// A party's seats, or its place in the waitlist.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BookingBody<'a> {
    id: Uuid,
    event_id: Uuid,
    user_id: Uuid,
    /// `confirmed`, `waitlisted` or `cancelled`.
    #[schema(value_type = String, example = "confirmed")]
    status: &'static str,
    /// Seats it has or waits for; once cancelled, those it had last.
    seats: u32,
    /// Ascending; empty with general seating and while waiting.
    seat_numbers: &'a [u32],
    /// Its place in the waitlist if it ever waited; later parties have higher numbers.
    waiting_number: Option<i64>,
    /// Seats given back while the rest was kept.
    cancelled_seats: u32,
    #[schema(format = "date-time")]
    created_at: String,
}

impl<'a> BookingBody<'a> {
    pub(super) fn of(booking: &'a Booking) -> Self {
        Self {
            id: booking.id.0,
            event_id: booking.event_id.0,
            user_id: booking.user_id.0,
            status: booking.status.name(),
            seats: booking.seats,
            seat_numbers: &booking.seat_numbers,
            waiting_number: booking.waiting_number,
            cancelled_seats: booking.cancelled_seats,
            created_at: rfc3339(booking.created_at),
        }
    }
}

/// Which bookings are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct BookingsQuery {
    /// `confirmed`, `waitlisted` or `cancelled`; all without it.
    #[param(example = "confirmed")]
    status: Option<String>,
}

impl BookingsQuery {
    pub(super) fn status(&self, errors: &mut FieldErrors) -> Option<BookingStatus> {
        let wrong = || {
            let detail = "must be confirmed, waitlisted or cancelled";
            FieldError::new("/status", "unknown_status", detail)
        };
        let raw = self.status.as_deref()?;
        errors.take(BookingStatus::parse(raw).ok_or_else(wrong))
    }
}

/// A party and the queue.
#[derive(Debug, Serialize, ToSchema)]
struct WaitlistStandingBody {
    /// 1 is the head; null when it does not wait.
    position: Option<u32>,
    parties_ahead: Option<u32>,
    /// Seats that those ask for together.
    seats_ahead: Option<u32>,
    /// Why it waits, or why not, for people.
    reason: String,
    /// What was decided about it, oldest first.
    history: Vec<DecisionBody>,
}

/// A decision about a waiting party.
#[derive(Debug, Serialize, ToSchema)]
struct DecisionBody {
    #[schema(format = "date-time")]
    at: String,
    /// `joined`, `promoted`, `bypassed`, `parked`, `skipped`, `reduced` or `left`.
    what: String,
    why: String,
}

/// Books seats, or joins the waitlist.
#[utoipa::path(tag = "bookings", request_body = NewBooking,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 201, description = "Confirmed or waitlisted", body = BookingBody<'static>,
               headers(("Location" = String)))))]
#[post("/bookings")]
async fn booked(
    authorized: Authorized<WriteBookings>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    body: Body<NewBooking>,
) -> Result<HttpResponse, Problem> {
    let (wish, caller) = (body.read()?.parse()?, &authorized.caller);
    let once = key.submission(caller.user_id.0, &body.bytes).map(|one| (one, BOOKED));
    let answer = book::book(&app, caller, &origin, wish, once).await?;
    Ok(reply::answer(answer, new))
}

/// The caller's bookings, newest first.
#[utoipa::path(tag = "bookings", params(BookingsQuery, PageQuery),
    responses((status = 200, description = "A page of bookings",
               body = PageBody<BookingBody<'static>>)))]
#[get("/me/bookings")]
async fn own(
    authorized: Authorized<ReadBookings>,
    app: web::Data<App>,
    query: Query<BookingsQuery>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let mut errors = FieldErrors::default();
    let status = query.status(&mut errors);
    let limit = page.limit(&mut errors);
    let before = page.after(&mut errors, |key| key.parse().ok());
    errors.check()?;
    let page = list::own(&app, &authorized.caller, status, before, limit).await?;
    let body = PageBody {
        items: page.items.iter().map(BookingBody::of).collect(),
        next_cursor: page.next.map(super::page::cursor),
    };
    Ok(reply::send(reply::ok(&body)))
}

/// One booking, to its owner, the event's organizers and admins.
#[utoipa::path(tag = "bookings",
    params(("id" = Uuid, Path, description = "Which booking")),
    responses((status = 200, description = "The booking", body = BookingBody<'static>)))]
#[get("/bookings/{id}")]
async fn got(
    authorized: Authorized<ReadBookings>,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let booking = get::get(&app, &authorized.caller, BookingId(id.into_inner())).await?;
    Ok(reply::send(now(&booking)))
}

/// Gives a booking back, or a part of it. Freed seats go to the waitlist in the same commit.
#[utoipa::path(tag = "bookings", request_body = Option<BookingCancellation>,
    params(("id" = Uuid, Path, description = "Which booking"),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 200, description = "The booking as it is now",
               body = BookingBody<'static>)))]
#[post("/bookings/{id}/cancel")]
async fn cancelled(
    authorized: Authorized<WriteBookings>,
    key: IdempotencyKey,
    Traced(origin): Traced,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    body: MaybeBody<BookingCancellation>,
) -> Result<HttpResponse, Problem> {
    let (id, caller) = (BookingId(id.into_inner()), &authorized.caller);
    let once = key.submission(caller.user_id.0, &body.bytes).map(|one| (one, CANCELLED));
    let part = body.read()?.parse()?;
    let answer = cancel::cancel(&app, caller, &origin, id, part, once).await?;
    Ok(reply::answer(answer, now))
}

/// Where a booking stands in the waitlist, and what was decided about it.
#[utoipa::path(tag = "bookings",
    params(("id" = Uuid, Path, description = "Which booking")),
    responses((status = 200, description = "Its place, the reason, and the history",
               body = WaitlistStandingBody)))]
#[get("/bookings/{id}/waitlist")]
async fn waiting(
    authorized: Authorized<ReadBookings>,
    app: web::Data<App>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let id = BookingId(id.into_inner());
    let found = waitlist::waitlist(&app, &authorized.caller, id).await?;
    let standing = found.standing.as_ref();
    let body = WaitlistStandingBody {
        position: standing.map(|standing| standing.position),
        parties_ahead: standing.map(|standing| standing.parties_ahead),
        seats_ahead: standing.map(|standing| standing.seats_ahead),
        reason: found.reason,
        history: found
            .history
            .into_iter()
            .map(|entry| DecisionBody { at: rfc3339(entry.at), what: entry.what, why: entry.why })
            .collect(),
    };
    Ok(reply::send(reply::ok(&body)))
}

impl NewBooking {
    fn parse(self) -> Result<book::Wish, Problem> {
        let mut errors = FieldErrors::default();
        let party = match party(self.seats, self.seat_numbers, &mut errors) {
            None => {
                let detail = "must be given, or seat_numbers instead";
                errors.push(FieldError::new("/seats", "required", detail));
                None
            }
            party => party,
        };
        if let Some(token) = &self.hold_token {
            if token.is_empty() || token.len() > HOLD_TOKEN_MAX {
                let detail = format!("must be 1 to {HOLD_TOKEN_MAX} bytes");
                errors.push(FieldError::new("/hold_token", "out_of_range", detail));
            } else if matches!(party, Some(Party::Seats(_))) {
                let detail = "goes with seat_numbers only";
                errors.push(FieldError::new("/hold_token", "not_numbered", detail));
            }
        }
        errors.check()?;
        Ok(book::Wish {
            event: EventId(self.event_id),
            party: party.ok_or_else(unchecked)?,
            hold_token: self.hold_token,
            waitlist: self.waitlist.unwrap_or(true),
        })
    }
}

impl BookingCancellation {
    fn parse(self) -> Result<Part, Refusal> {
        let mut errors = FieldErrors::default();
        let party = party(self.seats, self.seat_numbers, &mut errors);
        errors.check()?;
        Ok(match party {
            None => Part::Whole,
            Some(Party::Seats(seats)) => Part::Seats(seats),
            Some(Party::Numbered(numbers)) => Part::Numbered(numbers),
        })
    }
}

/// The seats that are meant; `None` if nothing was said. After an error it is some value or other.
fn party(seats: Option<i64>, numbers: Option<Vec<i64>>, errors: &mut FieldErrors) -> Option<Party> {
    match (seats, numbers) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            let detail = "cannot be given together with seats";
            errors.push(FieldError::new("/seat_numbers", "exclusive", detail));
            Some(Party::Seats(0))
        }
        (Some(raw), None) => Some(Party::Seats(within("/seats", raw, MAX_SEATS_MAX, errors))),
        (None, Some(raw)) => Some(Party::Numbered(seat_numbers(&raw, errors))),
    }
}

pub(super) fn seat_numbers(raw: &[i64], errors: &mut FieldErrors) -> Vec<u32> {
    let most = usize::try_from(MAX_SEATS_MAX).unwrap_or(usize::MAX);
    if raw.is_empty() || raw.len() > most {
        let detail = format!("must name 1 to {MAX_SEATS_MAX} seats");
        errors.push(FieldError::new("/seat_numbers", "out_of_range", detail));
        return Vec::new();
    }
    let mut numbers = Vec::with_capacity(raw.len());
    for (index, number) in raw.iter().enumerate() {
        match u32::try_from(*number) {
            Ok(number) if (1..=CAPACITY_MAX).contains(&number) => numbers.push(number),
            _ => {
                let pointer = format!("/seat_numbers/{index}");
                let detail = format!("must be 1 to {CAPACITY_MAX}");
                errors.push(FieldError::new(&pointer, "out_of_range", detail));
            }
        }
    }
    numbers.sort_unstable();
    let twice = numbers.windows(2).find_map(|pair| match pair {
        [first, second] if first == second => Some(*first),
        _ => None,
    });
    if let Some(number) = twice {
        let detail = format!("names seat {number} twice");
        errors.push(FieldError::new("/seat_numbers", "duplicate", detail));
    }
    numbers
}

pub(super) fn within(pointer: &str, raw: i64, max: u32, errors: &mut FieldErrors) -> u32 {
    match u32::try_from(raw) {
        Ok(value) if (1..=max).contains(&value) => value,
        _ => {
            errors.push(FieldError::new(pointer, "out_of_range", format!("must be 1 to {max}")));
            0
        }
    }
}

/// How the desk remembers what was answered.
const BOOKED: fn(&Result<Outcome, Refusal>) -> Reply = |outcome| rendered(outcome, new);
const CANCELLED: fn(&Result<Outcome, Refusal>) -> Reply = |outcome| rendered(outcome, now);

fn rendered(outcome: &Result<Outcome, Refusal>, render: fn(&Booking) -> Reply) -> Reply {
    match outcome {
        Ok(Outcome::Booking(booking)) => render(booking),
        Ok(_) => reply::ok(&()),
        Err(refusal) => Problem::reply(refusal),
    }
}

fn new(booking: &Booking) -> Reply {
    reply::created(format!("/api/v1/bookings/{}", booking.id), &BookingBody::of(booking))
}

fn now(booking: &Booking) -> Reply {
    reply::ok(&BookingBody::of(booking))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<book::Wish, Vec<String>> {
        let body: NewBooking = serde_json::from_str(body).unwrap();
        body.parse().map_err(|problem| match problem {
            Problem::Refused(Refusal::Invalid(errors)) => errors
                .into_iter()
                .map(|error| format!("{} {}", error.pointer, error.code))
                .collect(),
            other => panic!("{other:?}"),
        })
    }

    fn with(rest: &str) -> String {
        format!("{{\"event_id\":\"018f8f8f-0000-7000-8000-000000000000\",{rest}}}")
    }

    #[test]
    fn says_how_many_or_which() {
        let wish = parse(&with("\"seats\":2")).unwrap();
        assert_eq!((wish.party, wish.waitlist), (Party::Seats(2), true));
        let wish = parse(&with("\"seat_numbers\":[9,3],\"waitlist\":false")).unwrap();
        assert_eq!((wish.party, wish.waitlist), (Party::Numbered(vec![3, 9]), false));
    }

    #[test]
    fn names_what_is_wrong() {
        for (rest, wrong) in [
            ("\"waitlist\":true", "/seats required"),
            ("\"seats\":0", "/seats out_of_range"),
            ("\"seats\":-1", "/seats out_of_range"),
            ("\"seats\":2147483648", "/seats out_of_range"),
            ("\"seats\":1,\"seat_numbers\":[1]", "/seat_numbers exclusive"),
            ("\"seat_numbers\":[]", "/seat_numbers out_of_range"),
            ("\"seat_numbers\":[4,0]", "/seat_numbers/1 out_of_range"),
            ("\"seat_numbers\":[4,1000001]", "/seat_numbers/1 out_of_range"),
            ("\"seat_numbers\":[4,5,4]", "/seat_numbers duplicate"),
            ("\"seats\":1,\"hold_token\":\"t\"", "/hold_token not_numbered"),
        ] {
            assert_eq!(parse(&with(rest)).unwrap_err(), [wrong], "{rest}");
        }
    }
}
