//! SPEED. What is fast and may be lost: all of it can be rebuilt from PostgreSQL.

/// The connections to Redis. Cheap to clone.
#[derive(Clone)]
pub struct Redis;
