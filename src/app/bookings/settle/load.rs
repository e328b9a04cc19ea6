//! What a batch needs to know, and how its inventories come to be.

use std::collections::{BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::by_event;
use crate::app::bookings::desk::{Command, Job};
use crate::app::bookings::gate::HeldSeats;
use crate::domain::booking::{Booking, Party};
use crate::domain::event::{Event, SalesRules, Seating, Stock};
use crate::domain::ids::{BookingId, EventId};
use crate::domain::inventory::{Inventory, Pool, Queue, SeatBook, Waiting};
use crate::domain::submission::Reply;
use crate::postgres::inventory::{self, Key, Loaded, Wanted};
use crate::postgres::{Conn, DbError, booking, event};

/// How many waiting parties one commit looks at; whoever can still be promoted is next time.
const QUEUE_WINDOW: usize = 256;
/// How many free seats one commit gives out beyond those asked for, to parties that wait.
const POOL_MAX: u32 = 20_000;
/// How many bookings of a cancelled event one commit cancels.
const CLOSE_CHUNK: i64 = 500;

/// A batch, loaded.
pub(super) struct Batch {
    pub inventories: HashMap<EventId, Inventory>,
    /// Events in full, for those commands that change or show more than seats.
    pub events: HashMap<EventId, Event>,
    /// The bookings that the next [`Command::Close`] of an event cancels.
    pub closing: HashMap<EventId, Vec<BookingId>>,
    pub answered: HashMap<Key, (Vec<u8>, Reply)>,
}

/// What the first flight has to bring.
pub(super) fn wanted(jobs: &[Job]) -> Wanted {
    let mut wanted = Wanted::default();
    let mut events = HashSet::new();
    for job in jobs {
        events.insert(job.event);
        if let Some((submission, _)) = &job.once {
            wanted.submissions.push(submission.clone());
        }
        match &job.command {
            Command::Book { request, .. } => {
                let numbers = match &request.party {
                    Party::Numbered(numbers) => numbers,
                    Party::Seats(_) => &request.kept.wish,
                };
                wanted.seats.extend(numbers.iter().map(|number| (job.event, *number)));
            }
            Command::Cancel { booking, .. } => wanted.bookings.push(*booking),
            _ => {}
        }
    }
    wanted.events = events.into_iter().collect();
    wanted.events.sort_unstable();
    wanted
}

/// Loads what the rows of the first flight showed to be needed, and makes the inventories.
pub(super) async fn batch(
    tx: &Conn,
    jobs: &[Job],
    held: &HeldSeats,
    loaded: Loaded,
) -> Result<Batch, DbError> {
    let jobs = by_event(jobs);
    let Loaded { events: known, answered, bookings, taken } = loaded;
    let needs: HashMap<EventId, Needs> = known
        .iter()
        .map(|(id, (rules, stock))| {
            let held = held.get(id).map_or(0, BTreeSet::len);
            (*id, Needs::of(jobs.get(id).map_or(&[], Vec::as_slice), rules, stock, held))
        })
        .collect();

    let mut queued = load_queues(tx, &needs, &known).await?;
    let mut pools = load_pools(tx, &needs, &known).await?;
    let mut above = HashMap::new();
    let mut full = HashMap::new();
    let mut closing: HashMap<EventId, Vec<Booking>> = HashMap::new();
    for (id, need) in &needs {
        if let Some(capacity) = need.shrinks_to {
            above.insert(*id, inventory::taken_above(tx, *id, capacity).await?);
        }
        if need.in_full {
            full.extend(event::find(tx, *id).await?.map(|event| (*id, event)));
        }
        if let Some(after) = need.closes_after {
            let chunk = booking::active_of_event(tx, *id, after, CLOSE_CHUNK).await?;
            closing.insert(*id, chunk);
        }
    }

    let mut of_event: HashMap<EventId, Vec<Booking>> = HashMap::new();
    for booking in bookings {
        of_event.entry(booking.event_id).or_default().push(booking);
    }
    let mut taken_of: HashMap<EventId, Vec<u32>> = HashMap::new();
    for (event, number) in taken {
        taken_of.entry(event).or_default().push(number);
    }
    let closing_ids = closing
        .iter()
        .map(|(event, chunk)| (*event, chunk.iter().map(|booking| booking.id).collect()))
        .collect();
    let inventories = known
        .into_iter()
        .map(|(id, (rules, stock))| {
            let mut here = of_event.remove(&id).unwrap_or_default();
            here.extend(closing.remove(&id).unwrap_or_default());
            let queue = match queued.remove(&id) {
                Some(parties) => queue(parties, &mut here),
                None => Queue::unseen(stock.waitlist_length),
            };
            let mut taken = taken_of.remove(&id).unwrap_or_default();
            taken.extend(above.remove(&id).unwrap_or_default());
            let seats = match rules.seating {
                Seating::General => SeatBook::default(),
                Seating::Numbered => {
                    let held = held.get(&id).cloned().unwrap_or_default();
                    SeatBook::new(taken, pools.remove(&id), stock.seat_cursor, stock.capacity)
                        .avoiding(held)
                }
            };
            (id, Inventory::new(id, rules, stock, seats, queue, here))
        })
        .collect();
    Ok(Batch { inventories, events: full, closing: closing_ids, answered })
}

/// What a batch needs of one event.
struct Needs {
    /// Seats may become free or rules change: somebody may be promoted. The largest capacity that
    /// the event may have in this batch.
    queue_up_to: Option<u32>,
    /// Seats may be given out by number: how many at most.
    pool: u32,
    shrinks_to: Option<u32>,
    in_full: bool,
    /// Bookings of a cancelled event are next: those after this one (the nil id: from the start).
    closes_after: Option<BookingId>,
}

impl Needs {
    fn of(jobs: &[&Job], rules: &SalesRules, stock: &Stock, held: usize) -> Self {
        let mut frees = false;
        let grown_to = jobs.iter().filter_map(|job| match &job.command {
            Command::Change { patch, .. } => patch.capacity,
            _ => None,
        });
        let largest = grown_to.fold(stock.capacity, u32::max);
        let (mut any, mut chosen) = (0_u32, 0_u32);
        let mut needs = Self {
            queue_up_to: None,
            pool: 0,
            shrinks_to: None,
            in_full: false,
            closes_after: None,
        };
        for job in jobs {
            match &job.command {
                Command::Book { request, .. } => {
                    let seats = request.party.size().min(largest);
                    let kind = match request.party {
                        Party::Seats(_) => &mut any,
                        Party::Numbered(_) => &mut chosen,
                    };
                    *kind = kind.saturating_add(seats);
                }
                Command::Cancel { .. } | Command::Sweep => frees = true,
                Command::Change { patch, .. } => {
                    frees = true;
                    needs.in_full = true;
                    if let Some(capacity) = patch.capacity {
                        let least = needs.shrinks_to.map_or(capacity, |least| least.min(capacity));
                        needs.shrinks_to = (least < stock.capacity).then_some(least);
                    }
                }
                Command::Publish { .. } | Command::CancelEvent { .. } => needs.in_full = true,
                Command::Close { after } => {
                    needs.closes_after = Some(after.unwrap_or(BookingId(Uuid::nil())));
                }
            }
        }
        if frees {
            needs.queue_up_to = Some(largest);
        }
        if rules.seating == Seating::Numbered {
            let grown = largest.saturating_sub(stock.capacity);
            let waiting = if frees && stock.waitlist_length > 0 {
                stock.available.saturating_add(stock.reserved).saturating_add(grown).min(POOL_MAX)
            } else {
                0
            };
            // Parties that choose may take some of the lowest free seats from those that do not,
            // and those that are held are left out.
            let given_out = any.saturating_add(waiting);
            let left_out = chosen.saturating_add(u32::try_from(held).unwrap_or(u32::MAX));
            needs.pool = if given_out == 0 { 0 } else { given_out.saturating_add(left_out) };
        }
        needs
    }
}

async fn load_queues(
    tx: &Conn,
    needs: &HashMap<EventId, Needs>,
    known: &HashMap<EventId, (SalesRules, Stock)>,
) -> Result<HashMap<EventId, Vec<Booking>>, DbError> {
    let mut wanted: Vec<(EventId, u32)> = needs
        .iter()
        .filter_map(|(id, need)| need.queue_up_to.map(|largest| (*id, largest)))
        .collect();
    let mut queues: HashMap<EventId, Vec<Booking>> =
        wanted.iter().map(|(id, _)| (*id, Vec::new())).collect();
    // A queue that is empty is known without a look, and those who join it in this batch count.
    wanted.retain(|(id, _)| known.get(id).is_some_and(|(_, stock)| stock.waitlist_length > 0));
    let limit = i64::try_from(QUEUE_WINDOW + 1).unwrap_or(i64::MAX);
    for party in inventory::queues(tx, &wanted, limit).await? {
        queues.entry(party.event_id).or_default().push(party);
    }
    Ok(queues)
}

async fn load_pools(
    tx: &Conn,
    needs: &HashMap<EventId, Needs>,
    known: &HashMap<EventId, (SalesRules, Stock)>,
) -> Result<HashMap<EventId, Pool>, DbError> {
    let wanted: Vec<(EventId, u32, u32, u32)> = needs
        .iter()
        .filter(|(_, need)| need.pool > 0)
        .filter_map(|(id, need)| {
            known.get(id).map(|(_, stock)| (*id, stock.seat_cursor, stock.capacity, need.pool))
        })
        .collect();
    let mut pools: HashMap<EventId, Pool> = wanted
        .iter()
        .map(|(id, _, _, wanted)| (*id, Pool { free: Vec::new(), wanted: *wanted }))
        .collect();
    for (event, number) in inventory::free_seats(tx, &wanted).await? {
        pools.entry(event).or_default().free.push(number);
    }
    Ok(pools)
}

/// The queue of parties that were loaded for it; their bookings join those known already.
fn queue(mut parties: Vec<Booking>, bookings: &mut Vec<Booking>) -> Queue {
    let truncated = parties.len() > QUEUE_WINDOW;
    parties.truncate(QUEUE_WINDOW);
    let waiting = parties.iter().map(|party| Waiting {
        id: party.id,
        seats: party.seats,
        number: party.waiting_number.unwrap_or_default(),
    });
    let queue = Queue::loaded(waiting, truncated);
    let known: HashSet<BookingId> = bookings.iter().map(|booking| booking.id).collect();
    bookings.extend(parties.into_iter().filter(|party| !known.contains(&party.id)));
    queue
}
