//! Every setting: flag, environment variable, key of `broker.toml`, default, meaning.
//!
//! A flag wins over the environment (where `.env` counts as environment), the environment over the file, the file over the
//! default. [`Settings`] is what was said, [`Config`] what is meant by it.

mod file;
mod places;
mod resolve;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use self::file::Lines;
pub use self::places::{DestinationSettings, GrantSettings};
use crate::auth::forward::ForwardSettings;
use crate::auth::identify::AuthConfig;
use crate::auth::jwt::JwtIssuer;
use crate::edge::address::TrustedProxies;
use crate::edge::tls::TlsFiles;
use crate::policy::{Destination, Overwrite, Rule};
use crate::s3::ProfileName;
use crate::sign::{Addressing, Credentials, Endpoint, SignatureVersion};
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
    /// What becomes of an object that has the key of an upload [default: always, it is overwritten; by tickets' holders
    /// same-owner, only what was uploaded with the same ticket]
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
    /// Certificate in PEM, with those that lead to a root: the broker then speaks TLS itself. Read again within ten
    /// seconds of a change
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

impl Config {
    /// By what the broker speaks with its clients.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether requests without credentials may be served, as far as the settings say: a token in the ledger ends it where they
    /// do not say so themselves.
    pub fn may_serve_anonymous(&self) -> bool {
        let open = || !self.auth.knows_somebody() && !self.proxies.are_configured() && self.listen.ip().is_loopback();
        self.allow_anonymous.unwrap_or_else(open)
    }
}

/// What is wrong with the settings: all of it.
#[derive(Debug)]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    fn one(text: impl fmt::Display) -> Self {
        Self::all(vec![text.to_string()])
    }

    fn all(texts: Vec<String>) -> Self {
        // What is quoted of a file may steer a terminal.
        Self(texts.into_iter().map(|text| printable(&text)).collect())
    }

    /// Each thing by itself.
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for one in text.chars() {
        if one.is_control() {
            shown.extend(one.escape_default());
        } else {
            shown.push(one);
        }
    }
    shown
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

/// Where everything is kept unless the settings say otherwise.
pub const DEFAULT_DATA_DIR: &str = "broker-data";
/// Address of the embedded store unless the settings say otherwise.
pub const DEFAULT_STORE_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5001);
/// Bucket of the embedded store.
pub const EMBEDDED_BUCKET: &str = "uploads";

#[cfg(test)]
mod tests {
    use super::*;

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
