//! What clients say on a plain WebSocket: JSON text frames, read strictly. A pure function from
//! text to a command or an error with a stable code; it is fuzzed (`fuzz/`).

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::domain::ids::EventId;

/// Most seats in one frame; how many may be held is the event's affair.
const SEATS_MAX: usize = 1_000;
/// Longest `ref`, in bytes of JSON.
const REFERENCE_MAX: usize = 128;
/// Longest hold token.
const TOKEN_MAX: usize = 128;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// To watch an event, from a version it knows if it was there before; with the token of its
    /// holds, if it has any.
    Join {
        /// Which event.
        event: EventId,
        /// The last version that it has seen.
        since: Option<i64>,
        /// Whose holds are its own.
        hold_token: Option<String>,
    },
    /// To hold exactly these seats: others of its own are let go.
    Hold {
        /// Of which event.
        event: EventId,
        /// Which seats, ascending, each once.
        seats: Vec<u32>,
        /// Whose holds are its own.
        hold_token: Option<String>,
    },
    /// To hold what it holds for longer. `None`: in the only event that it watches.
    Renew(Option<EventId>),
    /// To let go of what it holds.
    Release(Option<EventId>),
    /// To watch an event no more.
    Leave(Option<EventId>),
    /// A sign of life.
    Ping,
}

/// A command and what its sender calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// To be echoed in the answer: a JSON string, number or null as it was written.
    pub reference: Option<Box<str>>,
    /// What is wanted.
    pub command: Command,
}

/// Why a frame cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// What the sender calls it, if that much could be read.
    pub reference: Option<Box<str>>,
    /// Stable: `malformed`, `unknown_type` or `invalid`.
    pub code: &'static str,
    /// For people.
    pub detail: &'static str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "ref", borrow)]
    reference: Option<&'a RawValue>,
    event_id: Option<Uuid>,
    since: Option<i64>,
    seat_numbers: Option<Vec<u32>>,
    hold_token: Option<String>,
}

/// Reads a frame.
///
/// # Errors
/// See [`Bad`].
pub fn parse(text: &str) -> Result<Frame, Bad> {
    let Ok(wire) = serde_json::from_str::<Wire<'_>>(text) else {
        let detail = "a frame is a JSON object with `type` and the fields of that type";
        return Err(Bad { reference: None, code: "malformed", detail });
    };
    let reference = match wire.reference.map(RawValue::get) {
        Some(raw) if raw.len() > REFERENCE_MAX || raw.starts_with(['{', '[']) => {
            let detail = "`ref` is a short string or a number";
            return Err(Bad { reference: None, code: "invalid", detail });
        }
        raw => raw.map(Box::from),
    };
    match command(wire) {
        Ok(command) => Ok(Frame { reference, command }),
        Err((code, detail)) => Err(Bad { reference, code, detail }),
    }
}

type Wrong = (&'static str, &'static str);

fn command(wire: Wire<'_>) -> Result<Command, Wrong> {
    let Wire { kind, event_id, since, seat_numbers, hold_token, .. } = wire;
    let event = event_id.map(EventId);
    let hold_token = token(hold_token)?;
    let kind = kind.ok_or(("malformed", "`type` is missing"))?;
    let named = event.ok_or(("invalid", "`event_id` is missing"));
    let extra = ("invalid", "the frame has fields that its type does not have");
    let bare = since.is_none() && seat_numbers.is_none() && hold_token.is_none();
    match kind.as_str() {
        "join" if seat_numbers.is_some() => Err(extra),
        "join" => Ok(Command::Join { event: named?, since, hold_token }),
        "hold" if since.is_some() => Err(extra),
        "hold" => Ok(Command::Hold { event: named?, seats: seats(seat_numbers)?, hold_token }),
        "renew" | "release" | "leave" | "ping" if !bare => Err(extra),
        "renew" => Ok(Command::Renew(event)),
        "release" => Ok(Command::Release(event)),
        "leave" => Ok(Command::Leave(event)),
        "ping" if event.is_some() => Err(extra),
        "ping" => Ok(Command::Ping),
        _ => Err(("unknown_type", "types are join, hold, renew, release, leave and ping")),
    }
}

fn token(token: Option<String>) -> Result<Option<String>, Wrong> {
    match token {
        Some(token) if token.is_empty() || token.len() > TOKEN_MAX => {
            Err(("invalid", "`hold_token` is not one of ours"))
        }
        token => Ok(token),
    }
}

/// Seats, ascending, each once.
fn seats(numbers: Option<Vec<u32>>) -> Result<Vec<u32>, Wrong> {
    let mut seats = numbers.ok_or(("invalid", "`seat_numbers` is missing"))?;
    if seats.len() > SEATS_MAX {
        return Err(("invalid", "`seat_numbers` has too many seats"));
    }
    if seats.contains(&0) {
        return Err(("invalid", "seats are numbered from 1"));
    }
    seats.sort_unstable();
    seats.dedup();
    Ok(seats)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "018f5f00-0000-7000-8000-000000000001";

    fn event() -> EventId {
        EventId(ID.parse().unwrap())
    }

    #[test]
    fn every_command_is_read() {
        let read = |rest: &str| parse(&format!("{{\"type\":{rest}}}")).unwrap();
        let join = read(&format!("\"join\",\"event_id\":\"{ID}\",\"since\":9,\"ref\":\"a\""));
        assert_eq!(join.reference.as_deref(), Some("\"a\""));
        let expected = Command::Join { event: event(), since: Some(9), hold_token: None };
        assert_eq!(join.command, expected);
        let hold = read(&format!(
            "\"hold\",\"event_id\":\"{ID}\",\"seat_numbers\":[3,1,3],\"ref\":7,\"hold_token\":\"t\""
        ));
        assert_eq!(hold.reference.as_deref(), Some("7"));
        let hold_token = Some("t".to_owned());
        assert_eq!(hold.command, Command::Hold { event: event(), seats: vec![1, 3], hold_token });
        assert_eq!(read("\"ping\"").command, Command::Ping);
        assert_eq!(read("\"renew\"").command, Command::Renew(None));
        assert_eq!(read("\"release\",\"ref\":null").command, Command::Release(None));
        let leave = read(&format!("\"leave\",\"event_id\":\"{ID}\""));
        assert_eq!(leave.command, Command::Leave(Some(event())));
    }

    #[test]
    fn what_is_wrong_has_a_code() {
        let id = format!("\"event_id\":\"{ID}\"");
        for (text, code) in [
            (String::new(), "malformed"),
            ("[]".to_owned(), "malformed"),
            ("{".to_owned(), "malformed"),
            ("null".to_owned(), "malformed"),
            ("{}".to_owned(), "malformed"),
            ("{\"type\":1}".to_owned(), "malformed"),
            ("{\"type\":\"ping\",\"type\":\"ping\"}".to_owned(), "malformed"),
            ("{\"type\":\"ping\",\"more\":1}".to_owned(), "malformed"),
            ("{\"type\":\"ping\"} x".to_owned(), "malformed"),
            (format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), "malformed"),
            ("{\"type\":\"dance\"}".to_owned(), "unknown_type"),
            ("{\"type\":\"join\"}".to_owned(), "invalid"),
            ("{\"type\":\"join\",\"event_id\":\"7\"}".to_owned(), "malformed"),
            (format!("{{\"type\":\"hold\",{id}}}"), "invalid"),
            (format!("{{\"type\":\"hold\",{id},\"seat_numbers\":[0]}}"), "invalid"),
            (format!("{{\"type\":\"hold\",{id},\"seat_numbers\":[-1]}}"), "malformed"),
            (format!("{{\"type\":\"hold\",{id},\"seat_numbers\":[1.5]}}"), "malformed"),
            (format!("{{\"type\":\"hold\",{id},\"seat_numbers\":[1],\"since\":1}}"), "invalid"),
            (format!("{{\"type\":\"ping\",{id}}}"), "invalid"),
            ("{\"type\":\"ping\",\"ref\":{}}".to_owned(), "invalid"),
            (format!("{{\"type\":\"ping\",\"ref\":\"{}\"}}", "x".repeat(200)), "invalid"),
            ("{\"type\":\"renew\",\"hold_token\":\"x\"}".to_owned(), "invalid"),
            (format!("{{\"type\":\"join\",{id},\"hold_token\":\"\"}}"), "invalid"),
        ] {
            assert_eq!(parse(&text).unwrap_err().code, code, "{text}");
        }
        let named = parse("{\"type\":\"dance\",\"ref\":5}").unwrap_err();
        assert_eq!(named.reference.as_deref(), Some("5"), "whose frame it was is told");
    }

    proptest! {
        /// Nothing makes it panic, and what it reads keeps to the bounds.
        #[test]
        fn anything_may_come(text in ".{0,200}") {
            check(&text);
        }

        #[test]
        fn almost_good_frames_may_come(
            kind in "join|hold|renew|release|leave|ping|x",
            rest in "(,\"(ref|since|event_id|seat_numbers|hold_token)\"\
                     :(1|-1|null|\"\"|\\[1,2\\]|\\{\\})){0,4}"
        ) {
            check(&format!("{{\"type\":\"{kind}\"{rest}}}"));
        }
    }

    fn check(text: &str) {
        if let Ok(Frame { reference, command }) = parse(text) {
            assert!(reference.is_none_or(|raw| raw.len() <= REFERENCE_MAX));
            if let Command::Hold { seats, .. } = command {
                assert!(seats.is_sorted() && seats.len() <= SEATS_MAX);
            }
        }
    }
}
