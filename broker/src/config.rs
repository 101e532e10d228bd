//! Every setting: flag, environment variable, key of `broker.toml`, default, meaning.
//!
//! A flag wins over the environment (where `.env` counts as environment), the environment over the file, the file over the
//! default. [`Settings`] is what was said, [`Config`] what is meant by it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::key::KeyTemplate;
use crate::ledger::sqlite_url;
use crate::policy::Destination;
use crate::principal::{ANONYMOUS, Principal, Principals, TokenDigest};
use crate::s3::{Profile, ProfileName};
use crate::sign::{Addressing, Credentials, Endpoint, MAX_URL_LIFE, SignatureVersion};
use crate::webhook::Webhook;

/// A secret from the file; `Debug` hides it.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

macro_rules! settings {
    ($( $(#[$attribute:meta])* $name:ident: $kind:ty ),* $(,)?) => {
        /// The settings as they were said, each perhaps not at all.
        #[derive(Clone, Debug, Default, clap::Args, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Settings {
            $( $(#[$attribute])* pub $name: Option<$kind>, )*
        }

        impl Settings {
            /// These settings, and where they say nothing, the others.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $( $name: self.$name.or(other.$name), )* }
            }
        }
    };
}

settings! {
    /// Address and port of the broker [default: 127.0.0.1:5000]
    #[arg(long, global = true, env = "BROKER_LISTEN", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Address and port for the operator alone: /metrics, /healthz, /readyz without a token, for no other network than the
    /// operator's [default: none]
    #[arg(long, global = true, env = "BROKER_ADMIN_LISTEN", value_name = "ADDRESS")]
    admin_listen: SocketAddr,
    /// Where the ledger and the embedded store live; made if absent [default: ./broker-data]
    #[arg(long, global = true, env = "BROKER_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// Address and port of the embedded store [default: 127.0.0.1:5001]
    #[arg(long, global = true, env = "BROKER_STORE_LISTEN", value_name = "ADDRESS")]
    store_listen: SocketAddr,
    /// The ledger's database: sqlite:FILE, or postgres://USER:PASSWORD@HOST/DATABASE for several brokers
    /// [default: sqlite:DATA_DIR/ledger.db]
    #[arg(long, global = true, env = "BROKER_LEDGER", value_name = "URL", hide_env_values = true)]
    ledger: String,
    /// Bucket that uploads go to; none and no endpoint: the embedded store
    #[arg(long, global = true, env = "BROKER_BUCKET", value_name = "BUCKET")]
    bucket: String,
    /// Store's endpoint for the broker's own calls [default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the AWS profile's, or Amazon S3]
    #[arg(long, global = true, env = "BROKER_ENDPOINT", value_name = "URL")]
    endpoint: String,
    /// Store's endpoint as clients reach it; part URLs name it [default: the endpoint]
    #[arg(long, global = true, env = "BROKER_PUBLIC_ENDPOINT", value_name = "URL")]
    public_endpoint: String,
    /// Store's region [default: AWS_REGION, the AWS profile's, or us-east-1]
    #[arg(long, global = true, env = "BROKER_REGION", value_name = "REGION")]
    region: String,
    /// Kind of store [default: told by the endpoint's host, else generic]
    #[arg(long, global = true, env = "BROKER_PROFILE", value_name = "KIND")]
    profile: ProfileName,
    /// Signature version of part URLs [default: v4]
    #[arg(long, global = true, env = "BROKER_SIGNATURE", value_name = "VERSION")]
    signature: SignatureVersion,
    /// Where the bucket's name stands in URLs [default: by the kind of store]
    #[arg(long, global = true, env = "BROKER_ADDRESSING", value_name = "STYLE")]
    addressing: Addressing,
    /// Key id of the store credentials; better left to AWS_ACCESS_KEY_ID or a profile
    #[arg(skip)]
    access_key_id: String,
    /// Secret of the store credentials; better left to AWS_SECRET_ACCESS_KEY or a profile
    #[arg(skip)]
    secret_access_key: Secret,
    /// Key id of other credentials that only sign part URLs, and need no more than s3:PutObject
    #[arg(long, global = true, env = "BROKER_SIGNING_ACCESS_KEY_ID", value_name = "ID")]
    signing_access_key_id: String,
    /// Secret of the signing credentials; a flag shows in process lists, so prefer the environment or the file
    #[arg(long, global = true, env = "BROKER_SIGNING_SECRET_ACCESS_KEY", value_name = "SECRET", hide_env_values = true)]
    signing_secret_access_key: Secret,
    /// How object keys are made: {name}, {principal}, {date}, {uuid} [default: {name}]
    #[arg(long, global = true, env = "BROKER_KEY_TEMPLATE", value_name = "TEMPLATE")]
    key_template: String,
    /// Canned ACLs that clients may ask for, separated by commas [default: none; the embedded store: private,public-read]
    #[arg(long, global = true, env = "BROKER_ACLS", value_name = "ACLS")]
    acls: String,
    /// Most bytes of one object [default: what the kind of store takes]
    #[arg(long, global = true, env = "BROKER_MAX_SIZE", value_name = "BYTES")]
    max_size: u64,
    /// Seconds that a part URL of the JSON protocol lives [default: 900]
    #[arg(long, global = true, env = "BROKER_URL_EXPIRES_IN", value_name = "SECONDS")]
    url_expires_in: u64,
    /// Most seconds that a form client may ask its part URLs to live [default: 604800]
    #[arg(long, global = true, env = "BROKER_MAX_URL_EXPIRES_IN", value_name = "SECONDS")]
    max_url_expires_in: u64,
    /// Seconds that an upload stays open [default: 604800]
    #[arg(long, global = true, env = "BROKER_UPLOAD_EXPIRES_IN", value_name = "SECONDS")]
    upload_expires_in: u64,
    /// Make objects of uploads that run out with all their parts stored, rather than delete these
    #[arg(long, global = true, env = "BROKER_FINISH_ABANDONED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    finish_abandoned: bool,
    /// Let callers list and download what lies under their part of the key template [default: only on the embedded store, for
    /// a broker on loopback without tokens]
    #[arg(long, global = true, env = "BROKER_DOWNLOADS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    downloads: bool,
    /// API tokens as NAME=SHA256, separated by commas; only the digest is ever kept
    #[arg(long, global = true, env = "BROKER_TOKENS", value_name = "TOKENS", hide_env_values = true)]
    tokens: String,
    /// URL that is told, by signed requests, how each upload has ended: https, or http to this machine [default: none]
    #[arg(long, global = true, env = "BROKER_WEBHOOK_URL", value_name = "URL", hide_env_values = true)]
    webhook_url: Secret,
    /// What these requests are signed with, 24 bytes or more; a flag shows in process lists, so prefer the environment or the file
    #[arg(long, global = true, env = "BROKER_WEBHOOK_SECRET", value_name = "SECRET", hide_env_values = true)]
    webhook_secret: Secret,
    /// Serve requests without a token even where others can reach this address
    #[arg(long, global = true, env = "BROKER_ALLOW_ANONYMOUS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    allow_anonymous: bool,
}

/// Where objects go.
#[derive(Clone, Debug)]
pub enum StoreChoice {
    /// The store inside the broker.
    Embedded {
        /// Its address.
        listen: SocketAddr,
    },
    /// Amazon S3, or another store at this endpoint.
    External {
        /// As the settings or the AWS configuration name it.
        endpoint: Option<String>,
        /// Fixed credentials from `broker.toml`.
        credentials: Option<Credentials>,
    },
}

/// The settings as they are meant.
#[derive(Clone, Debug)]
pub struct Config {
    /// The broker's address.
    pub listen: SocketAddr,
    /// The operator's.
    pub admin_listen: Option<SocketAddr>,
    /// Ledger and embedded store.
    pub data_dir: PathBuf,
    /// The ledger's URL.
    pub ledger: String,
    /// Where objects go.
    pub store: StoreChoice,
    /// As clients reach the store.
    pub public_endpoint: Option<Endpoint>,
    /// Region, if the settings name one.
    pub region: Option<String>,
    /// Kind of store, if the settings name one.
    pub profile: Option<ProfileName>,
    /// Version of part URLs.
    pub signature: SignatureVersion,
    /// Style of URLs, if the settings name one.
    pub addressing: Option<Addressing>,
    /// Other credentials for part URLs.
    pub signing: Option<Credentials>,
    /// The destination, but for a size limit that the profile knows.
    pub bucket: String,
    /// How keys are made.
    pub key_template: KeyTemplate,
    /// ACLs that may be asked for.
    pub acls: Vec<String>,
    /// Most bytes of one object, if the settings say.
    pub max_size: Option<u64>,
    /// Whether callers may list and download.
    pub downloads: bool,
    /// Whether uploads that run out with all their parts stored become objects.
    pub finish_abandoned: bool,
    /// Life of part URLs of the JSON protocol.
    pub url_life: Duration,
    /// Longest life of part URLs of the form protocol.
    pub max_url_life: Duration,
    /// Life of uploads.
    pub upload_life: Duration,
    /// Who is known.
    pub principals: Principals,
    /// Who is told how uploads ended.
    pub webhook: Option<Webhook>,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

fn wrong(text: impl fmt::Display) -> ConfigError {
    ConfigError(text.to_string())
}

/// Where everything is kept unless the settings say otherwise.
pub const DEFAULT_DATA_DIR: &str = "broker-data";
/// Address of the embedded store unless the settings say otherwise.
pub const DEFAULT_STORE_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5001);
/// Bucket of the embedded store.
pub const EMBEDDED_BUCKET: &str = "uploads";

impl Settings {
    /// Reads `broker.toml`.
    ///
    /// # Errors
    /// The file is not there or not readable, or has a key that is unknown or of the wrong kind.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| wrong(format!("the settings file {} cannot be read: {error}", file.display())))?;
        toml::from_str(&text).map_err(|error| {
            // The parser's message shows the line; a line with a secret in it must not be shown.
            let line = error.span().map_or(0, |span| {
                text.get(..span.start).unwrap_or_default().lines().count().max(1)
            });
            wrong(format!(
                "the settings file {}, line {line}: {}",
                file.display(),
                error.message()
            ))
        })
    }

    /// What is meant by these settings.
    ///
    /// # Errors
    /// The first thing that is wrong, and what to do about it.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let listen = self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 5000)));
        let data_dir = self.data_dir.unwrap_or_else(|| DEFAULT_DATA_DIR.into());
        let from_aws = || {
            ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
                .into_iter()
                .find_map(|name| std::env::var(name).ok())
        };
        let endpoint = self.endpoint.or_else(from_aws).filter(|endpoint| !endpoint.is_empty());
        if let Some(endpoint) = &endpoint {
            endpoint.parse::<Endpoint>().map_err(wrong)?;
        }
        let file_keys = pair(
            "access_key_id",
            self.access_key_id,
            "secret_access_key",
            self.secret_access_key,
        )?;
        let (bucket, store) = match (self.bucket, endpoint) {
            (None, None) => {
                let listen = self.store_listen.unwrap_or(DEFAULT_STORE_LISTEN);
                (EMBEDDED_BUCKET.to_owned(), StoreChoice::Embedded { listen })
            }
            (Some(bucket), endpoint) => (
                bucket,
                StoreChoice::External {
                    endpoint,
                    credentials: file_keys,
                },
            ),
            (None, Some(endpoint)) => {
                return Err(wrong(format!(
                    "the store endpoint {endpoint} is set, but no bucket: name it with --bucket, or unset the endpoint (--endpoint, \
                     BROKER_ENDPOINT, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL) for the embedded store"
                )));
            }
        };
        let embedded = matches!(store, StoreChoice::Embedded { .. });
        let profile = if embedded {
            Some(ProfileName::Embedded)
        } else {
            self.profile
        };
        if let (Some(name), SignatureVersion::V2) = (profile, self.signature.unwrap_or_default())
            && !Profile::of(name).v2
        {
            return Err(wrong(format!(
                "--signature v2: stores of the kind {name:?} take V4 only"
            )));
        }
        let acls = self.acls.unwrap_or_else(|| {
            if embedded {
                "private,public-read".into()
            } else {
                String::new()
            }
        });
        let life = |name: &str, seconds: Option<u64>, default: u64, max: u64| match seconds.unwrap_or(default) {
            seconds if (1..=max).contains(&seconds) => Ok(Duration::from_secs(seconds)),
            seconds => Err(wrong(format!("--{name} {seconds}: expected 1 to {max} seconds"))),
        };
        let week = MAX_URL_LIFE.as_secs();
        let tokens: Vec<TokenDigest> = list(&self.tokens.unwrap_or_default())
            .map(|token| token.parse().map_err(wrong))
            .collect::<Result<_, _>>()?;
        let loopback = listen.ip().is_loopback();
        let anonymous = self.allow_anonymous.unwrap_or(loopback && tokens.is_empty());
        if !anonymous && tokens.is_empty() {
            return Err(wrong(format!(
                "{listen} can be reached from other machines, and anybody there could upload: set --tokens, or \
                 listen on 127.0.0.1, or say --allow-anonymous if that is what you want"
            )));
        }
        let key_template: KeyTemplate = self
            .key_template
            .as_deref()
            .unwrap_or("{name}")
            .parse()
            .map_err(wrong)?;
        let downloads = match self.downloads {
            Some(true) if key_template.prefix(&Principal::named(ANONYMOUS)).is_none() => {
                return Err(wrong(format!(
                    "--downloads: the key template {key_template} does not keep principals apart by whole folders before \
                     {{date}}, {{uuid}} or {{name}}, so that each would see the others' objects; begin it with {{principal}}/"
                )));
            }
            Some(downloads) => downloads,
            None => {
                embedded && loopback && tokens.is_empty() && key_template.prefix(&Principal::named(ANONYMOUS)).is_some()
            }
        };
        Ok(Config {
            ledger: self.ledger.unwrap_or_else(|| sqlite_url(&data_dir.join("ledger.db"))),
            public_endpoint: self
                .public_endpoint
                .as_deref()
                .map(str::parse)
                .transpose()
                .map_err(wrong)?,
            signing: pair(
                "signing_access_key_id",
                self.signing_access_key_id,
                "signing_secret_access_key",
                self.signing_secret_access_key,
            )?,
            key_template,
            downloads,
            finish_abandoned: self.finish_abandoned.unwrap_or_default(),
            acls: list(&acls).map(str::to_owned).collect(),
            url_life: life("url-expires-in", self.url_expires_in, 900, week)?,
            max_url_life: life("max-url-expires-in", self.max_url_expires_in, week, week)?,
            upload_life: life("upload-expires-in", self.upload_expires_in, week, 365 * 24 * 60 * 60)?,
            principals: Principals::new(tokens, anonymous),
            webhook: webhook(self.webhook_url, self.webhook_secret)?,
            region: self.region,
            signature: self.signature.unwrap_or_default(),
            addressing: self.addressing,
            max_size: self.max_size,
            admin_listen: self.admin_listen,
            profile,
            listen,
            data_dir,
            store,
            bucket,
        })
    }
}

impl Config {
    /// The destination's rules, now that the store is known.
    pub fn destination(&self, profile: &Profile, bucket_id: String) -> Destination {
        Destination {
            name: "default".into(),
            bucket: self.bucket.clone(),
            bucket_id,
            key_template: self.key_template.clone(),
            acls: self.acls.clone(),
            downloads: self.downloads,
            finish_abandoned: self.finish_abandoned,
            max_size: self
                .max_size
                .unwrap_or(profile.max_object_size)
                .min(profile.max_object_size),
        }
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
        (Some(_), None) => Err(wrong(format!("{id_name} is set without {secret_name}"))),
        (None, Some(_)) => Err(wrong(format!("{secret_name} is set without {id_name}"))),
    }
}

fn webhook(url: Option<Secret>, secret: Option<Secret>) -> Result<Option<Webhook>, ConfigError> {
    match (url, secret) {
        (None, None) => Ok(None),
        (Some(Secret(url)), Some(Secret(secret))) => Webhook::new(&url, &secret).map(Some).map_err(wrong),
        (Some(_), None) => Err(wrong(
            "--webhook-url is set without --webhook-secret, by which its receiver knows that a request is the broker's",
        )),
        (None, Some(_)) => Err(wrong("--webhook-secret is set without --webhook-url")),
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

    #[test]
    fn a_public_address_without_tokens_is_refused() {
        let open = Settings {
            listen: Some("0.0.0.0:5000".parse().unwrap()),
            ..Settings::default()
        };
        let error = open.clone().resolve().unwrap_err().to_string();
        assert!(error.contains("--tokens"), "{error}");
        assert!(
            Settings {
                allow_anonymous: Some(true),
                ..open
            }
            .resolve()
            .is_ok()
        );
    }

    #[test]
    fn a_typing_error_in_the_file_names_the_line_and_shows_no_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "bucket = \"b\"\nsecret_access_key = hunter2\n").unwrap();
        let error = Settings::read(file.path()).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        std::fs::write(file.path(), "buckett = \"b\"\n").unwrap();
        let error = Settings::read(file.path()).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("buckett"), "{error}");
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let flags = Settings {
            bucket: Some("flag".into()),
            ..Settings::default()
        };
        let file = Settings {
            bucket: Some("file".into()),
            max_size: Some(7),
            ..Settings::default()
        };
        let both = flags.or(file);
        assert_eq!((both.bucket.as_deref(), both.max_size), (Some("flag"), Some(7)));
    }
}
