//! What a newcomer finds: four people, an organisation, and two events on sale.

use jiff::civil::time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::accounts::provision;
use super::accounts::register::NewUser;
use super::once::transaction;
use super::{App, Error, Result};
use crate::domain::account::{DEMO_PASSWORD, User, UserRole};
use crate::domain::event::{
    Description, EventStatus, MAX_SEATS_DEFAULT, SalesRules, Seating, WaitlistPolicy,
};
use crate::domain::event_draft::EventDraft;
use crate::domain::generated_map::{self, Block};
use crate::domain::ids::{EventId, OrganizationId, UserId};
use crate::domain::organization::{MemberRole, Organization};
use crate::domain::refusal::Refusal;
use crate::domain::seat_map::SeatMap;
use crate::postgres::{Conn, demo, event, organization, seat_map};

const NAME: &str = "Happening Demo";
const SLUG: &str = "happening-demo";
/// From the day the demo is loaded to the events.
const AHEAD: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long an evening is.
const EVENING: SignedDuration = SignedDuration::from_hours(3);

/// Who is there: address, name, role, what they are for.
pub const PEOPLE: [(&str, &str, UserRole, &str); 4] = [
    ("admin@happening.test", "Ada Admin", UserRole::Admin, "operates the instance"),
    ("organizer@happening.test", "Olu Organizer", UserRole::User, "owns Happening Demo"),
    ("ana@happening.test", "Ana", UserRole::User, "books"),
    ("ben@happening.test", "Ben", UserRole::User, "books"),
];

/// The two events on sale.
#[derive(Clone, Copy, Debug)]
pub struct Demo {
    /// Any seat is as good as another.
    pub general: EventId,
    /// Every seat has a number.
    pub numbered: EventId,
}

/// Makes what is not there yet; may be repeated, also by several at once.
///
/// # Errors
/// When PostgreSQL is away, or outside of demo mode.
pub async fn load(app: &App) -> Result<Demo> {
    if !app.config.demo {
        return Err(Refusal::Forbidden("needs demo mode (HAPPENING__DEMO=true)").into());
    }
    let mut owner = None;
    for (email, name, role, _) in PEOPLE {
        let user = person(app, email, name, role).await?;
        if email.starts_with("organizer") {
            owner = Some(user.id);
        }
    }
    let owner = owner.ok_or(Refusal::NotFound("organizer"))?;
    let now = app.clock.now();
    transaction(app, async |tx| {
        demo::lock(tx).await?;
        let organization = found(app, tx, owner, now).await?;
        let general = put_on_sale(app, tx, organization, open_air_night(now), now).await?;
        let numbered = put_on_sale(app, tx, organization, chamber_concert(now), now).await?;
        Ok(Demo { general, numbered })
    })
    .await
}

async fn person(app: &App, email: &str, name: &str, role: UserRole) -> Result<User> {
    let new = || NewUser {
        email: email.to_owned(),
        name: name.to_owned(),
        password: DEMO_PASSWORD.to_owned(),
    };
    match provision::ensure(app, new(), role).await {
        // Another load was faster.
        Err(Error::Refused(Refusal::EmailTaken)) => provision::ensure(app, new(), role).await,
        ensured => ensured,
    }
}

async fn found(app: &App, tx: &Conn, owner: UserId, now: Timestamp) -> Result<OrganizationId> {
    if let Some(id) = demo::organization(tx, SLUG).await? {
        return Ok(id);
    }
    let id = OrganizationId(app.ids.uuid());
    let (name, slug) = (NAME.to_owned(), SLUG.to_owned());
    let made = Organization { id, name, slug, created_at: now, version: 1 };
    organization::insert(tx, &made, owner).await?;
    organization::add_member(tx, id, owner, MemberRole::Owner, now).await?;
    Ok(id)
}

/// An event of that title that is still to come, or a new one.
async fn put_on_sale(
    app: &App,
    tx: &Conn,
    organization: OrganizationId,
    draft: EventDraft,
    now: Timestamp,
) -> Result<EventId> {
    let title = &draft.description.title;
    if let Some(id) = demo::event(tx, organization, title, now).await? {
        return Ok(id);
    }
    let id = EventId(app.ids.uuid());
    let (event, map) = draft.into_event(id, organization, now)?;
    event::insert(tx, &event).await?;
    seat_map::set(tx, id, map.as_ref()).await?;
    Ok(id)
}

fn open_air_night(now: Timestamp) -> EventDraft {
    let about = "Six bands under the trees. Bring a blanket; any place is as good as another.";
    let rules = rules(now, Seating::General, WaitlistPolicy::Bypass { max: 3 });
    draft("Open-Air Night", about, "Riverside Park", rules, 500)
}

fn chamber_concert(now: Timestamp) -> EventDraft {
    let about = "Schubert's last quartet, for sixty people. Every seat is numbered.";
    let rules = rules(now, Seating::Numbered, WaitlistPolicy::Strict);
    let draft = draft("Chamber Concert", about, "The Small Hall", rules, 60);
    EventDraft { seat_map: small_hall(), ..draft }
}

fn draft(title: &str, about: &str, venue: &str, rules: SalesRules, capacity: u32) -> EventDraft {
    let description = Description {
        title: title.to_owned(),
        description: Some(about.to_owned()),
        category: Some("music".to_owned()),
        venue: Some(venue.to_owned()),
    };
    EventDraft { description, rules, capacity, seat_map: None }
}

/// The Small Hall: sixty seats, the nearer the dearer.
fn small_hall() -> Option<SeatMap> {
    let block = |section: &str, rows, seats_per_row, aisles: &[u32], category: &str| Block {
        section: section.to_owned(),
        rows,
        seats_per_row,
        aisles_after: aisles.to_vec(),
        category: Some(category.to_owned()),
    };
    let blocks = [
        block("Stalls", 3, 8, &[4], "premium"),
        block("Parterre", 2, 10, &[2, 8], "standard"),
        block("Gallery", 2, 8, &[], "balcony"),
    ];
    generated_map::generate(&blocks).ok()
}

fn rules(now: Timestamp, seating: Seating, policy: WaitlistPolicy) -> SalesRules {
    let starts_at = evening(now).unwrap_or(now);
    SalesRules {
        status: EventStatus::Published,
        seating,
        max_seats_per_booking: MAX_SEATS_DEFAULT,
        policy,
        sales_open_at: None,
        sales_close_at: None,
        starts_at,
        ends_at: starts_at.checked_add(EVENING).ok(),
    }
}

/// Half past seven in the evening, some weeks from now.
fn evening(now: Timestamp) -> Option<Timestamp> {
    let day = now.checked_add(AHEAD).ok()?.to_zoned(TimeZone::UTC).date();
    Some(day.to_datetime(time(19, 30, 0, 0)).to_zoned(TimeZone::UTC).ok()?.timestamp())
}
