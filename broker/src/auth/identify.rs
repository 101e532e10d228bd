//! Whose request it is.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::http::header::{self, AUTHORIZATION};
use actix_web::http::uri::Authority;
use quick_cache::sync::Cache;

use super::bearer::{Bearer, Kind};
use super::forward::ForwardAuth;
use super::jwt::JwtVerifier;
use super::settings_token::TokenDigest;
use crate::app::Broker;
use crate::error::{ApiError, Sent};
use crate::principal::{ANONYMOUS, Credential, Principal};

/// How long the ledger's word on a token or ticket is gone by: one that is revoked elsewhere may be used for so long.
const KEPT: Duration = Duration::from_secs(1);
/// Most of them.
const KEPT_COUNT: usize = 10_000;
/// A longer `Authorization` header is none that the broker could know.
const MAX_HEADER_LEN: usize = 16 * 1024;

/// The ticket that the path of a request names, among its extensions.
#[derive(Clone, Debug)]
pub struct PathTicket(pub Option<Bearer>);

/// How callers are known, as the settings say.
#[derive(Clone, Debug, Default)]
pub struct AuthConfig {
    /// Tokens in the settings.
    pub tokens: Vec<TokenDigest>,
    /// A proxy that authenticates.
    pub forward: Option<ForwardAuth>,
    /// Other issuers whose tokens are accepted.
    pub jwt: Option<Arc<JwtVerifier>>,
    /// Whether requests without credentials are served.
    pub anonymous: Anonymous,
}

/// Whether requests without credentials are served.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Anonymous {
    /// None.
    #[default]
    Never,
    /// While there is nobody whom the broker could know: on loopback, until the first token is made.
    UntilSomebodyIsKnown,
    /// All: the settings say so.
    Always,
}

impl AuthConfig {
    /// The other issuers whose tokens are accepted, each with the names that tokens have to be meant for.
    pub fn issuers(&self) -> impl Iterator<Item = (&str, String)> {
        self.jwt.iter().flat_map(|jwt| jwt.issuers())
    }

    /// The proxies whose word is believed, if there are any.
    pub fn forward_peers(&self) -> Option<String> {
        self.forward.as_ref().map(ForwardAuth::peers)
    }

    /// Whether there is anybody whom the settings let be known.
    pub fn knows_somebody(&self) -> bool {
        !self.tokens.is_empty() || self.forward.is_some() || self.jwt.is_some()
    }
}

/// Whom the broker knows.
#[derive(Debug)]
pub struct Principals {
    config: AuthConfig,
    /// What the ledger has said of a token or ticket, by id.
    kept: Cache<String, Kept>,
    /// When it was last looked whether there has ever been a token, and whether there has.
    looked: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

#[derive(Clone, Debug)]
struct Kept {
    digest: String,
    principal: Principal,
    expires_at: Option<time::OffsetDateTime>,
    since: Instant,
}

impl Principals {
    /// Those of these settings, and of the ledger.
    pub fn new(config: AuthConfig) -> Self {
        Self {
            config,
            kept: Cache::new(KEPT_COUNT),
            looked: tokio::sync::Mutex::default(),
        }
    }

    /// Whether requests without credentials are served.
    pub fn allow_anonymous(&self) -> bool {
        self.config.anonymous != Anonymous::Never
    }

    /// Who sends this request.
    ///
    /// # Errors
    /// [`ApiError::Unauthenticated`], [`ApiError::InvalidCredential`], or the ledger does not answer.
    pub async fn identify(&self, broker: &Broker, request: &HttpRequest) -> Result<Principal, ApiError> {
        let path_ticket = {
            use actix_web::HttpMessage as _;
            request.extensions().get::<PathTicket>().cloned()
        };
        if let Some(PathTicket(ticket)) = path_ticket {
            return match ticket {
                Some(ticket) => self.known(broker, &ticket, Sent::PathTicket).await,
                None => Err(self.unknown(Sent::PathTicket)),
            };
        }
        let peer = request.peer_addr().map(|peer| peer.ip());
        let mut headers = request.headers().get_all(AUTHORIZATION);
        let authorization = headers.next();
        let mut forwarded = None;
        if let Some(forward) = &self.config.forward
            && authorization.is_none_or(|header| !is_bearer(header.as_bytes()))
        {
            // What else stands in the header, such as a password, was for the proxy.
            forwarded = forward.identify(peer, request.headers())?;
        }
        if let Some(header) = authorization.filter(|_| forwarded.is_none()) {
            let alone = headers.next().is_none() && header.len() <= MAX_HEADER_LEN;
            let token = bearer_token(header.as_bytes()).filter(|_| alone);
            let token = token.ok_or_else(|| self.unknown(Sent::Header))?;
            return self.identify_token(broker, token).await;
        }
        let principal = match forwarded {
            Some(principal) => principal,
            None if self.serves_anonymous(broker, request).await? => Principal::named(ANONYMOUS),
            None => return Err(self.unknown(Sent::Nothing)),
        };
        // Neither needs anything that a page of somebody else's could not have the browser send.
        if is_of_another_origin(request) {
            return Err(ApiError::CrossOrigin);
        }
        Ok(principal)
    }

    /// Whether this request, which has no credentials, is served.
    async fn serves_anonymous(&self, broker: &Broker, request: &HttpRequest) -> Result<bool, ApiError> {
        match self.config.anonymous {
            Anonymous::Never => Ok(false),
            Anonymous::Always => Ok(true),
            Anonymous::UntilSomebodyIsKnown => {
                // A page elsewhere can have its own name lead to this machine (DNS rebinding), and then is of the same origin.
                if !is_this_machine(request) {
                    return Err(ApiError::CrossOrigin);
                }
                // A token that was made since ends it, as fast as a revoked one ends.
                let mut looked = self.looked.lock().await;
                if looked.is_none_or(|(at, had)| !had && at.elapsed() >= KEPT) {
                    *looked = Some((Instant::now(), broker.ledger.had_token().await?));
                }
                Ok(!looked.is_some_and(|(_, had)| had))
            }
        }
    }

    async fn identify_token(&self, broker: &Broker, token: &[u8]) -> Result<Principal, ApiError> {
        let text = std::str::from_utf8(token).unwrap_or_default();
        if let Some(bearer) = Bearer::read(text) {
            return self.known(broker, &bearer, Sent::Header).await;
        }
        if let Some(principal) = TokenDigest::find(&self.config.tokens, token) {
            return Ok(principal);
        }
        match &self.config.jwt {
            Some(jwt) if text.split('.').count() == 3 => {
                let verified = jwt.verify(text, broker.clock.now()).await.map_err(|error| {
                    if error.is_unavailable() {
                        ApiError::IssuerUnavailable(error.to_string())
                    } else {
                        ApiError::InvalidCredential(error.to_string())
                    }
                })?;
                Ok(Principal::named(verified.name).with_roles(verified.roles))
            }
            _ => Err(self.unknown(Sent::Header)),
        }
    }

    /// Whose token or ticket this is, if it is one that holds. Unknown, expired and revoked ones get the same answer.
    async fn known(&self, broker: &Broker, bearer: &Bearer, sent: Sent) -> Result<Principal, ApiError> {
        let kept = self.kept.get(&bearer.id).filter(|kept| kept.since.elapsed() < KEPT);
        let kept = if let Some(kept) = kept {
            kept
        } else {
            let found = match bearer.kind {
                Kind::Token => broker.ledger.find_token(&bearer.id).await?.map(|token| Kept {
                    digest: token.digest,
                    principal: Principal::named(token.principal).by(Credential::Token {
                        id: bearer.id.clone(),
                        scope: token.scope,
                    }),
                    expires_at: token.expires_at,
                    since: Instant::now(),
                }),
                Kind::Ticket => broker
                    .ledger
                    .find_ticket(&bearer.id)
                    .await?
                    .map(|(digest, terms)| Kept {
                        digest,
                        expires_at: Some(terms.expires_at),
                        principal: Principal::of_ticket(Arc::new(terms)),
                        since: Instant::now(),
                    }),
            };
            let found = found.ok_or_else(|| self.unknown(sent))?;
            self.kept.insert(bearer.id.clone(), found.clone());
            found
        };
        let now = broker.clock.now();
        if !bearer.is(&kept.digest) || kept.expires_at.is_some_and(|end| end <= now) {
            return Err(self.unknown(sent));
        }
        Ok(kept.principal)
    }

    /// What is kept of this token or ticket holds no longer.
    pub fn forget(&self, id: &str) {
        self.kept.remove(id);
    }

    fn unknown(&self, sent: Sent) -> ApiError {
        ApiError::Unauthenticated {
            sent,
            optional: self.allow_anonymous(),
        }
    }
}

/// Whether the request was sent to this machine by an address or by its own name for itself.
pub(crate) fn is_this_machine(request: &HttpRequest) -> bool {
    let Some(host) = request.headers().get(header::HOST) else {
        // HTTP/1.0, which no browser speaks.
        return true;
    };
    let Ok(host) = host.to_str().unwrap_or_default().parse::<Authority>() else {
        return false;
    };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

/// Whether a browser sends this for a page of another origin than this broker's (RFC 6454 section 7).
fn is_of_another_origin(request: &HttpRequest) -> bool {
    let text = |name: header::HeaderName| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap_or("null"))
    };
    // Browsers that send no Origin with some requests say it in this way; and this one knows the scheme too.
    let site = request
        .headers()
        .get("sec-fetch-site")
        .map(header::HeaderValue::as_bytes);
    if matches!(site, Some(b"cross-site" | b"same-site")) {
        return true;
    }
    let Some(origin) = text(header::ORIGIN) else {
        return false;
    };
    let host = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    host.is_none() || host != text(header::HOST)
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 section 2.1).
fn bearer_token(header: &[u8]) -> Option<&[u8]> {
    let (_, token) = header.split_at_checked("Bearer ".len())?;
    let token = token.trim_ascii();
    (is_bearer(header) && !token.is_empty()).then_some(token)
}

/// Whether the scheme of an `Authorization` is the one that tokens come with.
fn is_bearer(header: &[u8]) -> bool {
    let scheme = header.get(.."Bearer ".len());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Bearer "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_after_the_scheme_and_nowhere_else() {
        assert_eq!(bearer_token(b"Bearer secret"), Some(b"secret".as_slice()));
        assert_eq!(bearer_token(b"bearer  secret "), Some(b"secret".as_slice()));
        for bad in [b"Basic secret".as_slice(), b"Bearer", b"Bearer ", b"", b"secret"] {
            assert_eq!(bearer_token(bad), None);
        }
    }
}
