//! Every setting: flag, environment variable, key of `broker.toml`, default, meaning.
//!
//! A flag wins over the environment (where `.env` counts as environment), the environment over the file, the file over the
//! default. [`Settings`] is what was said, [`Config`] what is meant by it.

mod file;
mod places;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use self::file::Lines;
pub use self::places::{DestinationSettings, GrantSettings};
use self::places::{MAX_UPLOAD_LIFE, no_type};
use crate::auth::forward::{ForwardSettings, network};
use crate::auth::identify::{Anonymous, AuthConfig};
use crate::auth::jwt::{JwtIssuer, JwtVerifier};
use crate::auth::settings_token::TokenDigest;
use crate::edge::address::TrustedProxies;
use crate::edge::tls::TlsFiles;
use crate::key::KeyTemplate;
use crate::ledger::sqlite_url;
use crate::policy::{Destination, Grantee, MAX_METADATA_LEN, Overwrite, Right, Rule, RuleLimits, is_type};
use crate::principal::{ANONYMOUS, Principal};
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
            /// Where in the file those stand that come from there.
            #[arg(skip)]
            #[serde(skip)]
            pub lines: Lines,
        }

        impl Settings {
            /// These settings, and where they say nothing, the others.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                let mut lines = other.lines;
                $( if self.$name.is_some() { lines.forget(stringify!($name)); } )*
                Self { $( $name: self.$name.or(other.$name), )* lines }
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
    /// Media types that clients may say, separated by commas, image/* for all of a kind [default: any]
    #[arg(long, global = true, env = "BROKER_CONTENT_TYPES", value_name = "TYPES")]
    content_types: String,
    /// Store HTML, SVG, XML and scripts so that browsers run them on the bucket's origin, rather than save them
    #[arg(long, global = true, env = "BROKER_SERVE_ACTIVE_CONTENT", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    serve_active_content: bool,
    /// What becomes of an object that has the key of an upload [default: always, it is overwritten]
    #[arg(long, global = true, env = "BROKER_OVERWRITE", value_name = "RULE")]
    overwrite: Overwrite,
    /// Most bytes of one object [default: what the kind of store takes]
    #[arg(long, global = true, env = "BROKER_MAX_SIZE", value_name = "BYTES")]
    max_size: u64,
    /// Most parts of one upload [default: 10000]
    #[arg(long, global = true, env = "BROKER_MAX_PARTS", value_name = "PARTS")]
    max_parts: u16,
    /// Most bytes of an object's user metadata, names and values together [default: what every store takes, about 2,000]
    #[arg(long, global = true, env = "BROKER_MAX_METADATA", value_name = "BYTES")]
    max_metadata: usize,
    /// Most uploads that one principal has open at once [default: any number]
    #[arg(long, global = true, env = "BROKER_OPEN_UPLOADS", value_name = "UPLOADS")]
    open_uploads: u32,
    /// Most bytes that one principal uploads on one day, UTC [default: any number]
    #[arg(long, global = true, env = "BROKER_BYTES_PER_DAY", value_name = "BYTES")]
    bytes_per_day: u64,
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
    /// Most connections at once; more wait until one ends [default: 4096]
    #[arg(long, global = true, env = "BROKER_MAX_CONNECTIONS", value_name = "CONNECTIONS")]
    max_connections: u32,
    /// Of these, most from one address (IPv6: from 64 bits of it); 0 for any number. Trusted proxies' do not count, nor
    /// this machine's own where no proxies are trusted [default: 256]
    #[arg(long, global = true, env = "BROKER_CONNECTIONS_PER_ADDRESS", value_name = "CONNECTIONS")]
    connections_per_address: u32,
    /// Seconds that a connection is kept for its next request: longer than a proxy in front keeps its own [default: 75]
    #[arg(long, global = true, env = "BROKER_KEEP_ALIVE_SECONDS", value_name = "SECONDS")]
    keep_alive_seconds: u64,
    /// Requests a second of one address (IPv6: of 64 bits of it), twice as many at once; 0 for any number. This machine's own
    /// do not count, unless proxies are trusted [default: 100]
    #[arg(long, global = true, env = "BROKER_RATE_PER_ADDRESS", value_name = "REQUESTS")]
    rate_per_address: u32,
    /// Requests a second of one principal, whatever its addresses, counted likewise; a hundred parts or files, or 16 KiB of a
    /// body, count for one more [default: 500]
    #[arg(long, global = true, env = "BROKER_RATE_PER_PRINCIPAL", value_name = "REQUESTS")]
    rate_per_principal: u32,
    /// Addresses or networks (CIDR) of proxies whose X-Forwarded-For is believed, separated by commas [default: none]
    #[arg(long, global = true, env = "BROKER_TRUSTED_PROXIES", value_name = "NETWORKS")]
    trusted_proxies: String,
    /// Certificate in PEM, with those that lead to a root: the broker then speaks TLS itself. Read again when it changes
    #[arg(long, global = true, env = "BROKER_TLS_CERT", value_name = "FILE")]
    tls_cert: PathBuf,
    /// The certificate's private key in PEM
    #[arg(long, global = true, env = "BROKER_TLS_KEY", value_name = "FILE")]
    tls_key: PathBuf,
    /// Seconds between the signal to stop, when /readyz begins to say so, and the end of listening, for balancers to notice
    /// [default: 0 on loopback, else 5]
    #[arg(long, global = true, env = "BROKER_DRAIN_SECONDS", value_name = "SECONDS")]
    drain_seconds: u64,
    /// Most seconds that requests in flight then get to finish [default: 30]
    #[arg(long, global = true, env = "BROKER_STOP_SECONDS", value_name = "SECONDS")]
    stop_seconds: u64,
    /// Places to upload to, each with rules of its own; `[[destination]]` in the file
    #[arg(skip)]
    destination: Vec<DestinationSettings>,
    /// Who may do what there; `[[grant]]` in the file
    #[arg(skip)]
    grant: Vec<GrantSettings>,
    /// Another issuer whose tokens (JWT) are accepted; `[[jwt]]` in the file
    #[arg(skip)]
    jwt: Vec<JwtIssuer>,
    /// A proxy that authenticates callers; `[forward_auth]` in the file
    #[arg(skip)]
    forward_auth: ForwardSettings,
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
    /// Most connections at once.
    pub max_connections: u32,
    /// Of these, from one address; 0 for any number.
    pub connections_per_address: u32,
    /// How long they are kept for the next request.
    pub keep_alive: Duration,
    /// Requests a second: of an address, of a principal.
    pub rates: (u32, u32),
    /// Whose `X-Forwarded-For` is believed.
    pub proxies: TrustedProxies,
    /// Certificate and key, where the broker speaks TLS.
    pub tls: Option<TlsFiles>,
    /// Between the signal to stop and the end of listening.
    pub drain: Duration,
    /// What requests in flight then get.
    pub stop: Duration,
    /// Buckets that uploads go to; that of the first destination first.
    pub buckets: Vec<String>,
    /// Where uploads go, but for the store's own limits.
    pub destinations: Vec<Destination>,
    /// Who may do what there.
    pub rules: Vec<Rule>,
    /// Who is known, and by what.
    pub auth: AuthConfig,
    /// Whether requests without credentials are served, where that is said.
    pub allow_anonymous: Option<bool>,
    /// Who is told how uploads ended.
    pub webhook: Option<Webhook>,
}

/// What is wrong with the settings: all of it.
#[derive(Debug)]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    fn one(text: impl fmt::Display) -> Self {
        Self(vec![text.to_string()])
    }

    fn all(texts: Vec<String>) -> Self {
        Self(texts)
    }

    /// Each thing by itself.
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return f.write_str(only);
        }
        write!(f, "{} settings are wrong:", self.0.len())?;
        self.0.iter().try_for_each(|text| write!(f, "\n  {text}"))
    }
}

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

/// Where everything is kept unless the settings say otherwise.
pub const DEFAULT_DATA_DIR: &str = "broker-data";
/// Address of the embedded store unless the settings say otherwise.
pub const DEFAULT_STORE_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5001);
/// Bucket of the embedded store.
pub const EMBEDDED_BUCKET: &str = "uploads";

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
            (Some(certificates), Some(key)) => Some(TlsFiles { certificates, key }),
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
                        format!(
                            "the store endpoint {endpoint} is set, but no bucket: name it with --bucket, or unset the endpoint \
                             (--endpoint, BROKER_ENDPOINT, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL) for the embedded store"
                        ),
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
            overwrite: self.overwrite.unwrap_or_default(),
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
            match settings.resolve(top, MAX_URL_LIFE.as_secs()) {
                Ok(destination) if destinations.iter().any(|other| other.name == destination.name) => {
                    wrong.say(&place, format!("there are two destinations {:?}", destination.name));
                }
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
