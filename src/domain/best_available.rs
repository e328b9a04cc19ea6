//! Best available: which of the free seats a party that leaves the choice to us is offered.
//!
//! In this order:
//! 1. seats next to each other in one row, without an aisle between them;
//! 2. so that no single free seat is left between others (an orphan, which nobody buys);
//! 3. those whose middle is nearest the focal point: the stage, if the map says where it is, else
//!    the middle of the front (the lowest y);
//! 4. the lowest numbers.
//!
//! If no row has so many together, the party is split into as few groups as can be found by taking
//! the largest first; each is chosen in the same way, but near the seats chosen before. Without a
//! map all seats are one row, in the order of their numbers, and the front is seat 1.

use std::cmp::Ordering;

use super::seat_map::SeatMap;

/// Seats further apart than so many usual distances have an aisle between them.
const AISLE: f64 = 1.5;

/// A point in the map's own unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Away from the stage.
    pub y: f64,
}

/// Which seats can be had, by number.
#[derive(Clone, Debug)]
pub struct Free(Vec<bool>);

impl Free {
    /// All seats from 1 to `capacity` but those that are `gone`.
    pub fn new<'a>(capacity: u32, gone: impl IntoIterator<Item = &'a u32>) -> Self {
        let mut free = vec![true; index(capacity).saturating_add(1)];
        for seat in gone {
            if let Some(free) = free.get_mut(index(*seat)) {
                *free = false;
            }
        }
        Self(free)
    }

    fn has(&self, seat: u32) -> bool {
        self.0.get(index(seat)).copied().unwrap_or(false)
    }

    fn take(&mut self, seat: u32) {
        if let Some(free) = self.0.get_mut(index(seat)) {
            *free = false;
        }
    }
}

/// A house, prepared for choosing: rows, divided where there are aisles.
#[derive(Clone, Debug)]
pub struct Plan {
    blocks: Vec<Vec<Spot>>,
    categories: Vec<String>,
    focus: Point,
}

#[derive(Clone, Copy, Debug)]
struct Spot {
    number: u32,
    at: Point,
    /// Which of the plan's categories.
    category: Option<usize>,
}

impl Plan {
    /// The plan of a map. Unless every seat has coordinates, rows stand behind each other in their
    /// order, centred.
    pub fn of(map: &SeatMap) -> Self {
        let mut categories: Vec<String> = Vec::new();
        let mut rows: Vec<Vec<Spot>> = Vec::new();
        let seats = || map.sections().iter().flat_map(|section| &section.rows);
        let drawn = seats().flat_map(|row| &row.seats).all(|s| s.x.is_some() && s.y.is_some());
        for (depth, row) in (0_u32..).zip(seats()) {
            let middle = f64::from(u32::try_from(row.seats.len()).unwrap_or(u32::MAX)) / 2.0;
            let spots = (0_u32..).zip(&row.seats).map(|(place, seat)| {
                let category = seat.category.as_ref().map(|name| {
                    let known = categories.iter().position(|known| known == name);
                    known.unwrap_or_else(|| {
                        categories.push(name.clone());
                        categories.len() - 1
                    })
                });
                let at = match (seat.x, seat.y) {
                    (Some(x), Some(y)) if drawn => Point { x, y },
                    _ => Point { x: f64::from(place) + 0.5 - middle, y: f64::from(depth) },
                };
                Spot { number: seat.number, at, category }
            });
            rows.push(spots.collect());
        }
        let pitch = usual_distance(&rows);
        let apart = |a: &Spot, b: &Spot| square(a.at, b.at) <= square_of(pitch * AISLE);
        let blocks = rows.iter().flat_map(|row| row.chunk_by(apart).map(<[Spot]>::to_vec));
        let blocks = blocks.collect();
        let focus = map.stage().filter(|_| drawn).unwrap_or_else(|| front(&rows));
        Self { blocks, categories, focus }
    }

    /// Whether seats of that category are in it.
    pub fn has_category(&self, name: &str) -> bool {
        self.categories.iter().any(|known| known == name)
    }

    /// The best `count` of the free seats, of that category if one is named, ascending; `None` if
    /// there are fewer.
    pub fn best(&self, count: u32, category: Option<&str>, free: &Free) -> Option<Vec<u32>> {
        let category = match category {
            Some(name) => Some(self.categories.iter().position(|known| known == name)?),
            None => None,
        };
        let (mut free, mut chosen) = (free.clone(), Vec::<Spot>::new());
        let mut focus = self.focus;
        let mut left = index(count);
        while left > 0 {
            let together = self.longest(category, &free).min(left);
            let group = self.group(together, category, &free, focus)?;
            for spot in &group {
                free.take(spot.number);
            }
            left -= group.len();
            chosen.extend(group);
            focus = middle(&chosen);
        }
        let mut seats: Vec<u32> = chosen.iter().map(|spot| spot.number).collect();
        seats.sort_unstable();
        Some(seats)
    }

    /// The most seats that are together anywhere.
    fn longest(&self, category: Option<usize>, free: &Free) -> usize {
        let fits = |spot: &Spot| fits(spot, category, free);
        let runs =
            self.blocks.iter().flat_map(|block| block.chunk_by(move |a, b| fits(a) && fits(b)));
        runs.filter(|run| run.first().is_some_and(fits)).map(<[Spot]>::len).max().unwrap_or(0)
    }

    /// The best `count` that are together.
    fn group(
        &self,
        count: usize,
        category: Option<usize>,
        free: &Free,
        focus: Point,
    ) -> Option<Vec<Spot>> {
        if count == 0 {
            return None;
        }
        let mut best: Option<(Score, &[Spot])> = None;
        for block in &self.blocks {
            for run in block.chunk_by(|a, b| free.has(a.number) == free.has(b.number)) {
                for (before, group) in run.windows(count).enumerate() {
                    if !group.iter().all(|spot| fits(spot, category, free)) {
                        continue;
                    }
                    let after = run.len() - before - count;
                    let score = Score {
                        orphans: usize::from(before == 1) + usize::from(after == 1),
                        distance: square(middle(group), focus),
                        first: group.first().map_or(0, |spot| spot.number),
                    };
                    if best.as_ref().is_none_or(|(other, _)| score.is_better_than(other)) {
                        best = Some((score, group));
                    }
                }
            }
        }
        best.map(|(_, group)| group.to_vec())
    }
}

/// The same in a house of `capacity` seats without a map.
pub fn unmapped(capacity: u32, count: u32, free: &Free) -> Option<Vec<u32>> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for seat in (1..=capacity).filter(|seat| free.has(*seat)) {
        match runs.last_mut() {
            Some((first, length)) if *first + *length == seat => *length += 1,
            _ => runs.push((seat, 1)),
        }
    }
    let (mut chosen, mut left) = (Vec::new(), count);
    while left > 0 {
        let together = runs.iter().map(|(_, length)| *length).max()?.min(left);
        // At the start of the first run that leaves no orphan, or else of the first that fits.
        let clean = |length: u32| length != together + 1;
        let place = runs
            .iter()
            .position(|(_, length)| *length >= together && clean(*length))
            .or_else(|| runs.iter().position(|(_, length)| *length >= together))?;
        let (first, length) = runs.get_mut(place)?;
        chosen.extend(*first..*first + together);
        (*first, *length) = (*first + together, *length - together);
        left -= together;
        runs.retain(|(_, length)| *length > 0);
    }
    chosen.sort_unstable();
    Some(chosen)
}

struct Score {
    orphans: usize,
    distance: f64,
    first: u32,
}

impl Score {
    fn is_better_than(&self, other: &Self) -> bool {
        let by_orphans = self.orphans.cmp(&other.orphans);
        let by_distance = || self.distance.total_cmp(&other.distance);
        let by_number = || self.first.cmp(&other.first);
        by_orphans.then_with(by_distance).then_with(by_number) == Ordering::Less
    }
}

fn fits(spot: &Spot, category: Option<usize>, free: &Free) -> bool {
    free.has(spot.number) && (category.is_none() || spot.category == category)
}

fn index(seat: u32) -> usize {
    usize::try_from(seat).unwrap_or(usize::MAX)
}

fn square(a: Point, b: Point) -> f64 {
    square_of(a.x - b.x) + square_of(a.y - b.y)
}

fn square_of(length: f64) -> f64 {
    length * length
}

fn middle(spots: &[Spot]) -> Point {
    let count = f64::from(u32::try_from(spots.len()).unwrap_or(u32::MAX)).max(1.0);
    let x = spots.iter().map(|spot| spot.at.x).sum::<f64>() / count;
    let y = spots.iter().map(|spot| spot.at.y).sum::<f64>() / count;
    Point { x, y }
}

/// The middle of the front.
fn front(rows: &[Vec<Spot>]) -> Point {
    let all = || rows.iter().flatten().map(|spot| spot.at);
    let (left, right) =
        all().fold((f64::MAX, f64::MIN), |(left, right), at| (left.min(at.x), right.max(at.x)));
    let y = all().map(|at| at.y).fold(f64::MAX, f64::min);
    Point { x: f64::midpoint(left, right), y }
}

/// How far apart neighbours in a row usually are.
fn usual_distance(rows: &[Vec<Spot>]) -> f64 {
    let pairs = rows.iter().flat_map(|row| row.windows(2));
    let mut distances: Vec<f64> = pairs
        .filter_map(|pair| match pair {
            [a, b] => Some(square(a.at, b.at).sqrt()),
            _ => None,
        })
        .collect();
    distances.sort_unstable_by(f64::total_cmp);
    distances.get(distances.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::seat_map::{MappedSeat, SeatRow, Section};

    /// Rows of seats, numbered through; a 0 is an aisle, a 2 a seat of the category "gold".
    fn plan(rows: &[&[u8]]) -> Plan {
        let mut number = 0;
        let row = |(y, row): (u32, &&[u8])| SeatRow {
            name: format!("{y}"),
            seats: (0_u32..)
                .zip(row.iter())
                .filter(|(_, kind)| **kind > 0)
                .map(|(x, kind)| {
                    number += 1;
                    MappedSeat {
                        number,
                        label: None,
                        x: Some(f64::from(x)),
                        y: Some(f64::from(y)),
                        category: (*kind == 2).then(|| "gold".to_owned()),
                    }
                })
                .collect(),
        };
        let rows = (0..).zip(rows).map(row).collect();
        let map = SeatMap::new(vec![Section { name: "Stalls".to_owned(), rows }], None).unwrap();
        Plan::of(&map)
    }

    fn best(plan: &Plan, count: u32, gone: &[u32]) -> Option<Vec<u32>> {
        plan.best(count, None, &Free::new(100, gone))
    }

    #[test]
    fn seats_are_together_in_the_middle_of_the_front() {
        let plan = plan(&[&[1; 9], &[1; 9]]);
        assert_eq!(best(&plan, 3, &[]), Some(vec![4, 5, 6]));
        assert_eq!(best(&plan, 1, &[]), Some(vec![5]));
        // The front is broken: the row behind has them together.
        assert_eq!(best(&plan, 5, &[4, 6]), Some(vec![12, 13, 14, 15, 16]));
    }

    #[test]
    fn no_single_seat_is_left_if_there_is_another_way() {
        let plan = plan(&[&[1; 5]]);
        // 2 to 4 is the middle, but would leave 1 and 5 alone; 1 to 3 leaves two together.
        assert_eq!(best(&plan, 3, &[]), Some(vec![1, 2, 3]));
        // There is no other way.
        assert_eq!(best(&plan, 4, &[]), Some(vec![1, 2, 3, 4]));
    }

    #[test]
    fn an_aisle_divides_a_row_and_a_party_is_divided_only_if_it_must_be() {
        let plan = plan(&[&[1, 1, 1, 0, 1, 1, 1], &[1, 1, 1, 1, 1, 1, 1]]);
        // Not across the aisle, but at the side of the row behind: its middle would leave 7 alone.
        assert_eq!(best(&plan, 4, &[]), Some(vec![7, 8, 9, 10]));
        assert_eq!(best(&plan, 3, &[]), Some(vec![9, 10, 11]), "nearer than beside the aisle");
        // Seven have no row; six and one do, the one beside them.
        let split = best(&plan, 8, &[]).unwrap();
        assert_eq!(split.iter().filter(|seat| **seat > 6).count(), 7);
    }

    #[test]
    fn only_the_category_counts() {
        let plan = plan(&[&[1, 1, 2, 2, 2], &[2, 2, 2, 2, 2]]);
        assert_eq!(plan.best(3, Some("gold"), &Free::new(10, &[])), Some(vec![3, 4, 5]));
        assert_eq!(plan.best(9, Some("gold"), &Free::new(10, &[])), None);
        assert_eq!(plan.best(1, Some("tin"), &Free::new(10, &[])), None);
        assert!(plan.has_category("gold") && !plan.has_category("tin"));
    }

    #[test]
    fn without_a_map_numbers_are_consecutive() {
        let best = |count, gone: &[u32]| unmapped(10, count, &Free::new(10, gone));
        assert_eq!(best(3, &[]), Some(vec![1, 2, 3]));
        assert_eq!(best(2, &[4]), Some(vec![5, 6]), "1 and 2 would leave 3 alone");
        assert_eq!(best(6, &[5]), Some(vec![1, 6, 7, 8, 9, 10]), "five together, then one");
        assert_eq!(best(10, &[5]), None);
        assert_eq!(best(1, &[1, 2, 3, 4, 5, 6, 7, 8, 9]), Some(vec![10]));
    }

    #[test]
    fn five_thousand_seats_are_looked_through_quickly() {
        let row = [1_u8; 50];
        let rows: Vec<&[u8]> = std::iter::repeat_n(&row[..], 100).collect();
        let plan = plan(&rows);
        let gone: Vec<u32> = (1..=5_000).filter(|seat| seat % 3 != 0).collect();
        // Nothing is together: the worst case.
        assert_eq!(
            plan.best(10, None, &Free::new(5_000, &gone)).map(|seats| seats.len()),
            Some(10)
        );
    }

    proptest! {
        #[test]
        fn what_is_offered_is_free_and_as_good_as_it_can_be(
            lengths in prop::collection::vec(1_usize..9, 1..5),
            gone in prop::collection::btree_set(1_u32..30, 0..25),
            count in 1_u32..7,
        ) {
            let seats = [1_u8; 9];
            let rows: Vec<&[u8]> = lengths.iter().map(|length| &seats[..*length]).collect();
            let plan = plan(&rows);
            let capacity = u32::try_from(lengths.iter().sum::<usize>()).unwrap();
            let free = Free::new(capacity, &gone);
            let left: BTreeSet<u32> = (1..=capacity).filter(|seat| !gone.contains(seat)).collect();
            let offered = plan.best(count, None, &free);
            prop_assert_eq!(offered.is_some(), left.len() >= index(count));
            let Some(offered) = offered else { return Ok(()) };
            prop_assert_eq!(offered.len(), index(count));
            prop_assert!(offered.iter().all(|seat| left.contains(seat)));
            prop_assert!(offered.windows(2).all(|pair| pair[0] < pair[1]));

            // Every way to sit together, found the simple way.
            let mut ways = Vec::new();
            let mut first = 1;
            for length in &lengths {
                let end = first + u32::try_from(*length).unwrap();
                for start in first..end {
                    let way: Vec<u32> = (start..start + count).collect();
                    if way.iter().all(|seat| *seat < end && left.contains(seat)) {
                        let row = first..end;
                        let free_at = |seat: u32| row.contains(&seat) && left.contains(&seat);
                        let before = free_at(start - 1) && !(start >= 2 && free_at(start - 2));
                        let after = free_at(start + count) && !free_at(start + count + 1);
                        ways.push((way, usize::from(before) + usize::from(after)));
                    }
                }
                first = end;
            }
            if let Some(fewest) = ways.iter().map(|(_, orphans)| *orphans).min() {
                let ours = ways.iter().find(|(way, _)| *way == offered);
                prop_assert_eq!(ours.map(|(_, orphans)| *orphans), Some(fewest));
            }
        }

        #[test]
        fn without_a_map_it_is_free_and_together_if_possible(
            gone in prop::collection::btree_set(1_u32..25, 0..20),
            count in 1_u32..8,
        ) {
            let free = Free::new(24, &gone);
            let left: Vec<u32> = (1..=24).filter(|seat| !gone.contains(seat)).collect();
            let offered = unmapped(24, count, &free);
            prop_assert_eq!(offered.is_some(), left.len() >= index(count));
            let Some(offered) = offered else { return Ok(()) };
            prop_assert_eq!(offered.len(), index(count));
            prop_assert!(offered.iter().all(|seat| left.contains(seat)));
            let together = |seats: &[u32]| seats.windows(2).all(|pair| pair[0] + 1 == pair[1]);
            if left.windows(index(count)).any(together) {
                prop_assert!(together(&offered), "{offered:?} of {left:?}");
            }
        }
    }
}
