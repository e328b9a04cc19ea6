//! Bookings: everything that changes an event's inventory, and what reads it.

pub mod desk;
pub mod gate;
pub mod settle;
pub mod show;
pub mod sweep;
