//! How an event looks on the wire, and how what organisers send of one is read.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::accounts::unchecked;
use super::problem::Problem;
use super::seat_map_body::{NewSeatMap, SeatMapBody};
use super::time::{self, rfc3339};
use crate::domain::event::{
    Description, Event, EventStatus, MAX_SEATS_DEFAULT, SalesRules, WaitlistPolicy,
};
use crate::domain::event_draft::{self, EventDraft};
use crate::domain::event_patch::EventPatch;
use crate::domain::interest::{InterestCounts, Ratings};
use crate::domain::refusal::{FieldError, FieldErrors, Refusal};
use crate::domain::seat_map::SeatMap;
use crate::domain::text;

/// Who is promoted when the head of the waitlist needs more seats than are free.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitlistBody {
    /// `strict`: nobody is promoted past an earlier party. `bypass`: a party that fits may pass.
    #[schema(example = "strict", pattern = "^(strict|bypass)$")]
    policy: String,
    /// With `bypass`: how often one party may be passed. 0 with `strict`.
    #[schema(minimum = 0, maximum = 1000, default = 3)]
    max_bypass: Option<i64>,
}

/// An event to hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEvent {
    #[schema(required, nullable = false, min_length = 1, max_length = 200)]
    title: Option<String>,
    #[schema(max_length = 20_000)]
    description: Option<String>,
    #[schema(max_length = 200)]
    category: Option<String>,
    #[schema(required, nullable = false, format = "date-time")]
    starts_at: Option<String>,
    /// Without it the event is over a day after its start.
    #[schema(format = "date-time")]
    ends_at: Option<String>,
    #[schema(max_length = 200)]
    venue: Option<String>,
    /// How many seats.
    #[schema(required, nullable = false, minimum = 1, maximum = 1_000_000)]
    capacity: Option<i64>,
    /// `general`: any seat is as good as another. `numbered`: seats are 1 to the capacity.
    #[schema(required, nullable = false, example = "general", pattern = "^(general|numbered)$")]
    seating: Option<String>,
    /// With `numbered` only.
    seat_map: Option<NewSeatMap>,
    #[schema(minimum = 1, maximum = 1000, default = 10)]
    max_seats_per_booking: Option<i64>,
    /// Without it, sales open when the event is published.
    #[schema(format = "date-time")]
    sales_open_at: Option<String>,
    /// Without it, sales close when the event is over.
    #[schema(format = "date-time")]
    sales_close_at: Option<String>,
    /// `strict` without it.
    waitlist: Option<WaitlistBody>,
}

impl NewEvent {
    /// The draft that is meant, with everything that is wrong told at once.
    pub fn parse(self) -> Result<EventDraft, Problem> {
        let mut errors = FieldErrors::default();
        let e = &mut errors;
        let title = required(e, "/title", self.title, |at, raw| line(at, &raw));
        let description = optional(e, "/description", self.description, paragraphs);
        let category = optional(e, "/category", self.category, line);
        let venue = optional(e, "/venue", self.venue, line);
        let starts_at = required(e, "/starts_at", self.starts_at, |at, raw| time::parse(at, &raw));
        let ends_at = optional(e, "/ends_at", self.ends_at, time::parse);
        let sales_open_at = optional(e, "/sales_open_at", self.sales_open_at, time::parse);
        let sales_close_at = optional(e, "/sales_close_at", self.sales_close_at, time::parse);
        let capacity = required(e, "/capacity", self.capacity, event_draft::capacity);
        let seating =
            required(e, "/seating", self.seating, |at, raw| event_draft::seating(at, &raw));
        let max_seats = match self.max_seats_per_booking {
            Some(raw) => e.take(event_draft::max_seats_per_booking("/max_seats_per_booking", raw)),
            None => Some(MAX_SEATS_DEFAULT),
        };
        let policy = match &self.waitlist {
            Some(waitlist) => e.take(waitlist.parse()),
            None => Some(WaitlistPolicy::Strict),
        };
        let seat_map = map(e, self.seat_map);
        errors.check()?;
        let (Some(title), Some(starts_at), Some(capacity), Some(seating)) =
            (title, starts_at, capacity, seating)
        else {
            return Err(unchecked());
        };
        let (Some(max_seats_per_booking), Some(policy)) = (max_seats, policy) else {
            return Err(unchecked());
        };
        Ok(EventDraft {
            description: Description { title, description, category, venue },
            rules: SalesRules {
                status: EventStatus::Draft,
                seating,
                max_seats_per_booking,
                policy,
                sales_open_at,
                sales_close_at,
                starts_at,
                ends_at,
            },
            capacity,
            seat_map,
        })
    }
}

/// What of an event is to be different. What is left out stays; null empties what may be empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct EventChange {
    #[serde(deserialize_with = "given")]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 200)]
    title: Given<String>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 20_000)]
    description: Given<String>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 200)]
    category: Given<String>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 200)]
    venue: Given<String>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = String, required = false, format = "date-time")]
    starts_at: Given<String>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = "date-time")]
    ends_at: Given<String>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = "date-time")]
    sales_open_at: Given<String>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = "date-time")]
    sales_close_at: Given<String>,
    /// Refused below the seats sold; growth serves the waitlist.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = i64, required = false, minimum = 1, maximum = 1_000_000)]
    capacity: Given<i64>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = i64, required = false, minimum = 1, maximum = 1000)]
    max_seats_per_booking: Given<i64>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = WaitlistBody, required = false)]
    waitlist: Given<WaitlistBody>,
    /// Must be sent with a new capacity if the event has a map.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<NewSeatMap>)]
    seat_map: Given<NewSeatMap>,
}

/// `None`: left out. `Some(None)`: null.
type Given<T> = Option<Option<T>>;

fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Given<T>, D::Error> {
    Option::<T>::deserialize(from).map(Some)
}

impl EventChange {
    /// The change that is meant, with everything that is wrong told at once.
    pub fn parse(self) -> Result<EventPatch, Refusal> {
        let mut errors = FieldErrors::default();
        let e = &mut errors;
        let patch = EventPatch {
            title: kept(e, "/title", self.title, |at, raw| line(at, &raw)),
            description: emptied(e, "/description", self.description, paragraphs),
            category: emptied(e, "/category", self.category, line),
            venue: emptied(e, "/venue", self.venue, line),
            starts_at: kept(e, "/starts_at", self.starts_at, |at, raw| time::parse(at, &raw)),
            ends_at: emptied(e, "/ends_at", self.ends_at, time::parse),
            sales_open_at: emptied(e, "/sales_open_at", self.sales_open_at, time::parse),
            sales_close_at: emptied(e, "/sales_close_at", self.sales_close_at, time::parse),
            capacity: kept(e, "/capacity", self.capacity, event_draft::capacity),
            max_seats_per_booking: kept(
                e,
                "/max_seats_per_booking",
                self.max_seats_per_booking,
                event_draft::max_seats_per_booking,
            ),
            policy: kept(e, "/waitlist", self.waitlist, |_, waitlist| waitlist.parse()),
            seat_map: self.seat_map.map(|body| map(e, body)),
        };
        errors.check()?;
        Ok(patch)
    }
}

impl WaitlistBody {
    fn parse(&self) -> Result<WaitlistPolicy, FieldError> {
        event_draft::policy(&self.policy, self.max_bypass)
    }
}

fn line(pointer: &str, raw: &str) -> Result<String, FieldError> {
    text::line(pointer, raw, text::NAME_MAX)
}

fn paragraphs(pointer: &str, raw: &str) -> Result<String, FieldError> {
    text::paragraphs(pointer, raw, text::DESCRIPTION_MAX)
}

fn missing(pointer: &str) -> FieldError {
    FieldError::new(pointer, "required", "must be given")
}

fn required<R, T>(
    errors: &mut FieldErrors,
    pointer: &str,
    raw: Option<R>,
    parse: impl FnOnce(&str, R) -> Result<T, FieldError>,
) -> Option<T> {
    errors.take(raw.ok_or_else(|| missing(pointer)).and_then(|raw| parse(pointer, raw)))
}

fn optional<T>(
    errors: &mut FieldErrors,
    pointer: &str,
    raw: Option<String>,
    parse: impl FnOnce(&str, &str) -> Result<T, FieldError>,
) -> Option<T> {
    raw.and_then(|raw| errors.take(parse(pointer, &raw)))
}

/// A field that may change but not be empty.
fn kept<R, T>(
    errors: &mut FieldErrors,
    pointer: &str,
    raw: Given<R>,
    parse: impl FnOnce(&str, R) -> Result<T, FieldError>,
) -> Option<T> {
    raw.and_then(|raw| required(errors, pointer, raw, parse))
}

/// A field that may change or be emptied.
fn emptied<T>(
    errors: &mut FieldErrors,
    pointer: &str,
    raw: Given<String>,
    parse: impl FnOnce(&str, &str) -> Result<T, FieldError>,
) -> Given<T> {
    raw.map(|raw| optional(errors, pointer, raw, parse))
}

fn map(errors: &mut FieldErrors, body: Option<NewSeatMap>) -> Option<SeatMap> {
    match body.map(NewSeatMap::parse)? {
        Ok(map) => Some(map),
        Err(wrong) => {
            for error in wrong {
                errors.push(error);
            }
            None
        }
    }
}

/// How many people are interested.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct InterestBody {
    /// Will come.
    sure: u32,
    /// May come.
    maybe: u32,
    /// Want to hear of it.
    interested: u32,
}

impl From<InterestCounts> for InterestBody {
    fn from(counts: InterestCounts) -> Self {
        let InterestCounts { sure, maybe, interested } = counts;
        Self { sure, maybe, interested }
    }
}

/// How people rated it.
#[derive(Debug, Serialize, ToSchema)]
pub struct RatingsBody {
    /// How many did.
    count: u32,
    /// From 1 to 5; null while nobody did.
    #[schema(example = 4.5)]
    average: Option<f64>,
}

impl From<Ratings> for RatingsBody {
    fn from(ratings: Ratings) -> Self {
        Self { count: ratings.count, average: ratings.average() }
    }
}

/// An event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventBody {
    id: Uuid,
    organization_id: Uuid,
    title: String,
    description: Option<String>,
    category: Option<String>,
    #[schema(format = "date-time")]
    starts_at: String,
    #[schema(format = "date-time")]
    ends_at: Option<String>,
    venue: Option<String>,
    /// All seats: `available_slots + confirmed_seats + reserved_seats`.
    capacity: u32,
    #[schema(value_type = String, example = "general")]
    seating: &'static str,
    /// With `?include=map`, if the event has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    seat_map: Option<SeatMapBody>,
    has_seat_map: bool,
    max_seats_per_booking: u32,
    #[schema(format = "date-time")]
    sales_open_at: Option<String>,
    #[schema(format = "date-time")]
    sales_close_at: Option<String>,
    waitlist: WaitlistBody,
    /// `draft`, `published`, `cancelled` or `completed`.
    #[schema(value_type = String, example = "published")]
    status: &'static str,
    /// What a newcomer can book now.
    available_slots: u32,
    /// Sold.
    confirmed_seats: u32,
    /// Kept for the waitlist.
    reserved_seats: u32,
    /// Parties that wait.
    waitlist_length: u32,
    /// A moment behind: interests are counted after they are said.
    interest: InterestBody,
    ratings: RatingsBody,
    cancel_reason: Option<String>,
    #[schema(format = "date-time")]
    created_at: String,
    /// Last changed, not by bookings.
    #[schema(format = "date-time")]
    updated_at: String,
    /// The `ETag`: rises with every change that is not a booking.
    version: i64,
}

impl EventBody {
    /// Shows an event.
    pub fn of(event: &Event, map: Option<&SeatMap>) -> Self {
        let Event { description, rules, stock, .. } = event;
        Self {
            id: event.id.0,
            organization_id: event.organization_id.0,
            title: description.title.clone(),
            description: description.description.clone(),
            category: description.category.clone(),
            starts_at: rfc3339(rules.starts_at),
            ends_at: rules.ends_at.map(rfc3339),
            venue: description.venue.clone(),
            capacity: stock.capacity,
            seating: rules.seating.name(),
            seat_map: map.map(SeatMapBody::from),
            has_seat_map: event.has_seat_map,
            max_seats_per_booking: rules.max_seats_per_booking,
            sales_open_at: rules.sales_open_at.map(rfc3339),
            sales_close_at: rules.sales_close_at.map(rfc3339),
            waitlist: WaitlistBody {
                policy: rules.policy.name().to_owned(),
                max_bypass: Some(i64::from(rules.policy.max_bypass())),
            },
            status: rules.status.name(),
            available_slots: stock.available,
            confirmed_seats: stock.confirmed,
            reserved_seats: stock.reserved,
            waitlist_length: stock.waitlist_length,
            interest: event.interest.into(),
            ratings: event.ratings.into(),
            cancel_reason: event.cancel_reason.clone(),
            created_at: rfc3339(event.created_at),
            updated_at: rfc3339(event.updated_at),
            version: event.version,
        }
    }
}
