//! How times look on the wire: RFC 3339, UTC, milliseconds, `Z`.

use jiff::Timestamp;

/// E.g. `2026-01-31T18:00:00.000Z`.
pub fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
