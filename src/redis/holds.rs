//! Which numbered seats somebody holds, by their hold keys. The keys of the seats are read by name:
//! looking for keys would cost as much as there is in Redis.

use super::{Away, Redis, keys};
use crate::domain::ids::EventId;

/// Keys read with one command.
const CHUNK: usize = 1_000;
/// Events with more seats are not looked through.
const SEATS_MAX: u32 = 10_000;

/// Those of the seats 1 to `capacity` that are held, ascending; none for events that are too large
/// to be looked through.
///
/// # Errors
/// When Redis is away.
pub async fn held(redis: &Redis, event: EventId, capacity: u32) -> Result<Vec<u32>, Away> {
    if capacity > SEATS_MAX {
        return Ok(Vec::new());
    }
    let seats: Vec<u32> = (1..=capacity).collect();
    let mut connection = redis.get().await?;
    let mut held = Vec::new();
    for chunk in seats.chunks(CHUNK) {
        let mut command = redis::cmd("MGET");
        for seat in chunk {
            command.arg(keys::hold(event, *seat));
        }
        let holders: Vec<Option<String>> = command.query_async(&mut connection).await?;
        held.extend(
            chunk.iter().zip(holders).filter(|(_, holder)| holder.is_some()).map(|(seat, _)| *seat),
        );
    }
    Ok(held)
}
