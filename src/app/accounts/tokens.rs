//! Access tokens: short-lived JWTs that every request can be checked against without asking the
//! database. One algorithm, one key, and every claim required.

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::app::Result;
use crate::clock::Clock;
use crate::config;
use crate::domain::account::{Caller, UserRole};
use crate::domain::ids::UserId;

const ISSUER: &str = "happening";
const AUDIENCE: &str = "happening-api";
/// Tells these from any other token that the same key may come to sign.
const TYPE: &str = "access";

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    role: String,
    iat: i64,
    exp: i64,
    typ: String,
}

/// Whom an access token proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Who.
    pub user_id: UserId,
    /// What they may do on the instance.
    pub role: UserRole,
    /// Since when, to the second.
    pub issued_at: Timestamp,
}

/// Somebody who signed in may do all that they may.
impl From<Proof> for Caller {
    fn from(proof: Proof) -> Self {
        Self { user_id: proof.user_id, role: proof.role, scopes: None }
    }
}

/// Signs and checks access tokens. Cheap to clone.
#[derive(Clone)]
pub struct AccessTokens(Arc<Inner>);

struct Inner {
    sign: EncodingKey,
    check: DecodingKey,
    rules: Validation,
    lifetime_seconds: u32,
    clock: Clock,
}

impl AccessTokens {
    /// Signs with the configured secret.
    pub fn new(config: &config::Auth, clock: Clock) -> Self {
        let secret = config.signing_secret.expose_secret().as_bytes();
        // The algorithm is ours, never the token's (`none`, RS/HS confusion).
        let mut rules = Validation::new(Algorithm::HS256);
        // jsonwebtoken checks an audience or issuer only if it is there: so they must be.
        rules.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        // The expiry is compared here, with our clock and without leeway.
        rules.validate_exp = false;
        Self(Arc::new(Inner {
            sign: EncodingKey::from_secret(secret),
            check: DecodingKey::from_secret(secret),
            rules,
            lifetime_seconds: config.access_token_seconds,
            clock,
        }))
    }

    /// How long a token is good for, in seconds.
    pub fn lifetime_seconds(&self) -> u32 {
        self.0.lifetime_seconds
    }

    /// A token for that person from now on.
    ///
    /// # Errors
    /// A fault if it cannot be signed.
    pub fn issue(&self, user_id: UserId, role: UserRole) -> Result<String> {
        let iat = self.0.clock.now().as_second();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user_id.0,
            role: role.name().to_owned(),
            iat,
            exp: iat.saturating_add(self.0.lifetime_seconds.into()),
            typ: TYPE.to_owned(),
        };
        let token = encode(&Header::new(Algorithm::HS256), &claims, &self.0.sign);
        Ok(token.map_err(anyhow::Error::from)?)
    }

    /// Whom the token proves now; `None` for anything that is not good.
    pub fn prove(&self, token: &str) -> Option<Proof> {
        let claims = decode::<Claims>(token, &self.0.check, &self.0.rules).ok()?.claims;
        if claims.typ != TYPE || claims.exp <= self.0.clock.now().as_second() {
            return None;
        }
        Some(Proof {
            user_id: UserId(claims.sub),
            role: UserRole::parse(&claims.role)?,
            issued_at: Timestamp::from_second(claims.iat).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "an-unguessable-secret-for-tests-0123456789";

    fn tokens(clock: &Clock) -> AccessTokens {
        let config = config::Auth {
            signing_secret: SECRET.into(),
            access_token_seconds: 900,
            refresh_token_days: 30,
            hashing_concurrency: 1,
            hashing_queue: 1,
            invitation_days: 14,
        };
        AccessTokens::new(&config, clock.clone())
    }

    fn clock() -> Clock {
        Clock::manual("2026-03-01T10:00:00Z".parse().unwrap())
    }

    fn user() -> UserId {
        UserId(Uuid::from_u128(7))
    }

    fn good(clock: &Clock) -> Value {
        let now = clock.now().as_second();
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": user().0, "role": "user",
               "iat": now, "exp": now + 900, "typ": TYPE})
    }

    fn signed(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    #[test]
    fn a_token_proves_whom_it_was_issued_to_until_it_expires() {
        let clock = clock();
        let tokens = tokens(&clock);
        let token = tokens.issue(user(), UserRole::Admin).unwrap();
        let proof = tokens.prove(&token).unwrap();
        assert_eq!((proof.user_id, proof.role), (user(), UserRole::Admin));
        assert_eq!(proof.issued_at, clock.now());
        clock.advance(SignedDuration::from_secs(899));
        assert!(tokens.prove(&token).is_some());
        clock.advance(SignedDuration::from_secs(1));
        assert!(tokens.prove(&token).is_none());
    }

    #[test]
    fn every_claim_is_required_and_must_be_right() {
        let clock = clock();
        let tokens = tokens(&clock);
        assert!(tokens.prove(&signed(Algorithm::HS256, SECRET, &good(&clock))).is_some());
        for claim in ["iss", "aud", "sub", "role", "iat", "exp", "typ"] {
            let mut claims = good(&clock);
            claims.as_object_mut().unwrap().remove(claim);
            assert!(tokens.prove(&signed(Algorithm::HS256, SECRET, &claims)).is_none(), "{claim}");
            for wrong in [json!("other"), json!(-1), json!(null), json!([]), json!(1e300)] {
                let mut claims = good(&clock);
                claims[claim] = wrong.clone();
                let token = signed(Algorithm::HS256, SECRET, &claims);
                let harmless = claim == "iat" && wrong == json!(-1);
                assert!(harmless || tokens.prove(&token).is_none(), "{claim}: {wrong}");
            }
        }
    }

    #[test]
    fn the_algorithm_and_the_key_are_ours() {
        let clock = clock();
        let tokens = tokens(&clock);
        let claims = good(&clock);
        assert!(tokens.prove(&signed(Algorithm::HS384, SECRET, &claims)).is_none());
        assert!(tokens.prove(&signed(Algorithm::HS512, SECRET, &claims)).is_none());
        assert!(tokens.prove(&signed(Algorithm::HS256, "another-secret", &claims)).is_none());
        let token = signed(Algorithm::HS256, SECRET, &claims);
        let (_, rest) = token.split_once('.').unwrap();
        let (payload, _) = rest.split_once('.').unwrap();
        for header in [
            "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", // {"alg":"none","typ":"JWT"}
            "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9", // {"alg":"RS256","typ":"JWT"}
            "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9", // {"alg":"ES256","typ":"JWT"}
        ] {
            assert!(tokens.prove(&format!("{header}.{payload}.")).is_none());
            assert!(tokens.prove(&format!("{header}.{rest}")).is_none());
        }
        for broken in ["", ".", "..", "a.b.c", "hk_x", &token[..token.len() - 1], payload] {
            assert!(tokens.prove(broken).is_none(), "{broken}");
        }
    }
}
