//! RULES. Pure and synchronous: no I/O, no clock, no serialisation, nothing of ours from outside.
//!
//! Nouns name the files. A value that exists is valid: private fields, one way in.

pub mod account;
pub mod alarm;
pub mod alert;
pub mod audit;
pub mod best_available;
pub mod booking;
pub mod breaker;
pub mod dead_letter;
pub mod event;
pub mod event_draft;
pub mod event_patch;
pub mod fact;
pub mod gaps;
pub mod generated_map;
pub mod hold;
pub mod ids;
pub mod interaction;
pub mod interest;
pub mod inventory;
pub mod message;
pub mod notification;
pub mod organization;
pub mod processing;
pub mod refusal;
pub mod seat_map;
pub mod seat_view;
pub mod stock_view;
pub mod stream_type;
pub mod submission;
pub mod text;
pub mod trace_context;
pub mod waitlist;
