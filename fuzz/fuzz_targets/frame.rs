//! Whatever a client sends: the parser of its frames never panics, what it reads is bounded, and an
//! error has one of the documented codes.
#![no_main]

mod domain {
    #[path = "../../../src/domain/ids.rs"]
    pub mod ids;
}
#[path = "../../src/ws/frame.rs"]
mod frame;

use frame::{Command, parse};

libfuzzer_sys::fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(read) => {
            assert!(read.reference.is_none_or(|raw| raw.len() <= 128));
            if let Command::Hold { seats, .. } = read.command {
                assert!(seats.len() <= 1_000 && seats.is_sorted() && !seats.contains(&0));
            }
        }
        Err(bad) => assert!(matches!(bad.code, "malformed" | "unknown_type" | "invalid")),
    }
});
