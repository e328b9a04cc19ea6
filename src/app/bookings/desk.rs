//! The handle of the booking desk.

/// The one place where inventory changes.
#[derive(Clone, Debug)]
pub struct Desk;
