//! Who booked an event and who waits for seats, for its organisers: as pages of JSON, or all of it
//! as CSV, read and sent in bounded pieces.

use std::fmt::Write as _;

use actix_web::http::header;
use actix_web::{Error, HttpRequest, HttpResponse, get, web};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::bookings::{BookingBody, BookingsQuery};
use super::caller::{Authorized, ReadEvents};
use super::page::{PageBody, PageQuery, cursor};
use super::problem::Problem;
use super::query::Query;
use super::reply;
use super::time::rfc3339;
use crate::app::bookings::list::{self, Access};
use crate::app::{self, App, Page};
use crate::domain::booking::{Booking, BookingStatus};
use crate::domain::ids::EventId;
use crate::domain::refusal::FieldErrors;

/// Rows of CSV read and sent at once.
const CSV_CHUNK: i64 = 500;

/// The routes.
pub fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(bookings).service(queue);
}

/// A booking, and what its owner is called.
#[derive(Debug, Serialize, ToSchema)]
struct NamedBookingBody<'a> {
    #[serde(flatten)]
    booking: BookingBody<'a>,
    user_name: &'a str,
}

/// A place in the queue, and who has it.
#[derive(Debug, Serialize, ToSchema)]
struct QueuePlaceBody<'a> {
    /// 1 is the head.
    position: u32,
    #[serde(flatten)]
    booking: NamedBookingBody<'a>,
}

/// Who booked the event, oldest first; its organizers may see. With `Accept: text/csv` all of it
/// as CSV.
#[utoipa::path(tag = "bookings",
    params(("id" = Uuid, Path, description = "Which event"), BookingsQuery, PageQuery),
    responses((status = 200, description = "A page of bookings, or all of them as CSV", content(
        (PageBody<NamedBookingBody<'static>> = "application/json"), (String = "text/csv")))))]
#[get("/events/{id}/bookings")]
async fn bookings(
    authorized: Authorized<ReadEvents>,
    request: HttpRequest,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    query: Query<BookingsQuery>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let mut errors = FieldErrors::default();
    let status = query.status(&mut errors);
    let limit = page.limit(&mut errors);
    let after = page.after(&mut errors, |key| key.parse().ok());
    errors.check()?;
    let id = EventId(id.into_inner());
    let access = list::access(&app, &authorized.caller, id).await?;
    if wants_csv(&request) {
        return csv(&app, Listing::Bookings(access, status), "bookings", id).await;
    }
    let page = list::of_event(&app, access, status, after, limit).await?;
    let items = page.items.iter().map(|(booking, name)| named(booking, name));
    let body = PageBody { items: items.collect(), next_cursor: page.next.map(cursor) };
    Ok(reply::send(reply::ok(&body)))
}

/// Who waits for seats, first in line first; the event's organizers may see. With
/// `Accept: text/csv` all of it as CSV.
#[utoipa::path(tag = "bookings",
    params(("id" = Uuid, Path, description = "Which event"), PageQuery),
    responses((status = 200, description = "A page of the queue, or all of it as CSV", content(
        (PageBody<QueuePlaceBody<'static>> = "application/json"), (String = "text/csv")))))]
#[get("/events/{id}/waitlist")]
async fn queue(
    authorized: Authorized<ReadEvents>,
    request: HttpRequest,
    app: web::Data<App>,
    id: web::Path<Uuid>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let mut errors = FieldErrors::default();
    let limit = page.limit(&mut errors);
    let after = page.after(&mut errors, |key| key.parse().ok());
    errors.check()?;
    let id = EventId(id.into_inner());
    let access = list::access(&app, &authorized.caller, id).await?;
    if wants_csv(&request) {
        return csv(&app, Listing::Queue(access), "waitlist", id).await;
    }
    let page = list::queue(&app, access, after, limit).await?;
    let items = page.items.iter().map(|(position, (booking, name))| QueuePlaceBody {
        position: *position,
        booking: named(booking, name),
    });
    let body = PageBody { items: items.collect(), next_cursor: page.next.map(cursor) };
    Ok(reply::send(reply::ok(&body)))
}

fn named<'a>(booking: &'a Booking, user_name: &'a str) -> NamedBookingBody<'a> {
    NamedBookingBody { booking: BookingBody::of(booking), user_name }
}

/// Whether the caller names CSV among what they accept.
fn wants_csv(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.unwrap_or_default().split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let csv = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("text/csv"));
        csv && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// A list that is wanted as CSV.
#[derive(Clone, Copy)]
enum Listing {
    Bookings(Access, Option<BookingStatus>),
    Queue(Access),
}

/// The next piece of the list, and from where the one after it goes on.
type Piece = (String, Option<String>);

impl Listing {
    fn head(self) -> &'static str {
        match self {
            Self::Bookings(..) => {
                "booking_id,user_id,user_name,status,seats,cancelled_seats,seat_numbers,\
                 waiting_number,created_at\r\n"
            }
            Self::Queue(_) => {
                "position,booking_id,user_id,user_name,status,seats,cancelled_seats,seat_numbers,\
                 waiting_number,created_at\r\n"
            }
        }
    }

    async fn piece(self, app: &App, after: Option<&str>) -> app::Result<Piece> {
        let mut csv = String::new();
        let next = match self {
            Self::Bookings(access, status) => {
                let after = after.and_then(|key| key.parse().ok());
                let page = list::of_event(app, access, status, after, CSV_CHUNK).await?;
                let Page { items, next } = page;
                for (booking, name) in &items {
                    row(&mut csv, booking, name);
                }
                next
            }
            Self::Queue(access) => {
                let after = after.and_then(|key| key.parse().ok());
                let Page { items, next } = list::queue(app, access, after, CSV_CHUNK).await?;
                for (position, (booking, name)) in &items {
                    let _ = write!(csv, "{position},");
                    row(&mut csv, booking, name);
                }
                next
            }
        };
        Ok((csv, next))
    }
}

/// Sends the whole list. The first piece is read before anything is sent, so that what goes wrong
/// can still be told; later, an error breaks the answer off.
async fn csv(
    app: &App,
    listing: Listing,
    name: &str,
    event: EventId,
) -> Result<HttpResponse, Problem> {
    let (first, next) = listing.piece(app, None).await?;
    let first = Bytes::from(format!("{}{first}", listing.head()));
    let app = app.clone();
    let rest = stream::unfold((app, next), move |(app, next)| async move {
        let after = next?;
        Some(match listing.piece(&app, Some(&after)).await {
            Ok((piece, next)) => (Ok(Bytes::from(piece)), (app, next)),
            Err(error) => {
                let problem = Problem::from(error);
                (Err(Error::from(problem)), (app, None))
            }
        })
    });
    let all = futures_util::StreamExt::chain(stream::iter([Ok(first)]), rest);
    let disposition = format!("attachment; filename=\"{name}-{event}.csv\"");
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"))
        .insert_header((header::CONTENT_DISPOSITION, disposition))
        .streaming(all))
}

/// A line of CSV (RFC 4180).
fn row(csv: &mut String, booking: &Booking, name: &str) {
    let Booking { id, user_id, status, seats, cancelled_seats, .. } = booking;
    let numbers: Vec<String> = booking.seat_numbers.iter().map(u32::to_string).collect();
    let waiting = booking.waiting_number.map(|number| number.to_string()).unwrap_or_default();
    let (name, numbers) = (quoted(name), numbers.join(" "));
    let (status, created_at) = (status.name(), rfc3339(booking.created_at));
    let _ = write!(
        csv,
        "{id},{user_id},{name},{status},{seats},{cancelled_seats},{numbers},{waiting},\
         {created_at}\r\n"
    );
}

/// Text that somebody chose: quoted, and never taken for a formula by a spreadsheet.
fn quoted(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    format!("\"{}{}\"", if formula { "'" } else { "" }, text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(quoted("Ana"), "\"Ana\"");
        assert_eq!(quoted("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
        for start in ["+1", "-1", "@a", "\ta", "\ra"] {
            assert!(quoted(start).starts_with("\"'"), "{start:?}");
        }
    }

    #[test]
    fn csv_is_sent_to_who_asks_for_it() {
        for (accept, csv) in [
            ("text/csv", true),
            ("application/json, text/csv;q=0.5", true),
            ("TEXT/CSV; header=present", true),
            ("text/csv;q=0", false),
            ("*/*", false),
            ("application/json", false),
        ] {
            let request = TestRequest::default().insert_header(("accept", accept));
            assert_eq!(wants_csv(&request.to_http_request()), csv, "{accept}");
        }
    }
}
