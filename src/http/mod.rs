//! DOOR. The route table on one screen; extractors that grant; one file a noun.

pub mod accounts;
pub mod api_keys;
pub mod body;
pub mod caller;
pub mod invitations;
pub mod limits;
pub mod organizations;
pub mod page;
pub mod problem;
pub mod reply;
pub mod time;
pub mod trace;
