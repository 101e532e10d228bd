//! Who asks: a static token's owner, or nobody in particular where that is allowed.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::app::Broker;
use crate::error::ApiError;
use crate::ledger::By;

/// Whoever makes a request, as the broker knows them. Owns uploads by this name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal(String);

impl Principal {
    /// A principal by name.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// A static API token: only the SHA-256 of it is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenDigest {
    principal: Principal,
    sha256: [u8; 32],
}

/// The text is no token setting. Shows the name only: what follows `=` could be a token pasted by mistake.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "token setting for {0:?}: expected NAME=SHA256, the SHA-256 of the token as 64 hexadecimal digits \
     (printf %s \"$TOKEN\" | sha256sum), and a NAME of letters, digits, dot, dash and underscore, other than anonymous"
)]
pub struct TokenError(String);

impl std::str::FromStr for TokenDigest {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, hex) = text.split_once('=').unwrap_or(("", text));
        let refuse = || TokenError(name.to_owned());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        // That one is everybody's.
        let named = name != ANONYMOUS
            && !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(plain)
            && !matches!(name, "." | "..");
        if !named || hex.len() != 64 || !hex.is_ascii() {
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

/// Whom the broker knows.
#[derive(Clone, Debug)]
pub struct Principals {
    tokens: Vec<TokenDigest>,
    anonymous: bool,
}

/// Name of the principal of requests without a token.
pub const ANONYMOUS: &str = "anonymous";

impl Principals {
    /// `anonymous` says whether requests without a token are served.
    pub fn new(tokens: Vec<TokenDigest>, anonymous: bool) -> Self {
        Self { tokens, anonymous }
    }

    /// Whether anybody has a token.
    pub fn know_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Who sends this `Authorization` header, if anybody that is known.
    fn identify(&self, authorization: Option<&[u8]>) -> Option<Principal> {
        let Some(header) = authorization else {
            return self.anonymous.then(|| Principal::named(ANONYMOUS));
        };
        let (scheme, token) = header.split_at_checked("Bearer ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return None;
        }
        let sha256: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
        // Every token is compared, each in constant time.
        let mut found = None;
        for known in &self.tokens {
            if bool::from(known.sha256.ct_eq(&sha256)) {
                found = Some(known.principal.clone());
            }
        }
        found
    }
}

impl FromRequest for Principal {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(principal_of(request))
    }
}

fn principal_of(request: &HttpRequest) -> Result<Principal, ApiError> {
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .map(actix_web::http::header::HeaderValue::as_bytes);
    let principals = request.app_data::<Data<Broker>>().map(|broker| &broker.principals);
    let principal = principals.and_then(|principals| principals.identify(header));
    if let Some(known) = &principal {
        // For the line that the log gets of every request.
        request.extensions_mut().insert(known.clone());
    }
    principal.ok_or_else(|| ApiError::Unauthenticated {
        sent: header.is_some(),
        optional: principals.is_some_and(|principals| principals.anonymous),
    })
}

/// Whoever asks for a change, and from where: what the trail of an upload keeps of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// The other end of the connection, where that is known.
    pub address: Option<IpAddr>,
}

impl Caller {
    /// As the trail tells it.
    pub fn by(&self) -> By {
        By {
            actor: self.principal.name().to_owned(),
            address: self.address,
        }
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(principal_of(request).map(|principal| Self {
            principal,
            // An IPv4 address is told as one, also where the socket takes both kinds.
            address: request.peer_addr().map(|peer| peer.ip().to_canonical()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "secret".
    const DIGEST: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn a_token_names_its_principal_and_anything_else_nobody() {
        let token = format!("alice={DIGEST}").parse().unwrap();
        let principals = Principals::new(vec![token], false);
        assert_eq!(
            principals.identify(Some(b"Bearer secret")),
            Some(Principal::named("alice"))
        );
        assert_eq!(
            principals.identify(Some(b"bearer secret ")),
            Some(Principal::named("alice"))
        );
        for bad in [
            None,
            Some(b"Bearer wrong".as_slice()),
            Some(b"Basic secret"),
            Some(b"Bearer"),
            Some(b""),
        ] {
            assert_eq!(principals.identify(bad), None);
        }
    }

    #[test]
    fn a_wrong_token_is_refused_even_where_no_token_is_needed() {
        let principals = Principals::new(Vec::new(), true);
        assert_eq!(principals.identify(None), Some(Principal::named(ANONYMOUS)));
        assert_eq!(principals.identify(Some(b"Bearer stale")), None);
    }

    #[test]
    fn a_token_pasted_in_place_of_its_digest_is_not_repeated_in_the_error() {
        for bad in [
            "alice=hunter2",
            "hunter2",
            "=hunter2",
            &format!("a b={DIGEST}"),
            &format!("..={DIGEST}"),
        ] {
            let error = bad.parse::<TokenDigest>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
