//! W3C trace context: which trace something belongs to, and what in it led there. It travels with
//! a request through the outbox and the brokers to everything that follows from it.

use std::fmt;

/// The length of version 00, which is what later versions begin with.
const LENGTH: usize = 55;

/// A place in a trace, as `traceparent` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span that led here; never 0.
    pub span_id: u64,
    /// Whether somebody records this trace.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`: `00-` 32 hex `-` 16 hex `-` 2 hex, in small letters.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        if value.len() != LENGTH {
            return None;
        }
        let mut parts = value.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = hex(parts.next()?, 2)?;
        let valid = version != 0xff && trace_id != 0 && span_id != 0 && parts.next().is_none();
        valid.then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

fn hex(part: &str, length: usize) -> Option<u128> {
    let plain =
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    plain.then(|| u128::from_str_radix(part, 16).ok()).flatten()
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.span_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-00ad6b7169203331-01";
        let context = TraceContext::parse(text).unwrap();
        assert!(context.sampled);
        assert_eq!(context.span_id, 0x00ad_6b71_6920_3331);
        assert_eq!(context.to_string(), text);
        // Of flags and versions only what is known is understood.
        let later = "cc-0af7651916cd43dd8448eb211c80319c-00ad6b7169203331-02";
        assert!(!TraceContext::parse(later).unwrap().sampled);
    }

    #[test]
    fn what_is_no_trace_is_none() {
        for wrong in [
            "",
            "00-0",
            "zz-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0é",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }
}
