//! What may travel on the bus, at run time: data is checked against the schema of its type before
//! it is published and again when it is consumed, whoever put it there; older versions are lifted
//! to the current one step by step; fields that are nobody's business are sealed.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;
use serde_json::value::RawValue;

use super::seal::{Keyring, is_sealed};
use crate::app::{Error, Result};
use crate::domain::ids::MessageId;
use crate::domain::message::Defect;
use crate::domain::refusal::{FieldError, Refusal};
use crate::domain::stream_type::{ALL, DATA_MAX, Publisher, StreamType};

/// Most faults that are told of one message.
const FAULTS_MAX: usize = 50;
/// Longest detail of one fault, in characters.
const DETAIL_MAX: usize = 300;

/// Lifts data from one version of a type to the next.
#[derive(Clone, Copy, Debug)]
pub struct Upcast {
    /// The type.
    pub kind: &'static str,
    /// The version that it takes; what it makes is the one after.
    pub from: u32,
    /// Takes data that fits the schema of `from`.
    pub lift: fn(Value) -> Value,
}

/// Every upcast. No type has an older version yet.
const UPCASTS: &[Upcast] = &[];

/// A message's data, ready to be written to the outbox.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its type.
    pub kind: StreamType,
    /// JSON text, sealed where the type says so.
    pub payload: String,
    /// By which its order is kept.
    pub partition_key: String,
}

impl Prepared {
    /// The version of its type that it is of: the current one.
    pub fn version(&self) -> i32 {
        i32::try_from(self.kind.version()).unwrap_or(i32::MAX)
    }
}

/// The types with their compiled schemas. Made once; cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    types: Vec<Compiled>,
    upcasts: &'static [Upcast],
    keys: Keyring,
    data_max: usize,
}

struct Compiled {
    kind: StreamType,
    /// By version, the newest first.
    schemas: Vec<(u32, Validator)>,
}

impl Registry {
    /// All types.
    ///
    /// # Errors
    /// When a schema cannot be compiled or an older version has no upcast: our mistake.
    pub fn new(keys: Keyring) -> anyhow::Result<Self> {
        Self::of(ALL, UPCASTS, keys, DATA_MAX)
    }

    /// These types, for tests of what no type of ours needs yet.
    ///
    /// # Errors
    /// The same.
    pub fn of(
        types: &[StreamType],
        upcasts: &'static [Upcast],
        keys: Keyring,
        data_max: usize,
    ) -> anyhow::Result<Self> {
        let compiled = types.iter().map(|kind| compile(kind, upcasts));
        let types = compiled.collect::<anyhow::Result<_>>()?;
        Ok(Self(Arc::new(Inner { types, upcasts, keys, data_max })))
    }

    /// The type of that name.
    pub fn find(&self, name: &str) -> Option<&StreamType> {
        self.compiled(name).map(|compiled| &compiled.kind)
    }

    /// Every type.
    pub fn types(&self) -> impl Iterator<Item = &StreamType> {
        self.0.types.iter().map(|compiled| &compiled.kind)
    }

    /// Whether this publisher may publish this data.
    ///
    /// # Errors
    /// [`Refusal::UnknownType`], [`Refusal::PublisherNotAllowed`], [`Refusal::MessageTooLarge`],
    /// or [`Refusal::Invalid`] with everything that is wrong, each with its pointer.
    pub fn admit(
        &self,
        publisher: Publisher,
        name: &str,
        data: &Value,
    ) -> std::result::Result<&StreamType, Refusal> {
        let compiled = self.compiled(name).ok_or(Refusal::UnknownType)?;
        if !compiled.kind.admits(publisher) {
            return Err(Refusal::PublisherNotAllowed);
        }
        self.fit(compiled, data)
    }

    /// Whether this data may be published by whoever may publish its type.
    fn fit<'a>(
        &self,
        compiled: &'a Compiled,
        data: &Value,
    ) -> std::result::Result<&'a StreamType, Refusal> {
        if data.to_string().len() > self.0.data_max {
            return Err(Refusal::MessageTooLarge { max: self.0.data_max });
        }
        let faults = compiled.faults(compiled.kind.version(), data);
        if faults.is_empty() { Ok(&compiled.kind) } else { Err(Refusal::Invalid(faults)) }
    }

    /// The same, and makes of it what the outbox keeps. `id` is the message's for good: sealed
    /// fields are bound to it.
    ///
    /// # Errors
    /// The same.
    pub fn prepare(
        &self,
        publisher: Publisher,
        name: &str,
        id: MessageId,
        data: Value,
    ) -> Result<Prepared> {
        let kind = *self.admit(publisher, name, &data)?;
        self.sealed(kind, id, data)
    }

    /// The same for a message that takes the place of `old`, whose publisher was checked when that
    /// was made. What is sealed in `data` was sealed for `old`.
    ///
    /// # Errors
    /// The same.
    pub fn replace(
        &self,
        name: &str,
        old: MessageId,
        id: MessageId,
        mut data: Value,
    ) -> Result<Prepared> {
        let compiled = self.compiled(name).ok_or(Refusal::UnknownType)?;
        self.open_sealed(&compiled.kind, old, &mut data)?;
        let kind = *self.fit(compiled, &data)?;
        self.sealed(kind, id, data)
    }

    fn sealed(&self, kind: StreamType, id: MessageId, mut data: Value) -> Result<Prepared> {
        let partition_key = partition_key(&kind, &data);
        self.seal(&kind, id, &mut data).map_err(Error::Fault)?;
        Ok(Prepared { kind, payload: data.to_string(), partition_key })
    }

    /// What a consumer gets of data that came from a stream: opened, of the current version, and
    /// checked before and after it was lifted.
    ///
    /// # Errors
    /// Why it can never be processed.
    pub fn accept(
        &self,
        name: &str,
        version: u32,
        id: MessageId,
        mut data: Value,
    ) -> std::result::Result<Value, Defect> {
        let unknown = || Defect::new(format!("there is no type {name}"));
        let compiled = self.compiled(name).ok_or_else(unknown)?;
        self.open(&compiled.kind, id, &mut data)?;
        compiled.check(version, &data)?;
        if version == compiled.kind.version() {
            return Ok(data);
        }
        let lifted = self.upcast(&compiled.kind, version, data)?;
        compiled.check(compiled.kind.version(), &lifted)?;
        Ok(lifted)
    }

    /// Seals the fields of a type that are to be sealed; what is absent or null stays so.
    ///
    /// # Errors
    /// When the cipher fails.
    pub fn seal(&self, kind: &StreamType, id: MessageId, data: &mut Value) -> anyhow::Result<()> {
        for pointer in kind.encrypted {
            if let Some(field) = data.pointer_mut(pointer).filter(|field| !field.is_null()) {
                *field = Value::String(self.0.keys.seal(id, pointer, field)?);
            }
        }
        Ok(())
    }

    /// Opens them again.
    ///
    /// # Errors
    /// When one was not sealed, or for another message or place, or its key is gone.
    pub fn open(
        &self,
        kind: &StreamType,
        id: MessageId,
        data: &mut Value,
    ) -> std::result::Result<(), Defect> {
        for pointer in kind.encrypted {
            if let Some(field) = data.pointer_mut(pointer).filter(|field| !field.is_null()) {
                let sealed = field.as_str().unwrap_or_default();
                *field = self.0.keys.open(id, pointer, sealed)?;
            }
        }
        Ok(())
    }

    /// Opens those fields that are sealed; others stay as they are.
    fn open_sealed(
        &self,
        kind: &StreamType,
        id: MessageId,
        data: &mut Value,
    ) -> std::result::Result<(), Refusal> {
        for pointer in kind.encrypted {
            if let Some(field) = data.pointer_mut(pointer).filter(|field| is_sealed(field)) {
                let sealed = field.as_str().unwrap_or_default();
                let opened = self.0.keys.open(id, pointer, sealed);
                *field = opened
                    .map_err(|defect| Refusal::invalid(pointer, "sealed", defect.reason()))?;
            }
        }
        Ok(())
    }

    /// Lifts data of an older version to the current one.
    ///
    /// # Errors
    /// When it is of no version that we know.
    pub fn upcast(
        &self,
        kind: &StreamType,
        version: u32,
        mut data: Value,
    ) -> std::result::Result<Value, Defect> {
        for from in version..kind.version() {
            let upcast = self.0.upcasts.iter().find(|up| up.kind == kind.name && up.from == from);
            let none = || Defect::new(format!("{} has no version {version}", kind.name));
            data = (upcast.ok_or_else(none)?.lift)(data);
        }
        Ok(data)
    }

    fn compiled(&self, name: &str) -> Option<&Compiled> {
        self.0.types.iter().find(|compiled| compiled.kind.name == name)
    }
}

impl Compiled {
    /// Everything that is wrong with data of that version.
    fn faults(&self, version: u32, data: &Value) -> Vec<FieldError> {
        let Some((_, schema)) = self.schemas.iter().find(|(known, _)| *known == version) else {
            let detail = format!("{} has no version {version}", self.kind.name);
            return vec![FieldError::new("", "unknown_version", detail)];
        };
        schema.iter_errors(data).flat_map(|error| fault(&error)).take(FAULTS_MAX).collect()
    }

    fn check(&self, version: u32, data: &Value) -> std::result::Result<(), Defect> {
        let faults = self.faults(version, data);
        if faults.is_empty() {
            return Ok(());
        }
        let told = |fault: &FieldError| format!("{}: {}", fault.pointer, fault.detail);
        let told: Vec<String> = faults.iter().map(told).collect();
        let schema = self.kind.data_schema(version);
        Err(Defect::new(format!("does not fit {schema}: {}", told.join("; "))))
    }
}

/// The value by which the order of messages is kept; the same for all if it is missing.
pub fn partition_key(kind: &StreamType, data: &Value) -> String {
    match data.pointer(kind.partition_key) {
        Some(Value::String(key)) => key.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// The same of data that is still text: members beside the one that is meant are passed over.
pub fn partition_key_of(kind: &StreamType, data: &str) -> String {
    let name = kind.partition_key.strip_prefix('/').filter(|name| !name.contains(['/', '~']));
    let Some(name) = name else {
        let data: Value = serde_json::from_str(data).unwrap_or_default();
        return partition_key(kind, &data);
    };
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(data).unwrap_or_default();
    match members.get(name).map(|member| serde_json::from_str(member.get())) {
        Some(Ok(Value::String(key))) => key,
        Some(Ok(other)) => other.to_string(),
        Some(Err(_)) | None => String::new(),
    }
}

fn compile(kind: &StreamType, upcasts: &[Upcast]) -> anyhow::Result<Compiled> {
    let mut schemas = Vec::new();
    for schema in kind.schemas() {
        let what = || format!("schema {}", kind.data_schema(schema.version));
        let text: Value = serde_json::from_str(schema.text).with_context(what)?;
        let validator = jsonschema::options().should_validate_formats(true).offline().build(&text);
        schemas.push((schema.version, validator.map_err(|e| anyhow::anyhow!("{}: {e}", what()))?));
        let lifted = schema.version == kind.version()
            || upcasts.iter().any(|up| up.kind == kind.name && up.from == schema.version);
        anyhow::ensure!(lifted, "{} has no upcast", what());
    }
    Ok(Compiled { kind: *kind, schemas })
}

/// What a validator says, in our words; the value itself is left out: it may be large, or a
/// secret.
fn fault(error: &ValidationError<'_>) -> Vec<FieldError> {
    let at = error.instance_path().as_str();
    let inside = |name: &str| format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
    if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() {
        let known = |name: &String| {
            let detail = "is not a member of this type";
            FieldError::new(&bounded(&inside(name)), "unknown_field", detail)
        };
        return unexpected.iter().map(known).collect();
    }
    if let ValidationErrorKind::Required { property } = error.kind() {
        let name = property.as_str().unwrap_or_default();
        return vec![FieldError::new(&inside(name), "required", "is missing")];
    }
    let code = match error.kind().keyword() {
        "type" => "wrong_type",
        "enum" | "const" => "unknown",
        "maxLength" => "too_long",
        "minLength" => "too_short",
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => "out_of_range",
        "format" => "wrong_format",
        "pattern" => "invalid_characters",
        _ => "invalid",
    };
    vec![FieldError::new(at, code, bounded(&error.masked().to_string()))]
}

fn bounded(text: &str) -> String {
    text.chars().take(DETAIL_MAX).collect()
}

#[cfg(test)]
mod tests;
