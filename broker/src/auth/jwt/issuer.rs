//! `[[jwt]]` of the settings file: one issuer whose tokens are accepted, and what they are good for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Url;
use serde::{Deserialize, Deserializer};
use time::Duration;

use super::claims::{Rules, Template, Values};
use super::signature::{Algorithm, Key};
use crate::auth::jwks::Jwks;
use crate::config::Secret;
use crate::policy::is_role;
use crate::webhook::is_loopback;

/// A clock that is further off has to be set right.
const MAX_LEEWAY: u32 = 600;
/// Longest file with a secret in it.
const MAX_SECRET_LEN: usize = 4096;

/// An issuer as the settings file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtIssuer {
    /// The claim `iss`, to the letter.
    pub issuer: String,
    /// What `aud` has to name: this broker, by one of these names.
    pub audience: Values,
    /// Where the issuer publishes its keys.
    pub jwks_url: Option<String>,
    /// A file with the issuer's keys.
    pub jwks_file: Option<PathBuf>,
    /// A secret that issuer and broker share.
    #[serde(default, deserialize_with = "secret")]
    pub secret: Option<Secret>,
    /// A file with that secret.
    pub secret_file: Option<PathBuf>,
    /// How tokens may be signed; RS256, ES256 and EdDSA by published keys, HS256 by a secret.
    #[serde(default)]
    pub algorithms: Vec<Algorithm>,
    /// How a principal is named.
    #[serde(default = "subject")]
    pub principal: String,
    /// The claim that names roles.
    pub roles_claim: Option<String>,
    /// Roles by the values of claims.
    #[serde(default)]
    pub roles: Vec<RoleRule>,
    /// Claims without which a token is refused.
    #[serde(default)]
    pub required_claims: Rules,
    /// Claims with which a token is refused.
    #[serde(default)]
    pub refused_claims: Rules,
    /// By how many seconds the issuer's clock may differ.
    #[serde(default = "leeway")]
    pub leeway: u32,
}

/// A role for tokens whose claims have all of these values.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RoleRule {
    /// The role.
    pub role: String,
    /// The claims.
    pub claims: Rules,
}

fn subject() -> String {
    "{sub}".to_owned()
}

fn leeway() -> u32 {
    60
}

/// A text; the message about anything else does not quote it.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    match toml::Value::deserialize(deserializer) {
        Ok(toml::Value::String(text)) => Ok(Some(Secret(text))),
        _ => Err(serde::de::Error::custom("secret has to be a text in quotes")),
    }
}

/// An issuer as tokens are checked by it.
#[derive(Clone, Debug)]
pub(super) struct Issuer {
    pub(super) name: String,
    pub(super) audience: Vec<String>,
    pub(super) keys: Keys,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) principal: Template,
    pub(super) roles_claim: Option<String>,
    pub(super) roles: Vec<RoleRule>,
    pub(super) required: Rules,
    pub(super) refused: Rules,
    pub(super) leeway: Duration,
}

/// What signatures are checked with.
#[derive(Clone, Debug)]
pub(super) enum Keys {
    Shared(Key),
    Published(Arc<Jwks>),
}

impl JwtIssuer {
    /// All that is wrong with it; files that it names are read for that, the URL is not.
    pub fn check(&self) -> Vec<String> {
        self.resolve().err().unwrap_or_default()
    }

    /// What is meant by these settings.
    pub(super) fn resolve(&self) -> Result<Issuer, Vec<String>> {
        let mut wrong = Vec::new();
        let mut say = |field: &str, text: String| wrong.push(format!("jwt {:?}: {field}: {text}", self.issuer));
        if self.issuer.is_empty() {
            say("issuer", "is empty; expected the tokens' claim iss".to_owned());
        }
        if self.audience.0.is_empty() || self.audience.0.iter().any(String::is_empty) {
            say(
                "audience",
                "is empty; expected the name by which tokens are meant for this broker".to_owned(),
            );
        }
        let algorithms = self.algorithms();
        let keys = self.keys(&algorithms).map_err(|(field, text)| say(field, text)).ok();
        if let Some(algorithm) = self.algorithm_of_another_key() {
            say("algorithms", algorithm);
        }
        let principal = Template::read(&self.principal)
            .map_err(|text| say("principal", text))
            .ok();
        if self.roles_claim.as_deref() == Some("") {
            say("roles_claim", "is empty; leave it out, or name a claim".to_owned());
        }
        for (index, rule) in self.roles.iter().enumerate() {
            if !is_role(&rule.role) {
                say(
                    "roles",
                    format!("rule {}: {:?} is no role's name", index + 1, rule.role),
                );
            }
            if rule.claims.is_empty() {
                say(
                    "roles",
                    format!("rule {}: without claims it gives every token this role", index + 1),
                );
            }
        }
        let of_roles = self.roles.iter().map(|rule| ("roles", &rule.claims));
        let others = [
            ("required_claims", &self.required_claims),
            ("refused_claims", &self.refused_claims),
        ];
        for (field, rules) in of_roles.chain(others) {
            for (claim, _) in rules.iter().filter(|(_, values)| values.0.is_empty()) {
                say(field, format!("{claim} has no values, so nothing could ever meet it"));
            }
        }
        if self.leeway > MAX_LEEWAY {
            say("leeway", format!("is {} s; {MAX_LEEWAY} s are the most", self.leeway));
        }
        match (keys, principal) {
            (Some(keys), Some(principal)) if wrong.is_empty() => Ok(Issuer {
                name: self.issuer.clone(),
                audience: self.audience.0.clone(),
                keys,
                algorithms,
                principal,
                roles_claim: self.roles_claim.clone(),
                roles: self.roles.clone(),
                required: self.required_claims.clone(),
                refused: self.refused_claims.clone(),
                leeway: Duration::seconds(self.leeway.into()),
            }),
            _ => Err(wrong),
        }
    }

    fn by_secret(&self) -> bool {
        self.secret.is_some() || self.secret_file.is_some()
    }

    fn algorithms(&self) -> Vec<Algorithm> {
        match (self.algorithms.is_empty(), self.by_secret()) {
            (true, true) => vec![Algorithm::Hs256],
            (true, false) => vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa],
            (false, _) => self.algorithms.clone(),
        }
    }

    /// An algorithm of the other kind: with both kinds at once a published key could pass for a secret.
    fn algorithm_of_another_key(&self) -> Option<String> {
        let by_secret = self.by_secret();
        let mut other = self.algorithms.iter().filter(|one| one.is_symmetric() != by_secret);
        other.next().map(|_| {
            let (have, need) = if by_secret {
                ("a secret", "HS256, HS384 and HS512")
            } else {
                ("published keys", "RS…, PS…, ES… and EdDSA")
            };
            format!("with {have} only {need} can be used")
        })
    }

    fn keys(&self, algorithms: &[Algorithm]) -> Result<Keys, (&'static str, String)> {
        let published = |made: Result<Jwks, String>, field| match made {
            Ok(jwks) => Ok(Keys::Published(Arc::new(jwks))),
            Err(text) => Err((field, text)),
        };
        match (&self.jwks_url, &self.jwks_file, &self.secret, &self.secret_file) {
            (Some(url), None, None, None) => {
                let url = trusted_url(url).map_err(|text| ("jwks_url", text))?;
                published(Jwks::at_url(&self.issuer, url), "jwks_url")
            }
            (None, Some(file), None, None) => published(Jwks::in_file(&self.issuer, file), "jwks_file"),
            (None, None, Some(Secret(text)), None) => {
                shared(text.as_bytes().to_vec(), algorithms).map_err(|text| ("secret", text))
            }
            (None, None, None, Some(file)) => read_secret(file)
                .and_then(|bytes| shared(bytes, algorithms))
                .map_err(|text| ("secret_file", text)),
            _ => Err((
                "jwks_url",
                "expected exactly one of jwks_url, jwks_file, secret and secret_file".to_owned(),
            )),
        }
    }
}

/// A URL whose answer nobody else can write.
fn trusted_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|_| "is no URL".to_owned())?;
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => Ok(url),
        ("http", Some(host)) if is_loopback(host) => Ok(url),
        _ => Err("expected https, or http to this machine alone (127.0.0.1, [::1], localhost)".to_owned()),
    }
}

fn shared(secret: Vec<u8>, algorithms: &[Algorithm]) -> Result<Keys, String> {
    let least = algorithms
        .iter()
        .map(|one| one.min_secret_len())
        .max()
        .unwrap_or_default();
    if secret.len() < least {
        return Err(format!(
            "is too short: expected at least {least} bytes; make one with: openssl rand -base64 48"
        ));
    }
    Ok(Keys::Shared(Key::secret(secret)))
}

/// What stands in the file, without the end of its line.
fn read_secret(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = std::fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    if bytes.len() > MAX_SECRET_LEN {
        return Err(format!("{} is longer than a secret can be", file.display()));
    }
    while bytes.pop_if(|last| matches!(last, b'\n' | b'\r')).is_some() {}
    Ok(bytes)
}
