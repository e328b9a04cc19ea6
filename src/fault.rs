//! Crash points: places where the fault tests kill the process as `kill -9` would. Without the
//! feature `faults` they compile to nothing.

/// Dies here if the environment says `HAPPENING_CRASH_AT=<name>` (feature `faults` only).
#[cfg(feature = "faults")]
#[expect(clippy::disallowed_methods, reason = "the crash point is named by the environment")]
pub fn crash_point(name: &str) {
    if std::env::var("HAPPENING_CRASH_AT").is_ok_and(|at| at == name) {
        let pid = std::process::id().to_string();
        let _ = std::process::Command::new("kill").args(["-KILL", &pid]).status();
        loop {
            std::thread::park();
        }
    }
}

/// Nothing: the feature `faults` is off.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn crash_point(_name: &str) {}
