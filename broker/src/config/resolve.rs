//! What is meant by the settings; or all that is wrong with them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::file::Lines;
use super::places::{MAX_UPLOAD_LIFE, no_acl, no_type, nothing};
use super::{
    Config, ConfigError, DEFAULT_DATA_DIR, DEFAULT_STORE_LISTEN, EMBEDDED_BUCKET, Secret, Settings, StoreChoice,
};
use crate::auth::forward::network;
use crate::auth::identify::{Anonymous, AuthConfig};
use crate::auth::jwt::JwtVerifier;
use crate::auth::settings_token::TokenDigest;
use crate::edge::address::TrustedProxies;
use crate::edge::tls::{Certificate, CertificateSeries, TlsFiles};
use crate::key::KeyTemplate;
use crate::ledger::{check_url, sqlite_url};
use crate::policy::{Destination, Grantee, MAX_METADATA_LEN, Right, Rule, RuleLimits, is_acl, is_type};
use crate::principal::{ANONYMOUS, Principal};
use crate::s3::{Profile, ProfileName};
use crate::sign::{Credentials, Endpoint, MAX_URL_LIFE, SignatureVersion};
use crate::webhook::Webhook;

/// Collects what is wrong, so that all of it is told at once.
struct Wrong {
    lines: Lines,
    texts: Vec<String>,
}

impl Wrong {
    fn say(&mut self, key: &str, text: impl fmt::Display) {
        self.texts.push(self.lines.locate(key, text.to_string()));
    }

    fn say_all(&mut self, key: &str, texts: &[String]) {
        for text in texts {
            self.say(key, text);
        }
    }

    /// What there is, or what stands in for it, so that the rest can be looked at too.
    fn or<T, E: fmt::Display>(&mut self, key: &str, result: Result<T, E>, otherwise: impl FnOnce() -> T) -> T {
        result.unwrap_or_else(|error| {
            self.say(key, error);
            otherwise()
        })
    }
}

impl Settings {
    /// What is meant by these settings.
    ///
    /// # Errors
    /// All that is wrong, and what to do about it.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let mut wrong = Wrong {
            texts: self.lines.wrong.clone(),
            lines: self.lines.clone(),
        };
        let listen = self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 5000)));
        let data_dir = self.data_dir.clone().unwrap_or_else(|| DEFAULT_DATA_DIR.into());
        let (bucket, store) = self.store(&mut wrong);
        let embedded = matches!(store, StoreChoice::Embedded { .. });
        let profile = if embedded {
            Some(ProfileName::Embedded)
        } else {
            self.profile
        };
        if let (Some(name), SignatureVersion::V2) = (profile, self.signature.unwrap_or_default())
            && !Profile::of(name).v2
        {
            wrong.say(
                "signature",
                format!("--signature v2: stores of the kind {name:?} take V4 only"),
            );
        }
        let tokens: Vec<TokenDigest> = list(self.tokens.as_deref().unwrap_or_default())
            .filter_map(|token| match token.parse() {
                Ok(token) => Some(token),
                Err(error) => {
                    wrong.say("tokens", error);
                    None
                }
            })
            .collect();
        let forward = self.forward_auth.as_ref().and_then(|forward| match forward.resolve() {
            Ok(forward) => Some(forward),
            Err(texts) => {
                wrong.say_all("forward_auth", &texts);
                None
            }
        });
        let top = self.top(bucket, embedded, &mut wrong);
        let destinations = self.destinations(&top, &mut wrong);
        let loopback = listen.ip().is_loopback();
        let jwt = self.jwt(&mut wrong);
        let auth = AuthConfig {
            tokens,
            forward,
            jwt,
            anonymous: Anonymous::Never,
        };
        let open_by_default = embedded && loopback && !auth.knows_somebody();
        let rules = self.rules(&destinations, open_by_default, &mut wrong);
        let public_endpoint = self.public_endpoint.as_deref().map(str::parse).transpose();
        let public_endpoint = wrong.or("public_endpoint", public_endpoint, || None);
        let signing = pair(
            "signing_access_key_id",
            self.signing_access_key_id,
            "signing_secret_access_key",
            self.signing_secret_access_key,
        );
        let signing = wrong.or("signing_access_key_id", signing, || None);
        let webhook = wrong.or("webhook_url", webhook(self.webhook_url, self.webhook_secret), || None);
        let mut networks = Vec::new();
        for text in list(self.trusted_proxies.as_deref().unwrap_or_default()) {
            match network(text) {
                Ok(network) => networks.push(network),
                Err(why) => wrong.say("trusted_proxies", format!("--trusted-proxies: {why}")),
            }
        }
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(certificates), Some(key)) => {
                let files = TlsFiles { certificates, key };
                // They are read again when the broker starts, and when they change.
                if let Err(error) = Certificate::read(files.clone(), CertificateSeries::default()) {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                    wrong.say("tls_cert", format!("--tls-cert, --tls-key: {error}{cause}"));
                }
                Some(files)
            }
            (None, None) => None,
            (Some(_), None) => {
                wrong.say("tls_cert", "--tls-cert is set without --tls-key");
                None
            }
            (None, Some(_)) => {
                wrong.say("tls_key", "--tls-key is set without --tls-cert");
                None
            }
        };
        let seconds = |key: &str, seconds: Option<u64>, otherwise: u64, wrong: &mut Wrong| {
            let seconds = seconds.unwrap_or(otherwise);
            if seconds > 3600 {
                let flag = key.replace('_', "-");
                wrong.say(key, format!("--{flag} {seconds}: expected 0 to 3600 seconds"));
            }
            Duration::from_secs(seconds)
        };
        let drain = seconds(
            "drain_seconds",
            self.drain_seconds,
            if loopback { 0 } else { 5 },
            &mut wrong,
        );
        let stop = seconds("stop_seconds", self.stop_seconds, 30, &mut wrong);
        let keep_alive = seconds("keep_alive_seconds", self.keep_alive_seconds, 75, &mut wrong);
        if let Some(Err(error)) = self.ledger.as_deref().map(check_url) {
            wrong.say("ledger", error);
        }
        if self.max_connections == Some(0) {
            wrong.say("max_connections", "--max-connections 0: expected 1 or more");
        }
        if !wrong.texts.is_empty() {
            return Err(ConfigError::all(wrong.texts));
        }
        // The first destination's is the one that is told about.
        let mut buckets: Vec<String> = Vec::new();
        for destination in &destinations {
            if !buckets.contains(&destination.bucket) {
                buckets.push(destination.bucket.clone());
            }
        }
        Ok(Config {
            ledger: self.ledger.unwrap_or_else(|| sqlite_url(&data_dir.join("ledger.db"))),
            max_connections: self.max_connections.unwrap_or(4096),
            connections_per_address: self.connections_per_address.unwrap_or(256),
            keep_alive,
            rates: (
                self.rate_per_address.unwrap_or(100),
                self.rate_per_principal.unwrap_or(500),
            ),
            proxies: TrustedProxies::new(networks),
            tls,
            drain,
            stop,
            public_endpoint,
            signing,
            destinations,
            rules,
            auth,
            allow_anonymous: self.allow_anonymous,
            webhook,
            region: self.region,
            signature: self.signature.unwrap_or_default(),
            addressing: self.addressing,
            admin_listen: self.admin_listen,
            profile,
            listen,
            data_dir,
            store,
            buckets,
        })
    }

    /// The other issuers, if there are any.
    fn jwt(&self, wrong: &mut Wrong) -> Option<Arc<JwtVerifier>> {
        let issuers = self.jwt.as_ref()?;
        let before = wrong.texts.len();
        for (index, issuer) in issuers.iter().enumerate() {
            wrong.say_all(&format!("jwt {index}"), &issuer.check());
        }
        if wrong.texts.len() > before {
            return None;
        }
        match JwtVerifier::new(issuers.clone()) {
            Ok(verifier) => Some(Arc::new(verifier)),
            Err(texts) => {
                wrong.say_all("jwt", &texts);
                None
            }
        }
    }

    /// The store, and the bucket that is meant where a destination names none.
    fn store(&self, wrong: &mut Wrong) -> (String, StoreChoice) {
        let from_aws = || {
            ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
                .into_iter()
                .find_map(|name| std::env::var(name).ok())
        };
        let endpoint = self.endpoint.clone().or_else(from_aws);
        let endpoint = endpoint.filter(|endpoint| !endpoint.is_empty());
        if let Some(Err(error)) = endpoint.as_ref().map(|endpoint| endpoint.parse::<Endpoint>()) {
            wrong.say("endpoint", error);
        }
        let file_keys = pair(
            "access_key_id",
            self.access_key_id.clone(),
            "secret_access_key",
            self.secret_access_key.clone(),
        );
        let credentials = wrong.or("access_key_id", file_keys, || None);
        let in_destinations = || {
            let mut named = self
                .destination
                .iter()
                .flatten()
                .map(|destination| destination.bucket.clone());
            named.next().flatten()
        };
        match (self.bucket.clone(), endpoint) {
            (None, None) => {
                let listen = self.store_listen.unwrap_or(DEFAULT_STORE_LISTEN);
                (EMBEDDED_BUCKET.to_owned(), StoreChoice::Embedded { listen })
            }
            (Some(bucket), endpoint) => (bucket, StoreChoice::External { endpoint, credentials }),
            (None, Some(endpoint)) => {
                let bucket = in_destinations().unwrap_or_else(|| {
                    wrong.say(
                        "endpoint",
                        "a store's endpoint is set, but no bucket: name it with --bucket, or unset the endpoint (--endpoint, \
                         BROKER_ENDPOINT, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL) for the embedded store",
                    );
                    EMBEDDED_BUCKET.to_owned()
                });
                let endpoint = Some(endpoint);
                (bucket, StoreChoice::External { endpoint, credentials })
            }
        }
    }

    /// What the settings at the top say of destinations.
    fn top(&self, bucket: String, embedded: bool, wrong: &mut Wrong) -> Destination {
        let mut life = |key: &str, seconds: Option<u64>, default: u64, max: u64| {
            let seconds = seconds.unwrap_or(default);
            if !(1..=max).contains(&seconds) {
                let flag = key.replace('_', "-");
                wrong.say(key, format!("--{flag} {seconds}: expected 1 to {max} seconds"));
            }
            Duration::from_secs(seconds)
        };
        let week = MAX_URL_LIFE.as_secs();
        let url_life = life("url_expires_in", self.url_expires_in, 900, week);
        let max_url_life = life("max_url_expires_in", self.max_url_expires_in, week, week);
        let upload_life = life("upload_expires_in", self.upload_expires_in, week, MAX_UPLOAD_LIFE);
        let template = |text: &str| text.parse::<KeyTemplate>();
        let key_template = match template(self.key_template.as_deref().unwrap_or("{name}")) {
            Ok(key_template) => key_template,
            Err(error) => {
                wrong.say("key_template", error);
                KeyTemplate::default()
            }
        };
        let acls = self
            .acls
            .as_deref()
            .unwrap_or(if embedded { "private,public-read" } else { "" });
        let content_types: Vec<String> = list(self.content_types.as_deref().unwrap_or_default())
            .map(str::to_owned)
            .collect();
        for acl in list(acls).filter(|acl| !is_acl(acl)) {
            wrong.say("acls", format!("--{}", no_acl(acl)));
        }
        if self.max_size == Some(0) {
            wrong.say("max_size", format!("--{}", nothing("max-size")));
        }
        for kind in content_types.iter().filter(|kind| !is_type(kind)) {
            wrong.say("content_types", format!("--{}", no_type(kind).replace('_', "-")));
        }
        let max_parts = self.max_parts.unwrap_or(shared::PartNumber::MAX);
        if !(1..=shared::PartNumber::MAX).contains(&max_parts) {
            wrong.say("max_parts", format!("--max-parts {max_parts}: expected 1 to 10000"));
        }
        let max_metadata = self.max_metadata.unwrap_or(MAX_METADATA_LEN);
        if max_metadata > MAX_METADATA_LEN {
            let text = format!("--max-metadata {max_metadata}: expected 0 to {MAX_METADATA_LEN} bytes");
            wrong.say("max_metadata", text);
        }
        Destination {
            name: "default".into(),
            bucket,
            bucket_id: String::new(),
            key_template,
            acls: list(acls).map(str::to_owned).collect(),
            content_types,
            serve_active_content: self.serve_active_content.unwrap_or_default(),
            max_size: self.max_size.unwrap_or(u64::MAX),
            max_parts,
            max_metadata,
            url_life,
            max_url_life,
            upload_life,
            overwrite: self.overwrite,
            finish_abandoned: self.finish_abandoned.unwrap_or_default(),
        }
    }

    /// Those of the file, or the one that the settings at the top describe.
    fn destinations(&self, top: &Destination, wrong: &mut Wrong) -> Vec<Destination> {
        let Some(listed) = &self.destination else {
            return vec![top.clone()];
        };
        let mut destinations: Vec<Destination> = Vec::new();
        for (index, settings) in listed.iter().enumerate() {
            let place = format!("destination {index}");
            if listed.iter().take(index).any(|other| other.name == settings.name) {
                wrong.say(&place, format!("there are two destinations {:?}", settings.name));
            }
            match settings.resolve(top, MAX_URL_LIFE.as_secs()) {
                Ok(destination) => destinations.push(destination),
                Err(texts) => wrong.say_all(&place, &texts),
            }
        }
        if listed.is_empty() {
            wrong.say(
                "destination",
                "destination is empty: leave it out, or describe one in [[destination]]",
            );
        }
        destinations
    }

    /// Those of the file; without any, everybody known may upload.
    fn rules(&self, destinations: &[Destination], open_by_default: bool, wrong: &mut Wrong) -> Vec<Rule> {
        let limits = RuleLimits {
            max_size: None,
            open_uploads: self.open_uploads,
            bytes_per_day: self.bytes_per_day,
        };
        if self.lines.unusable.contains("destination") {
            return Vec::new();
        }
        for (key, limit) in [
            ("open_uploads", self.open_uploads.map(u64::from)),
            ("bytes_per_day", self.bytes_per_day),
        ] {
            if limit == Some(0) {
                wrong.say(key, format!("--{}", nothing(&key.replace('_', "-"))));
            }
        }
        if let Some(grants) = &self.grant {
            if let Some(key) = [
                ("downloads", self.downloads.is_some()),
                ("open_uploads", self.open_uploads.is_some()),
                ("bytes_per_day", self.bytes_per_day.is_some()),
            ]
            .into_iter()
            .find_map(|(key, is_set)| is_set.then_some(key))
            {
                let flag = key.replace('_', "-");
                wrong.say(
                    key,
                    format!("--{flag} is for brokers without [[grant]] in the file; say it there"),
                );
            }
            let mut rules = Vec::new();
            for (index, grant) in grants.iter().enumerate() {
                match grant.resolve(destinations) {
                    Ok(rule) => rules.push(rule),
                    Err(texts) => wrong.say_all(&format!("grant {index}"), &texts),
                }
            }
            return rules;
        }
        let anybody = Principal::named(ANONYMOUS);
        let apart = |destination: &Destination| destination.key_template.prefix(&anybody).is_some();
        let downloads = match self.downloads {
            Some(true) => {
                if let Some(destination) = destinations.iter().find(|destination| !apart(destination)) {
                    let template = &destination.key_template;
                    wrong.say(
                        "downloads",
                        format!(
                            "--downloads: the key template {template} does not keep principals apart by whole folders before \
                             {{date}}, {{uuid}} or {{name}}, so that each would see the others' objects; begin it with {{principal}}/"
                        ),
                    );
                }
                true
            }
            Some(false) => false,
            None => open_by_default && destinations.iter().all(apart),
        };
        let may = |more: &[Right]| {
            let mut may = vec![Right::Upload];
            may.extend_from_slice(more);
            if downloads {
                may.extend([Right::List, Right::Download]);
            }
            may
        };
        let rule = |grantee, may| Rule {
            to: vec![grantee],
            destinations: Vec::new(),
            may,
            limits,
        };
        vec![
            rule(Grantee::Everybody, may(&[Right::Tickets])),
            rule(Grantee::Named(ANONYMOUS.to_owned()), may(&[])),
        ]
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn pair(
    id_name: &str,
    id: Option<String>,
    secret_name: &str,
    secret: Option<Secret>,
) -> Result<Option<Credentials>, ConfigError> {
    match (id, secret) {
        (None, None) => Ok(None),
        (Some(access_key_id), Some(Secret(secret_access_key))) => Ok(Some(Credentials {
            access_key_id,
            secret_access_key,
            session_token: None,
        })),
        (Some(_), None) => Err(ConfigError::one(format!("{id_name} is set without {secret_name}"))),
        (None, Some(_)) => Err(ConfigError::one(format!("{secret_name} is set without {id_name}"))),
    }
}

fn webhook(url: Option<Secret>, secret: Option<Secret>) -> Result<Option<Webhook>, ConfigError> {
    match (url, secret) {
        (None, None) => Ok(None),
        (Some(Secret(url)), Some(Secret(secret))) => Webhook::new(&url, &secret).map(Some).map_err(ConfigError::one),
        (Some(_), None) => Err(ConfigError::one(
            "--webhook-url is set without --webhook-secret, by which its receiver knows that a request is the broker's",
        )),
        (None, Some(_)) => Err(ConfigError::one("--webhook-secret is set without --webhook-url")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_needs_both_url_and_secret() {
        let (url, secret) = (
            Secret("https://example.org/hunter2".into()),
            Secret("hunter2".repeat(9)),
        );
        for (url, secret) in [(Some(url.clone()), None), (None, Some(secret.clone()))] {
            let error = webhook(url, secret).unwrap_err().to_string();
            assert!(error.starts_with("--webhook-") && !error.contains("hunter2"), "{error}");
        }
        assert!(webhook(Some(url), Some(secret)).unwrap().is_some());
    }
}
