//! Tokens of other issuers (JWT, RFC 7519, by the advice of RFC 8725).
//!
//! ```text
//! token ─▶ iss, alg, kid ─▶ the issuer's settings ─▶ its keys ─▶ signature ─▶ claims ─▶ name, roles
//!          not believed,     algorithms pinned        jwks         │           exp, aud, required, refused
//!          only looked up                                          └ nothing behind this is read before it holds
//! ```

pub mod claims;
pub mod issuer;
pub mod signature;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize as _;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use claims::{Claims, meets, mentions, named_roles};
use issuer::{Issuer, Keys};
pub use issuer::{JwtIssuer, RoleRule};
use signature::Algorithm;

/// Longest token.
const MAX_LEN: usize = 16 * 1024;

/// Whose tokens are accepted.
#[derive(Debug)]
pub struct JwtVerifier {
    issuers: Vec<Issuer>,
}

/// Whom a token is from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// The principal's name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// The token's `exp`; while the issuer's clock may differ, this may lie a little in the past.
    pub expires_at: OffsetDateTime,
}

/// Why a token is refused. Names claims, never what is in them.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JwtError {
    /// It is too long.
    #[error("the token is longer than {MAX_LEN} bytes")]
    TooLong,
    /// It is no JWT.
    #[error("the token is no signed JWT: expected three parts of base64url, and JSON objects in the first two")]
    Malformed,
    /// Its header has `crit`.
    #[error("the token's header has crit, and this broker knows no critical extensions")]
    Critical,
    /// Nobody whose tokens are accepted.
    #[error("the token's claim iss names no issuer whose tokens are accepted here")]
    Issuer,
    /// Not signed as its issuer signs.
    #[error("the token's header names an algorithm (alg) that is not accepted from its issuer")]
    Algorithm,
    /// It does not say by which key.
    #[error("the token's header names no key (kid), and its issuer has several that it could be signed by")]
    KeyNotNamed,
    /// By none of the issuer's keys.
    #[error("the token is signed by a key (kid) that is not among those of its issuer")]
    UnknownKey,
    /// The signature does not hold.
    #[error("the token's signature does not hold")]
    Signature,
    /// A claim is missing or of the wrong kind.
    #[error("the token's claim {claim} has to be {expected}")]
    Claim {
        /// Which.
        claim: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// It is for somebody else.
    #[error("the token's claim aud does not name this broker")]
    Audience,
    /// It has expired.
    #[error("the token has expired (claim exp); get a new one from its issuer")]
    Expired,
    /// It is not good yet.
    #[error("the token is not good yet (claim nbf); is a clock wrong?")]
    TooEarly,
    /// A claim that has to have a certain value has none of those.
    #[error("the token's claim {0} is missing or has a value that is not accepted here")]
    Required(String),
    /// A claim has a value that it must not have.
    #[error("the token's claim {0} has a value that is refused here")]
    Refused(String),
    /// The claims make no name.
    #[error(
        "the token's claim {0} makes no principal's name: at most 64 letters, digits and . - _ : @, none of the broker's own \
         names, and no character by which the name is put together"
    )]
    Name(String),
    /// The issuer's keys are not to be had: nobody can say whether the token is good.
    #[error("the keys of the token's issuer cannot be had just now; try again in a moment")]
    KeysUnavailable,
}

impl JwtError {
    /// Whether it is not the token's fault, so that the same one may do in a while (503 rather than 401).
    pub fn is_unavailable(&self) -> bool {
        *self == Self::KeysUnavailable
    }
}

/// A token taken apart, of which nothing is to be believed before its signature holds.
struct Token<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    claims: Claims,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes a token apart (RFC 7515 section 5.2).
    fn read(text: &'a str) -> Result<Self, JwtError> {
        let (signed, signature) = text.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed);
        let object = |part: &str| serde_json::from_slice::<Claims>(&bytes(part)?).map_err(|_| JwtError::Malformed);
        let header = object(header)?;
        // An extension that is not understood may say that the token means something else (RFC 7515 section 4.1.11).
        if header.contains_key("crit") {
            return Err(JwtError::Critical);
        }
        let named = header.get("alg").ok_or(JwtError::Algorithm)?;
        let key_id = match header.get("kid") {
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(JwtError::Malformed),
            None => None,
        };
        Ok(Self {
            algorithm: Algorithm::deserialize(named).map_err(|_| JwtError::Algorithm)?,
            key_id,
            claims: object(payload)?,
            signed,
            signature: bytes(signature)?,
        })
    }
}

impl JwtVerifier {
    /// Each issuer and whom its tokens have to be meant for.
    pub fn issuers(&self) -> impl Iterator<Item = (&str, String)> {
        self.issuers
            .iter()
            .map(|issuer| (issuer.name.as_str(), issuer.audience.join(", ")))
    }

    /// Accepts the tokens of these issuers.
    ///
    /// # Errors
    /// All that is wrong with their settings.
    pub fn new(issuers: Vec<JwtIssuer>) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let mut resolved: Vec<Issuer> = Vec::new();
        for settings in issuers {
            match settings.resolve() {
                Ok(issuer) if resolved.iter().any(|other| other.name == issuer.name) => {
                    wrong.push(format!("jwt {:?}: issuer: there are two entries for it", issuer.name));
                }
                Ok(issuer) => resolved.push(issuer),
                Err(texts) => wrong.extend(texts),
            }
        }
        if wrong.is_empty() {
            Ok(Self { issuers: resolved })
        } else {
            Err(wrong)
        }
    }

    /// Whom this token is from.
    ///
    /// # Errors
    /// It is refused, or its issuer's keys are not to be had.
    pub async fn verify(&self, token: &str, now: OffsetDateTime) -> Result<Verified, JwtError> {
        if token.len() > MAX_LEN {
            return Err(JwtError::TooLong);
        }
        let token = Token::read(token)?;
        let named = token.claims.get("iss").and_then(Value::as_str).ok_or(JwtError::Claim {
            claim: "iss",
            expected: "a text",
        })?;
        let mut issuers = self.issuers.iter();
        let issuer = issuers.find(|issuer| issuer.name == named).ok_or(JwtError::Issuer)?;
        if !issuer.algorithms.contains(&token.algorithm) {
            return Err(JwtError::Algorithm);
        }
        issuer.check_signature(&token, now).await?;
        issuer.admit(&token.claims, now)
    }
}

impl Issuer {
    async fn check_signature(&self, token: &Token<'_>, now: OffsetDateTime) -> Result<(), JwtError> {
        let (algorithm, id) = (token.algorithm, token.key_id.as_deref());
        let has_signed = |key: &signature::Key| key.has_signed(algorithm, token.signed.as_bytes(), &token.signature);
        let holds = match &self.keys {
            Keys::Shared(key) => has_signed(key),
            Keys::Published(jwks) => {
                let mut keys = jwks.keys(now).await?;
                if keys.find(algorithm, id).is_empty() {
                    keys = jwks.newer_keys(now).await?;
                }
                match (keys.find(algorithm, id).as_slice(), id) {
                    ([], _) => return Err(JwtError::UnknownKey),
                    ([_, _, ..], None) => return Err(JwtError::KeyNotNamed),
                    (found, _) => found.iter().any(|key| has_signed(key)),
                }
            }
        };
        if holds { Ok(()) } else { Err(JwtError::Signature) }
    }

    /// Whom these claims, which are the issuer's, are about, if they are good for this broker now.
    fn admit(&self, claims: &Claims, now: OffsetDateTime) -> Result<Verified, JwtError> {
        let expires_at = instant(claims, "exp")?.ok_or(JwtError::Claim {
            claim: "exp",
            expected: "a number of seconds since 1970",
        })?;
        // RFC 7519 section 4.1.4: on or after it the token is not accepted.
        if now - self.leeway >= expires_at {
            return Err(JwtError::Expired);
        }
        if instant(claims, "nbf")?.is_some_and(|begin| now + self.leeway < begin) {
            return Err(JwtError::TooEarly);
        }
        let audience = match claims.get("aud") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => {
                return Err(JwtError::Claim {
                    claim: "aud",
                    expected: "a text or a list of them",
                });
            }
        };
        if !self.audience.iter().any(|own| audience.contains(&own.as_str())) {
            return Err(JwtError::Audience);
        }
        let subject = claims.get("sub").and_then(Value::as_str);
        if subject.is_none_or(str::is_empty) {
            return Err(JwtError::Claim {
                claim: "sub",
                expected: "a text",
            });
        }
        if let Some((claim, _)) = self
            .required
            .iter()
            .find(|(claim, values)| !meets(claims, claim, values))
        {
            return Err(JwtError::Required(claim.clone()));
        }
        if let Some((claim, _)) = self
            .refused
            .iter()
            .find(|(claim, values)| mentions(claims, claim, values))
        {
            return Err(JwtError::Refused(claim.clone()));
        }
        let mut roles = named_roles(self.roles_claim.as_deref().and_then(|claim| claims.get(claim)));
        for rule in &self.roles {
            let is_met = rule.claims.iter().all(|(claim, values)| meets(claims, claim, values));
            if is_met && !roles.contains(&rule.role) {
                roles.push(rule.role.clone());
            }
        }
        Ok(Verified {
            name: self.principal.name(claims)?,
            roles,
            expires_at,
        })
    }
}

/// A claim that is a time (RFC 7519 section 2, NumericDate), without its fraction of a second.
fn instant(claims: &Claims, claim: &'static str) -> Result<Option<OffsetDateTime>, JwtError> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let refuse = || JwtError::Claim {
        claim,
        expected: "a number of seconds since 1970",
    };
    // Beyond these bounds is no date; within them a fraction is cut off without loss of the seconds.
    let seconds = value
        .as_f64()
        .filter(|seconds| (0.0..253_402_300_800.0).contains(seconds))
        .ok_or_else(refuse)?;
    Ok(Some(
        OffsetDateTime::UNIX_EPOCH + Duration::seconds_f64(seconds.trunc()),
    ))
}
