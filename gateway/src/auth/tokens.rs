//! Access tokens: JWTs signed with HMAC-SHA-256 by a key that all gateways share.
//!
//! Nothing in a token steers how it is verified: the algorithm is fixed, and `kid` only picks one of our own keys.

use std::collections::HashMap;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use moka::sync::Cache;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};
use shared::domain::{SessionId, Timestamp, parse_uuid};
use uuid::Uuid;

use crate::digest::short_digest;

/// Longest token that is parsed, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4 * 1024;

/// Who issues our tokens, and for whom.
const ISSUER: &str = "roomcast";

/// What a token says it is for (`typ` of RFC 9068).
const TOKEN_TYPE: &str = "at+jwt";

/// By how many seconds the clock of the gateway that issued a token may be ahead of ours. It does not postpone the end of a
/// token.
const LEEWAY_S: i64 = 300;

/// Tokens whose verification is cached, the least used ones leaving first: some 15 MB.
const CACHED: u64 = 100_000;

/// How long the result is kept after its last use. Verifying anew costs microseconds, and a phone with an open stream asks seldom.
const CACHED_FOR: Duration = Duration::from_mins(1);

/// The claims of a token, all of them required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    exp: i64,
    nbf: i64,
    iat: i64,
    #[serde(deserialize_with = "read_uuid")]
    jti: Uuid,
    #[serde(deserialize_with = "read_uuid")]
    sid: Uuid,
}

/// Reads an id in its canonical spelling, and in no other.
fn read_uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    let raw = String::deserialize(deserializer)?;
    parse_uuid(&raw).ok_or_else(|| D::Error::custom("not a UUID as we write it"))
}

impl Claims {
    /// Whether the time of issue can be one: past, and before the token's end.
    fn was_issued_by(&self, now: Timestamp) -> bool {
        (0..=self.exp).contains(&self.iat) && self.iat.max(self.nbf) <= now.seconds() + LEEWAY_S
    }
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was ours and its time is over.
    #[error("the token has expired")]
    Expired,
    /// It is not a token of ours.
    #[error("the token is not valid")]
    Invalid,
}

/// What a verified token says.
#[derive(Debug, Clone, Copy)]
struct Verified {
    session: SessionId,
    /// In seconds since 1970.
    expires_on: i64,
}

/// Issues and verifies tokens.
///
/// A client sends the same token with every request, and a look-up costs a tenth of a verification, so results are cached
/// under the token's SHA-256. Only verified tokens are cached, a token that differs in one character has another digest, and
/// the one thing that can change, whether the token has expired, is checked each time.
pub struct Tokens {
    signing: (Header, EncodingKey),
    verifying: HashMap<String, DecodingKey>,
    validation: Validation,
    ttl: Duration,
    verified: Cache<[u8; 32], Verified>,
}

impl Tokens {
    /// Tokens that live for `ttl`, signed by the first of `keys` and verified by any of them.
    #[must_use]
    pub fn new(keys: &[Vec<u8>], ttl: Duration) -> Self {
        let signing = keys.first().map_or(&[][..], Vec::as_slice);
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = Some(key_id(signing));
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are compared with the clock of the caller, below.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp", "nbf"]);
        Self {
            signing: (header, EncodingKey::from_secret(signing)),
            verifying: keys.iter().map(|key| (key_id(key), DecodingKey::from_secret(key))).collect(),
            validation,
            ttl,
            verified: Cache::builder().max_capacity(CACHED).time_to_idle(CACHED_FOR).build(),
        }
    }

    /// When a session that begins `now` ends.
    #[must_use]
    pub fn expiry(&self, now: Timestamp) -> Timestamp {
        now.plus(self.ttl)
    }

    /// A token for `session` of the user with this public id.
    #[must_use]
    pub fn issue(&self, session: SessionId, public_id: &str, now: Timestamp) -> String {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
            sub: public_id.to_owned(),
            exp: self.expiry(now).seconds(),
            nbf: now.seconds(),
            iat: now.seconds(),
            jti: Uuid::now_v7(),
            sid: session.0,
        };
        let (header, key) = &self.signing;
        jsonwebtoken::encode(header, &claims, key).expect("an HMAC key signs any claims")
    }

    /// The session that a token was issued for. Whether it was revoked is for the session store to say.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<SessionId, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::Invalid);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.verified.get(&digest) {
            return if known.expires_on < now.seconds() {
                Err(Refused::Expired)
            } else {
                Ok(known.session)
            };
        }
        let claims = self.claims(token)?;
        if !claims.was_issued_by(now) {
            return Err(Refused::Invalid);
        }
        if claims.exp < now.seconds() {
            return Err(Refused::Expired);
        }
        let verified = Verified {
            session: SessionId(claims.sid),
            expires_on: claims.exp,
        };
        self.verified.insert(digest, verified);
        Ok(verified.session)
    }

    /// Frees the results for tokens that were not used lately.
    pub fn free_expired(&self) {
        self.verified.run_pending_tasks();
    }

    /// The session and the user's public id of a token of ours, also of an expired one: the device that has it has logged in
    /// before.
    #[must_use]
    pub fn device(&self, token: &str) -> Option<(SessionId, String)> {
        let claims = self.claims(token).ok()?;
        Some((SessionId(claims.sid), claims.sub))
    }

    /// The claims of a token of ours, expired or not.
    fn claims(&self, token: &str) -> Result<Claims, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Invalid)?;
        // A header that asks for more than ours (`crit`, `zip`, `jku` ...) is refused, neither understood nor ignored.
        let ours = Header {
            kid: header.kid.clone(),
            ..self.signing.0.clone()
        };
        if header != ours {
            return Err(Refused::Invalid);
        }
        let key = header.kid.as_ref().and_then(|kid| self.verifying.get(kid)).ok_or(Refused::Invalid)?;
        let token = jsonwebtoken::decode::<Claims>(token, key, &self.validation).map_err(|_| Refused::Invalid)?;
        Ok(token.claims)
    }
}

/// Fingerprints of `keys`, by which gateways find out whether they have the same.
#[must_use]
pub fn fingerprints(keys: &[Vec<u8>]) -> Vec<String> {
    keys.iter().map(|key| key_id(key)).collect()
}

/// Name of a key, which reveals nothing of it.
fn key_id(key: &[u8]) -> String {
    short_digest(&[key])
}

#[cfg(test)]
mod tests;
