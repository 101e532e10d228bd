//! The signatures that a token may have, each with the keys that it goes with (RFC 7518 section 3.1, RFC 8037 section 3.1).

use std::fmt;

use aws_lc_rs::signature::{RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use aws_lc_rs::{hmac, signature as kinds};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// How a token is signed. There is no `none` among them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "named by RFC 7518")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// What kind of key an algorithm needs. One key is never of two kinds, so that no public key passes for a secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Family {
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Algorithm {
    fn family(self) -> Family {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => Family::Secret,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => Family::Rsa,
            Self::Es256 => Family::P256,
            Self::Es384 => Family::P384,
            Self::EdDsa => Family::Ed25519,
        }
    }

    /// Whether both sides hold the same key.
    pub fn is_symmetric(self) -> bool {
        self.family() == Family::Secret
    }

    /// Fewest bytes of a secret for it: as many as the hash has (RFC 7518 section 3.2).
    pub fn min_secret_len(self) -> usize {
        match self {
            Self::Hs384 => 48,
            Self::Hs512 => 64,
            _ => 32,
        }
    }
}

/// What a signature is checked with.
#[derive(Clone)]
pub struct Key {
    family: Family,
    /// The secret, the modulus, or the point.
    bytes: Vec<u8>,
    /// Of RSA keys alone.
    exponent: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A secret that issuer and broker share.
    pub fn secret(bytes: Vec<u8>) -> Self {
        Self::of(Family::Secret, bytes)
    }

    fn of(family: Family, bytes: Vec<u8>) -> Self {
        Self {
            family,
            bytes,
            exponent: Vec::new(),
        }
    }

    /// The public key that a JWK holds (RFC 7517 section 4), if it holds one of a kind that is used here. A secret (`oct`) in
    /// a published set is none.
    pub fn from_jwk(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let sized = |name: &str, len: usize| bytes(name).filter(|bytes| bytes.len() == len);
        let point = |len| Some([vec![4], sized("x", len)?, sized("y", len)?].concat());
        match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                // The shortest encoding (RFC 7518 section 6.3.1.1), which not all issuers keep to.
                let number = |name| {
                    Some(
                        bytes(name)?
                            .into_iter()
                            .skip_while(|byte| *byte == 0)
                            .collect::<Vec<_>>(),
                    )
                };
                let (modulus, exponent) = (number("n")?, number("e")?);
                // Shorter ones can be broken, longer ones cost more than a request may.
                (256..=1024).contains(&modulus.len()).then_some(Self {
                    family: Family::Rsa,
                    bytes: modulus,
                    exponent,
                })
            }
            ("EC", Some("P-256")) => Some(Self::of(Family::P256, point(32)?)),
            ("EC", Some("P-384")) => Some(Self::of(Family::P384, point(48)?)),
            ("OKP", Some("Ed25519")) => Some(Self::of(Family::Ed25519, sized("x", 32)?)),
            _ => None,
        }
    }

    /// Whether signatures by this algorithm can be checked with it.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.family == algorithm.family()
    }

    /// Whether `signature` is this key's over `message`, by this algorithm and no other.
    pub fn has_signed(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        let by_secret = |hash| hmac::verify(&hmac::Key::new(hash, &self.bytes), message, signature).is_ok();
        let by_rsa = |scheme: &'static RsaParameters| {
            let (n, e) = (&self.bytes, &self.exponent);
            RsaPublicKeyComponents { n, e }
                .verify(scheme, message, signature)
                .is_ok()
        };
        let by_point = |scheme: &'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(scheme, &self.bytes)
                .verify(message, signature)
                .is_ok()
        };
        match algorithm {
            Algorithm::Hs256 => by_secret(hmac::HMAC_SHA256),
            Algorithm::Hs384 => by_secret(hmac::HMAC_SHA384),
            Algorithm::Hs512 => by_secret(hmac::HMAC_SHA512),
            Algorithm::Rs256 => by_rsa(&kinds::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => by_rsa(&kinds::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => by_rsa(&kinds::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => by_rsa(&kinds::RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => by_rsa(&kinds::RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => by_rsa(&kinds::RSA_PSS_2048_8192_SHA512),
            Algorithm::Es256 => by_point(&kinds::ECDSA_P256_SHA256_FIXED),
            Algorithm::Es384 => by_point(&kinds::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDsa => by_point(&kinds::ED25519),
        }
    }
}
