//! Tokens that stand in the settings: a principal's name and the SHA-256 of the token.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::principal::{Principal, is_name};

/// A static API token: only the SHA-256 of it is kept.
#[derive(Clone, Debug)]
pub struct TokenDigest {
    principal: Principal,
    sha256: [u8; 32],
}

/// The text is no token setting. Shows the name only: what follows `=` could be a token pasted by mistake.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "token setting for {0:?}: expected NAME=SHA256, the SHA-256 of the token as 64 hexadecimal digits \
     (printf %s \"$TOKEN\" | sha256sum), and a NAME of at most 64 letters, digits and . - _ : @, other than anonymous and sweeper"
)]
pub struct TokenError(String);

impl TokenDigest {
    /// Whose token this is, of all of these, each compared in constant time.
    pub fn find(known: &[Self], token: &[u8]) -> Option<Principal> {
        let sha256: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for known in known {
            if bool::from(known.sha256.ct_eq(&sha256)) {
                found = Some(known.principal.clone());
            }
        }
        found
    }
}

impl std::str::FromStr for TokenDigest {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, hex) = text.split_once('=').unwrap_or(("", text));
        let refuse = || TokenError(name.to_owned());
        if !is_name(name) || hex.len() != 64 || !hex.is_ascii() {
            return Err(refuse());
        }
        let mut sha256 = [0; 32];
        for (place, byte) in sha256.iter_mut().enumerate() {
            let pair = hex.get(2 * place..2 * place + 2).ok_or_else(refuse)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refuse())?;
        }
        Ok(Self {
            principal: Principal::named(name),
            sha256,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "secret".
    const DIGEST: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn a_token_names_its_principal_and_anything_else_nobody() {
        let known = [format!("alice={DIGEST}").parse().unwrap()];
        assert_eq!(TokenDigest::find(&known, b"secret"), Some(Principal::named("alice")));
        for bad in [b"wrong".as_slice(), b"", b"secret "] {
            assert_eq!(TokenDigest::find(&known, bad), None);
        }
    }

    #[test]
    fn a_token_pasted_in_place_of_its_digest_is_not_repeated_in_the_error() {
        for bad in [
            "alice=hunter2",
            "hunter2",
            "=hunter2",
            &format!("a b={DIGEST}"),
            &format!("..={DIGEST}"),
            &format!("sweeper={DIGEST}"),
        ] {
            let error = bad.parse::<TokenDigest>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
