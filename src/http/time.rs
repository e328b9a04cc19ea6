//! Times on the wire: RFC 3339, UTC, milliseconds, `Z`.

use jiff::Timestamp;

use crate::domain::refusal::FieldError;

/// 0001-01-01T00:00:00Z in seconds. RFC 3339 cannot write what was before.
const YEAR_1: i64 = -62_135_596_800;

/// A time as every answer shows it, e.g. `2026-03-01T10:00:00.000Z`.
pub fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// A time that a caller sent, cut to milliseconds. Any offset is understood.
///
/// # Errors
/// `invalid_time`, or `out_of_range` before the year 1.
pub fn parse(pointer: &str, raw: &str) -> Result<Timestamp, FieldError> {
    let at: Timestamp = raw.parse().map_err(|_| {
        let detail = "must be a time like 2026-03-01T10:00:00.000Z (RFC 3339)";
        FieldError::new(pointer, "invalid_time", detail)
    })?;
    if at.as_second() < YEAR_1 {
        return Err(FieldError::new(pointer, "out_of_range", "must be in the year 1 or later"));
    }
    Ok(Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_milliseconds_and_z() {
        let at = Timestamp::from_millisecond(1_772_359_200_000).unwrap();
        assert_eq!(rfc3339(at), "2026-03-01T10:00:00.000Z");
        let at = Timestamp::from_millisecond(1_772_359_200_045).unwrap();
        assert_eq!(rfc3339(at), "2026-03-01T10:00:00.045Z");
    }

    #[test]
    fn understands_offsets_and_cuts_to_milliseconds() {
        let at = parse("/at", "2026-03-01T12:00:00.0459+02:00").unwrap();
        assert_eq!(rfc3339(at), "2026-03-01T10:00:00.045Z");
    }

    #[test]
    fn names_what_is_wrong() {
        for raw in ["", "now", "2026-03-01", "2026-13-01T00:00:00Z", "2026-03-01T10:00:00", "\0"] {
            let error = parse("/at", raw).unwrap_err();
            assert_eq!((error.pointer.as_str(), error.code), ("/at", "invalid_time"), "{raw:?}");
        }
        assert_eq!(parse("/at", "-000001-01-01T00:00:00Z").unwrap_err().code, "out_of_range");
    }
}
