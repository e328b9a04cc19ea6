//! Fields that only readers with the key may see: AES-256-GCM, one random nonce each, bound to the
//! message and the place where they stand, so that none can be moved to another.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::clock::Ids;
use crate::config::{Auth, Seal};
use crate::domain::ids::MessageId;
use crate::domain::message::Defect;

/// How a sealed field begins; then the key's id, a colon, and nonce and text as base64url.
const PREFIX: &str = "sealed:";
/// The id of the key that is made of the signing secret.
const DERIVED: &str = "signing";

/// The keys. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    /// By their ids; the first one seals.
    keys: Arc<[(String, LessSafeKey)]>,
    ids: Ids,
}

impl Keyring {
    /// The keys of the settings, and the one that follows from the signing secret: it seals while
    /// there is no other.
    ///
    /// # Errors
    /// When the settings name a key that is none.
    pub fn new(seal: &Seal, auth: &Auth, ids: Ids) -> anyhow::Result<Self> {
        let named = seal.parsed().map_err(|rule| anyhow::anyhow!("seal.keys: {rule}"))?;
        let mut keys = Vec::with_capacity(named.len().saturating_add(1));
        for (id, bytes) in named {
            let key = UnboundKey::new(&AES_256_GCM, &bytes);
            let key = key.map_err(|_| anyhow::anyhow!("seal.keys: {id} is not a key"))?;
            keys.push((id, LessSafeKey::new(key)));
        }
        let secret = auth.signing_secret.expose_secret().as_bytes();
        let secret = Salt::new(HKDF_SHA256, b"happening").extract(secret);
        let derived = secret.expand(&[b"fields of messages"], &AES_256_GCM);
        let derived = derived.map_err(|_| anyhow::anyhow!("no key can be derived"))?;
        keys.push((DERIVED.to_owned(), LessSafeKey::new(UnboundKey::from(derived))));
        Ok(Self { keys: keys.into(), ids })
    }

    /// A value as nobody reads it without the key.
    ///
    /// # Errors
    /// When it is larger than the cipher takes (64 GiB).
    pub fn seal(&self, id: MessageId, pointer: &str, value: &Value) -> anyhow::Result<String> {
        let (name, key) = self.keys.first().ok_or_else(|| anyhow::anyhow!("there is no key"))?;
        let nonce = self.ids.nonce();
        let mut text = value.to_string().into_bytes();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(place(id, pointer)),
            &mut text,
        )
        .map_err(|_| anyhow::anyhow!("{pointer} cannot be sealed"))?;
        let mut bytes = nonce.to_vec();
        bytes.append(&mut text);
        Ok(format!("{PREFIX}{name}:{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// What was sealed there.
    ///
    /// # Errors
    /// When it is not sealed, the key is not known any more, or it was sealed for another place.
    pub fn open(&self, id: MessageId, pointer: &str, sealed: &str) -> Result<Value, Defect> {
        let bad = |why: &str| Defect::new(format!("{pointer} cannot be opened: {why}"));
        let rest = sealed.strip_prefix(PREFIX).ok_or_else(|| bad("it is not sealed"))?;
        let (name, bytes) = rest.split_once(':').ok_or_else(|| bad("it is cut off"))?;
        let known = self.keys.iter().find(|(known, _)| known == name);
        let (_, key) = known.ok_or_else(|| bad("its key is not in seal.keys"))?;
        let mut bytes = URL_SAFE_NO_PAD.decode(bytes).map_err(|_| bad("it is not base64url"))?;
        let (nonce, text) =
            bytes.split_at_mut_checked(NONCE_LEN).ok_or_else(|| bad("it is cut off"))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| bad("it is cut off"))?;
        let text = key.open_in_place(nonce, Aad::from(place(id, pointer)), text);
        let text = text.map_err(|_| bad("it was changed, or sealed for another message"))?;
        serde_json::from_slice(text).map_err(|_| bad("it is not JSON"))
    }
}

/// Whether a value looks like a sealed one.
pub fn is_sealed(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with(PREFIX))
}

/// Where a field stands: what it is bound to.
fn place(id: MessageId, pointer: &str) -> Vec<u8> {
    format!("{id}{pointer}").into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;

    const OLD: &str = "old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const NEW: &str = "new:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn keyring(keys: &str) -> Keyring {
        let secret = ("HAPPENING__AUTH__SIGNING_SECRET", "0123456789abcdefghijklmnopqrstuvwxyz");
        let all = [secret, ("HAPPENING__SEAL__KEYS", keys)];
        let all = all.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::from_sources(None, all.into()).unwrap();
        Keyring::new(&config.seal, &config.auth, Ids).unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_at_its_place_only() {
        let keys = keyring(NEW);
        let (id, other) = (MessageId(Ids.uuid()), MessageId(Ids.uuid()));
        for value in [json!("ana@example.com"), json!({"a": [1, null]}), json!("")] {
            let sealed = keys.seal(id, "/email", &value).unwrap();
            assert!(sealed.starts_with("sealed:new:") && !sealed.contains("ana"), "{sealed}");
            assert_ne!(sealed, keys.seal(id, "/email", &value).unwrap());
            assert_eq!(keys.open(id, "/email", &sealed).unwrap(), value);
            assert!(keys.open(other, "/email", &sealed).is_err());
            assert!(keys.open(id, "/phone", &sealed).is_err());
        }
    }

    #[test]
    fn keys_rotate() {
        let id = MessageId(Ids.uuid());
        let before = keyring("").seal(id, "/a", &json!(1)).unwrap();
        let old = keyring(OLD).seal(id, "/a", &json!(2)).unwrap();
        let both = keyring(&format!("{NEW}, {OLD}"));
        let new = both.seal(id, "/a", &json!(3)).unwrap();
        assert!(before.starts_with("sealed:signing:") && new.starts_with("sealed:new:"));
        for (sealed, value) in [(&before, 1), (&old, 2), (&new, 3)] {
            assert_eq!(both.open(id, "/a", sealed).unwrap(), json!(value));
        }
        let gone = keyring(NEW).open(id, "/a", &old).unwrap_err();
        assert!(gone.reason().contains("seal.keys"), "{gone:?}");
    }

    #[test]
    fn whatever_else_stands_there_is_told_and_nothing_panics() {
        let (keys, id) = (keyring(NEW), MessageId(Ids.uuid()));
        let good = keys.seal(id, "/a", &json!("x")).unwrap();
        let cut: Vec<String> = (0..good.len()).map(|end| good[..end].to_owned()).collect();
        let odd = ["", "plain", "sealed:", "sealed::", "sealed:new:%", "sealed:new:AAAA"];
        for bad in cut.iter().map(String::as_str).chain(odd) {
            assert!(keys.open(id, "/a", bad).is_err(), "{bad}");
        }
    }
}
