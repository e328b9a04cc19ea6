//! DOOR. The route table on one screen; extractors that grant; one file a noun.

pub mod body;
pub mod caller;
pub mod limits;
pub mod page;
pub mod problem;
pub mod reply;
pub mod trace;
