//! Events: what people attend, from draft to the end.

pub mod cascade;
