//! What a message on the bus looks like: CloudEvents 1.0 in JSON. It comes from outside, whoever
//! sent it: nothing in it is believed before it is checked, and nothing in it makes us panic.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::ids::MessageId;
use crate::domain::message::Defect;
use crate::domain::trace_context::TraceContext;

/// Who we are.
pub const SOURCE: &str = "/happening";
/// The end of the year 2999: later times are mistakes, and not all stores take them.
const LATEST: Timestamp = Timestamp::constant(32_503_680_000, 0);
const SPEC: &str = "1.0";
const JSON: &str = "application/json";
const SCHEMAS: &str = "/schemas/";
/// The longest type, in bytes.
const KIND_MAX: usize = 100;
/// The longest other attribute, in bytes.
const TEXT_MAX: usize = 255;

/// A message, with its data as it is read, or as JSON that somebody else has checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope<D = Value> {
    /// Its id for good: the id of its outbox row.
    pub id: MessageId,
    /// Who sent it.
    pub source: String,
    /// Its type, `resource.action`.
    pub kind: String,
    /// What it is about.
    pub subject: Option<String>,
    /// When it happened.
    pub time: Timestamp,
    /// The version of the schema of `data`.
    pub version: u16,
    /// The id of the request that caused it.
    pub correlation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Messages with the same one are dealt with in order.
    pub partition_key: Option<String>,
    /// What it says.
    pub data: D,
}

/// The attributes as they are called on the wire. Unknown ones are other people's affair.
#[derive(Deserialize, Serialize)]
struct Wire<T, D> {
    specversion: T,
    id: T,
    source: T,
    r#type: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<T>,
    time: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<T>,
    dataschema: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partitionkey: Option<T>,
    data: D,
}

impl Envelope {
    /// Reads what was received.
    ///
    /// # Errors
    /// Why it is no message of ours, in words that can be kept.
    pub fn parse(body: &[u8]) -> Result<Self, Defect> {
        let text =
            str::from_utf8(body).map_err(|error| Defect::new(format!("not UTF-8: {error}")))?;
        let wire: Wire<String, Value> = serde_json::from_str(text)
            .map_err(|error| Defect::new(format!("no envelope: {error}")))?;
        if wire.specversion != SPEC {
            return Err(wrong("specversion", "is not 1.0"));
        }
        if wire.datacontenttype.is_some_and(|kind| !is_json(&kind)) {
            return Err(wrong("datacontenttype", "is not application/json"));
        }
        let id = wire.id.parse::<Uuid>().map_err(|_| wrong("id", "is not a UUID"))?;
        let kind = checked("type", wire.r#type, KIND_MAX)?;
        if !is_type(&kind) {
            return Err(wrong("type", "is not resource.action"));
        }
        let time = wire.time.parse().map_err(|_| wrong("time", "is not an RFC 3339 time"))?;
        if !(Timestamp::UNIX_EPOCH..LATEST).contains(&time) {
            return Err(wrong("time", "is not between 1970 and 3000"));
        }
        let version = version(&wire.dataschema, &kind)?;
        if has_nul(&wire.data) {
            return Err(wrong("data", "has a NUL character, which cannot be stored"));
        }
        let text = |name, value: Option<String>| {
            value.map(|value| checked(name, value, TEXT_MAX)).transpose()
        };
        Ok(Self {
            id: MessageId(id),
            source: checked("source", wire.source, TEXT_MAX)?,
            kind,
            subject: text("subject", wire.subject)?,
            time,
            version,
            correlation_id: text("correlationid", wire.correlationid)?,
            // Who traces badly still has something to say.
            traceparent: wire.traceparent.filter(|value| TraceContext::parse(value).is_some()),
            partition_key: text("partitionkey", wire.partitionkey)?,
            data: wire.data,
        })
    }
}

impl<D: Serialize> Envelope<D> {
    /// As it is sent.
    pub fn to_bytes(&self) -> Bytes {
        let (id, time) = (self.id.to_string(), self.time.to_string());
        let schema = format!("{SCHEMAS}{}/{}", self.kind, self.version);
        let wire = Wire {
            specversion: SPEC,
            id: &id,
            source: &self.source,
            r#type: &self.kind,
            subject: self.subject.as_deref(),
            time: &time,
            datacontenttype: Some(JSON),
            dataschema: &schema,
            correlationid: self.correlation_id.as_deref(),
            traceparent: self.traceparent.as_deref(),
            partitionkey: self.partition_key.as_deref(),
            data: &self.data,
        };
        // Text and JSON values always can be written.
        serde_json::to_vec(&wire).unwrap_or_default().into()
    }
}

fn wrong(attribute: &str, what: &str) -> Defect {
    Defect::new(format!("{attribute} {what}"))
}

fn checked(name: &str, value: String, max: usize) -> Result<String, Defect> {
    if value.is_empty() || value.len() > max || value.chars().any(char::is_control) {
        return Err(wrong(name, &format!("is empty, over {max} bytes, or has control characters")));
    }
    Ok(value)
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(JSON)
}

/// Words of small letters, digits and `_`, with dots between them; at least two.
fn is_type(kind: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    kind.contains('.') && kind.split('.').all(is_word)
}

/// `/schemas/interest.changed/1` of the same type.
fn version(schema: &str, kind: &str) -> Result<u16, Defect> {
    schema
        .strip_prefix(SCHEMAS)
        .and_then(|rest| rest.strip_prefix(kind))
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|version| version.parse().ok())
        .filter(|version| *version > 0)
        .ok_or_else(|| wrong("dataschema", "is not /schemas/, the type, and a version"))
}

/// PostgreSQL keeps every JSON but that. (The parser bounds how deep this goes.)
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn wire() -> Value {
        json!({
            "specversion": "1.0",
            "id": "01900000-0000-7000-8000-000000000001",
            "source": "/happening",
            "type": "interest.changed",
            "subject": "events/1",
            "time": "2026-01-02T03:04:05.678Z",
            "datacontenttype": "application/json",
            "dataschema": "/schemas/interest.changed/1",
            "correlationid": "req-1",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "partitionkey": "events/1",
            "data": {"state": "sure"},
        })
    }

    fn parse(wire: &Value) -> Result<Envelope, Defect> {
        Envelope::parse(wire.to_string().as_bytes())
    }

    #[test]
    fn what_is_written_is_as_documented_and_read_back() {
        let envelope = parse(&wire()).unwrap();
        assert_eq!(envelope.version, 1);
        assert_eq!(envelope.kind, "interest.changed");
        let written = envelope.to_bytes();
        assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), wire());
        assert_eq!(Envelope::parse(&written).unwrap(), envelope);
    }

    #[test]
    fn optional_attributes_may_be_missing_and_unknown_ones_be_there() {
        let mut wire = wire();
        let object = wire.as_object_mut().unwrap();
        for name in ["subject", "datacontenttype", "correlationid", "traceparent", "partitionkey"] {
            object.remove(name);
        }
        object.insert("sequence".to_owned(), json!("7"));
        let envelope = parse(&wire).unwrap();
        assert_eq!((envelope.subject, envelope.traceparent), (None, None));
    }

    #[test]
    fn defects_name_what_is_wrong() {
        for (name, value, complaint) in [
            ("specversion", json!("0.3"), "specversion"),
            ("id", json!("7"), "id is not a UUID"),
            ("id", json!(7), "invalid type"),
            ("type", json!("interest"), "type is not"),
            ("type", json!("Interest.Changed"), "type is not"),
            ("type", json!(""), "type is empty"),
            ("type", json!("a.b".repeat(60)), "type is empty, over 100"),
            ("time", json!("yesterday"), "time is not"),
            ("source", json!("a\u{0}b"), "control characters"),
            ("subject", json!("s".repeat(256)), "subject is empty, over 255"),
            ("datacontenttype", json!("text/xml"), "datacontenttype"),
            ("dataschema", json!("/schemas/interest.changed"), "dataschema"),
            ("dataschema", json!("/schemas/post.created/1"), "dataschema"),
            ("dataschema", json!("/schemas/interest.changed/0"), "dataschema"),
            ("dataschema", json!("/schemas/interest.changed/70000"), "dataschema"),
            ("data", json!({"a": ["x\u{0}"]}), "NUL"),
            ("data", json!({"a\u{0}": 1}), "NUL"),
        ] {
            let mut wire = wire();
            wire.as_object_mut().unwrap().insert(name.to_owned(), value);
            let defect = parse(&wire).unwrap_err();
            assert!(defect.reason().contains(complaint), "{name}: {}", defect.reason());
        }
        for name in ["specversion", "id", "source", "type", "time", "dataschema", "data"] {
            let mut wire = wire();
            wire.as_object_mut().unwrap().remove(name);
            let defect = parse(&wire).unwrap_err();
            assert!(defect.reason().contains("missing field"), "{name}: {}", defect.reason());
        }
        assert!(Envelope::parse(b"\xff{}").unwrap_err().reason().contains("not UTF-8"));
        assert!(Envelope::parse(b"").is_err());
        let deep = "[".repeat(100_000);
        assert!(Envelope::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_bad_trace_does_no_harm() {
        for trace in ["", "00-0", "zz-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] {
            let mut wire = wire();
            wire.as_object_mut().unwrap().insert("traceparent".to_owned(), json!(trace));
            assert_eq!(parse(&wire).unwrap().traceparent, None, "{trace}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            Envelope::parse(&body).ok();
        }

        #[test]
        fn no_damage_makes_it_panic(at in 0_usize..400, byte in any::<u8>()) {
            let mut body = wire().to_string().into_bytes();
            let at = at % body.len();
            body[at] = byte;
            if let Ok(envelope) = Envelope::parse(&body) {
                prop_assert_eq!(Envelope::parse(&envelope.to_bytes()).unwrap(), envelope);
            }
        }
    }
}
