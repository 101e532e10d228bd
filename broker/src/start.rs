//! Puts a broker together by its configuration: store, ledger, signer, policy, HTTP server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::Credentials as SdkCredentials;
use sha2::{Digest as _, Sha256};
use store::Store;

use crate::app::{Broker, Signing, admin_routes, routes, tell, this_machine_only};
use crate::auth::identify::{Anonymous, AuthConfig, Principals};
use crate::config::{Config, StoreChoice};
use crate::deliver::keep_delivering;
use crate::edge::connections::{Allowance, Connections};
use crate::edge::descriptors::{affordable, share};
use crate::edge::rates::{Rates, limit};
use crate::edge::tls::{self, Certificate, TlsError};
use crate::embedded;
use crate::ledger::{Ledger, LedgerError};
use crate::metrics::{Metrics, StoreCalls};
use crate::policy::{Destination, Policy, meeting};
use crate::random::Random;
use crate::s3::{Clock, CredentialSource, Profile, ProfileName, StoreClient, StoreError, StoreErrorKind};
use crate::sign::{Credentials, Endpoint, EndpointError};
use crate::sweep::{self, keep_sweeping};

/// Region of the embedded store, and of stores where nothing names one.
pub const DEFAULT_REGION: &str = "us-east-1";
/// A request's head has this long to come whole.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made or entered.
    #[error("the data directory {path} cannot be used; choose another with --data-dir")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The embedded store does not start.
    #[error("the embedded store does not start (--store-listen gives it another address, --data-dir another place)")]
    Store(#[from] store::StoreError),
    /// The ledger does not open.
    #[error("the ledger does not open")]
    Ledger(#[from] LedgerError),
    /// The address is taken or not this machine's.
    #[error("cannot listen on {listen}; is another broker running? choose another address with --listen")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The same of the operator's address.
    #[error("cannot listen for the operator on {listen}; choose another address with --admin-listen")]
    AdminListen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The endpoint that the AWS configuration names is none.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The SDK has nothing to look credentials up with.
    #[error(
        "no storage credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in AWS_PROFILE"
    )]
    NoCredentials,
    /// The certificate cannot be used.
    #[error("no TLS by --tls-cert and --tls-key")]
    Tls(#[from] TlsError),
    /// The cryptography is not what the program was built for.
    #[error("no TLS: the versions 1.2 and 1.3 cannot be had")]
    TlsVersions(#[source] rustls::Error),
    /// Whoever reached the broker could upload, or nobody.
    #[error(
        "nobody is known to this broker, which would listen on {listen}: make a token with `broker token create NAME`, or say who \
         vouches for callers ([[jwt]], [forward_auth], --tokens); listen on 127.0.0.1 for this machine alone; or say \
         --allow-anonymous true if anybody who reaches it may upload"
    )]
    NobodyKnown {
        /// Its address.
        listen: SocketAddr,
    },
    /// The store answers that there is no such bucket.
    #[error("the store has no bucket {bucket:?}; create it, or name another with --bucket")]
    NoSuchBucket {
        /// The bucket.
        bucket: String,
    },
}

/// A broker that is running.
pub struct Running {
    address: SocketAddr,
    handle: ServerHandle,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    admin: Option<Admin>,
    /// The certificate, where there is one, and what looks after it.
    certificate: Option<(Arc<Certificate>, tokio::task::JoinHandle<()>)>,
    drain: Duration,
    connections: Arc<Connections>,
    ending: tokio::task::JoinHandle<()>,
    sweeper: tokio::task::JoinHandle<()>,
    deliverer: tokio::task::JoinHandle<()>,
    state: Data<Broker>,
    embedded: Option<Store>,
}

/// What answers the operator alone.
struct Admin {
    address: SocketAddr,
    handle: ServerHandle,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for the operator, if it does.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// The embedded store's endpoint, if there is an embedded store.
    pub fn embedded_endpoint(&self) -> Option<String> {
        self.embedded.as_ref().map(Store::endpoint)
    }

    /// The certificate that it speaks TLS by, if it does.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref().map(|(certificate, _)| certificate.as_ref())
    }

    /// What its requests share.
    pub fn state(&self) -> &Data<Broker> {
        &self.state
    }

    /// Lets requests in flight finish, then ends the broker and the embedded store.
    pub async fn stop(self) {
        // Whatever they are at can be left and done again.
        self.state.stopping.store(true, Ordering::Relaxed);
        // Until balancers have seen that it is not ready, requests still come.
        tokio::time::sleep(self.drain).await;
        self.sweeper.abort();
        if let Some((_, looking)) = &self.certificate {
            looking.abort();
        }
        self.deliverer.abort();
        self.connections.stop();
        self.handle.stop(true).await;
        if let Ok(Err(error)) = self.server.await {
            tracing::warn!(error = %error, "the HTTP server ended with an error");
        }
        self.ending.abort();
        // Last, so that the operator sees it end.
        if let Some(admin) = self.admin {
            admin.handle.stop(false).await;
        }
        self.state.ledger.close().await;
        if let Some(store) = self.embedded {
            store.stop().await;
        }
    }
}

/// Starts a broker.
///
/// # Errors
/// What does not start, and why. Nothing is left running.
pub async fn start(config: Config) -> Result<Running, StartError> {
    make_data_dir(&config.data_dir)?;
    let ledger = open_ledger(&config).await?;
    let anonymous = serve_anonymous(&config, &ledger).await?;
    let embedded = match &config.store {
        StoreChoice::Embedded { listen } => Some(embedded::start(&config, *listen).await?),
        StoreChoice::External { .. } => None,
    };
    let state = assemble(
        &config,
        ledger,
        embedded.as_ref().map(Store::endpoint),
        anonymous,
        Clock::default(),
        Random::default(),
    )
    .await?;
    for bucket in &config.buckets {
        match state.store.check_bucket(bucket).await {
            Ok(()) => {}
            Err(StoreError {
                kind: StoreErrorKind::NoSuchBucket,
                ..
            }) => {
                return Err(StartError::NoSuchBucket { bucket: bucket.clone() });
            }
            // A store that is down now may be up later, and HeadBucket needs rights that uploading does not.
            Err(error) => tracing::warn!(%bucket, "the bucket cannot be checked: {error}"),
        }
    }
    for (one, other) in meeting(&config.destinations) {
        tracing::warn!(
            one,
            other,
            "keys of two destinations can meet in one bucket, and what is granted at one then reaches the other's objects"
        );
    }
    let shared = state.clone();
    let listen_error = |source| StartError::Listen {
        listen: config.listen,
        source,
    };
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
    let max_connections = affordable(config.max_connections);
    let allowed = Allowance {
        connections: max_connections,
        per_address: share(config.connections_per_address, max_connections),
        patience: config.keep_alive + HEAD_TIMEOUT,
        proxies: config.proxies.clone(),
    };
    let connections = Connections::new(allowed, state.metrics.connections());
    let entered = Arc::clone(&connections);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .wrap(from_fn(limit))
            .wrap(from_fn(tell))
            .configure(routes)
    })
    .workers(workers)
    .max_connections((max_connections as usize).div_ceil(workers))
    // Handshakes under way: they cost little, and have three seconds. What there may be of them must not be what others wait for.
    .max_connection_rate((max_connections as usize).div_ceil(workers))
    .keep_alive(config.keep_alive)
    .client_request_timeout(HEAD_TIMEOUT)
    .shutdown_timeout(config.stop.as_secs())
    .on_connect(move |stream, extensions| entered.enter(stream, extensions))
    .disable_signals();
    let series = state.metrics.certificate();
    let certificate = config.tls.clone().map(|files| Certificate::read(files, series));
    let certificate = certificate.transpose()?;
    if let Some(certificate) = &certificate {
        tls::tell(certificate.end());
    }
    let server = match &certificate {
        None => server.bind(config.listen),
        Some(certificate) => {
            server.bind_rustls_0_23(config.listen, certificate.server().map_err(StartError::TlsVersions)?)
        }
    };
    let server = server.map_err(listen_error)?;
    let address = server.addrs().first().copied().unwrap_or(config.listen);
    let admin = config
        .admin_listen
        .map(|listen| start_admin(listen, &state))
        .transpose()?;
    let server = server.run();
    let handle = server.handle();
    Ok(Running {
        address,
        handle,
        server: tokio::spawn(server),
        admin,
        certificate: certificate.map(|certificate| {
            let looking = tokio::spawn(Arc::clone(&certificate).keep_looking());
            (certificate, looking)
        }),
        drain: config.drain,
        ending: tokio::spawn(Arc::clone(&connections).keep_ending()),
        connections,
        sweeper: tokio::spawn(keep_sweeping(state.clone(), sweep::INTERVAL)),
        deliverer: tokio::spawn(keep_delivering(state.clone())),
        state,
        embedded,
    })
}

/// Listens for the operator, with a thread of its own: it answers when all others are busy.
fn start_admin(listen: SocketAddr, state: &Data<Broker>) -> Result<Admin, StartError> {
    let shared = state.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .wrap(from_fn(this_machine_only))
            .wrap(from_fn(tell))
            .configure(admin_routes)
    })
    .workers(1)
    .disable_signals()
    .bind(listen)
    .map_err(|source| StartError::AdminListen { listen, source })?;
    let address = server.addrs().first().copied().unwrap_or(listen);
    let server = server.run();
    let handle = server.handle();
    tokio::spawn(server);
    Ok(Admin { address, handle })
}

/// Ledger and store as a broker by this configuration has them, for what is done beside one that runs.
///
/// # Errors
/// What cannot be opened, and why.
pub async fn open(config: &Config) -> Result<Data<Broker>, StartError> {
    open_with(config, Clock::default(), Random::default()).await
}

/// The same, going by this clock and this source of randomness.
///
/// # Errors
/// What cannot be opened, and why.
pub async fn open_with(config: &Config, clock: Clock, random: Random) -> Result<Data<Broker>, StartError> {
    let ledger = open_ledger(config).await?;
    let running = match &config.store {
        StoreChoice::Embedded { listen } => Some(embedded::endpoint(config, *listen)),
        StoreChoice::External { .. } => None,
    };
    assemble(config, ledger, running, false, clock, random).await
}

async fn open_ledger(config: &Config) -> Result<Ledger, LedgerError> {
    let ledger = Ledger::open(&config.ledger).await?;
    Ok(if config.webhook.is_some() {
        ledger.with_outbox()
    } else {
        ledger
    })
}

/// `embedded` is the endpoint of the embedded store, where that is the store.
async fn assemble(
    config: &Config,
    ledger: Ledger,
    embedded: Option<String>,
    anonymous: bool,
    clock: Clock,
    random: Random,
) -> Result<Data<Broker>, StartError> {
    let found = find_store(config, embedded).await?;
    let calls = StoreCalls::default();
    let auth = AuthConfig {
        anonymous: match (anonymous, config.allow_anonymous) {
            (true, Some(true)) => Anonymous::Always,
            (true, _) => Anonymous::UntilSomebodyIsKnown,
            (false, _) => Anonymous::Never,
        },
        ..config.auth.clone()
    };
    Ok(Data::from(Arc::new(Broker {
        policy: Policy {
            destinations: destinations(config, &found),
            rules: config.rules.clone(),
            zero_byte_part: found.profile.zero_byte_part,
            single_put: found.profile.single_put,
            equal_parts: found.profile.equal_parts,
        },
        signing: Signing {
            credentials: CredentialSource::new(found.signing),
            download_credentials: CredentialSource::new(found.own_key),
            version: config.signature,
            region: found.region,
            endpoint: found.public_endpoint,
            addressing: found.addressing,
        },
        principals: Principals::new(auth),
        webhook: config.webhook.clone(),
        rates: Rates::new(config.rates.0, config.rates.1, config.proxies.are_configured()),
        proxies: config.proxies.clone(),
        stopping: AtomicBool::new(false),
        profile: found.profile,
        metrics: Metrics::new(ledger.series(), &calls, clock.now()),
        store: StoreClient::new(
            &found.sdk,
            found.endpoint.as_deref(),
            found.addressing,
            clock.clone(),
            calls,
        ),
        ledger,
        clock,
        random,
    })))
}

/// The destinations, now that the store is known.
fn destinations(config: &Config, found: &Found) -> Vec<Destination> {
    let known = config.destinations.iter().map(|destination| Destination {
        bucket_id: bucket_id(&destination.bucket, found),
        max_size: destination.max_size.min(found.profile.max_object_size),
        ..destination.clone()
    });
    known.collect()
}

/// Whether requests without credentials are served: where nobody has any, and only on this machine unless that is said.
async fn serve_anonymous(config: &Config, ledger: &Ledger) -> Result<bool, StartError> {
    let known = config.auth.knows_somebody() || ledger.has_token().await?;
    let listen = config.listen;
    // Whoever has once made a token, or has a proxy send others' requests here, does not mean everybody to be served.
    let open = !config.proxies.are_configured() && !ledger.had_token().await?;
    match config.allow_anonymous {
        Some(true) => Ok(true),
        Some(false) | None if known => Ok(false),
        None if listen.ip().is_loopback() => Ok(open),
        Some(false) | None => Err(StartError::NobodyKnown { listen }),
    }
}

/// Makes the directory of ledger and embedded store, for its owner alone, if it is not there.
///
/// # Errors
/// [`StartError::DataDir`]
pub fn make_data_dir(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StartError::DataDir {
            path: path.to_owned(),
            source,
        })
}

/// The store in use, as the SDK and the signer need to know it.
struct Found {
    sdk: SdkConfig,
    signing: SharedCredentialsProvider,
    own_key: SharedCredentialsProvider,
    region: String,
    endpoint: Option<String>,
    /// What tells the store from others.
    place: String,
    public_endpoint: Endpoint,
    profile: Profile,
    addressing: crate::sign::Addressing,
}

async fn find_store(config: &Config, embedded: Option<String>) -> Result<Found, StartError> {
    let defaults = || aws_config::defaults(BehaviorVersion::latest());
    let (sdk, endpoint, place) = match &config.store {
        StoreChoice::Embedded { .. } => {
            let keys = embedded::keys(&config.data_dir)?;
            let fixed = provider(&Credentials {
                access_key_id: keys.owner().access_key_id.clone(),
                secret_access_key: keys.owner().secret_access_key.clone(),
                session_token: None,
            });
            // Made at random with the directory: it is another one where that was emptied.
            let place = keys.owner().access_key_id.clone();
            // Neither the user's profile nor the network's metadata service has a say about the embedded store.
            let sdk = defaults()
                .region(Region::from_static(DEFAULT_REGION))
                .credentials_provider(fixed)
                .load()
                .await;
            (sdk, embedded, Some(place))
        }
        StoreChoice::External { endpoint, credentials } => {
            let mut loader = defaults();
            if let Some(region) = &config.region {
                loader = loader.region(Region::new(region.clone()));
            }
            if let Some(credentials) = credentials {
                loader = loader.credentials_provider(provider(credentials));
            }
            let sdk = loader.load().await;
            let endpoint = endpoint.clone().or_else(|| sdk.endpoint_url().map(str::to_owned));
            let sdk = match sdk.region() {
                Some(_) => sdk,
                None => sdk.into_builder().region(Region::from_static(DEFAULT_REGION)).build(),
            };
            (sdk, endpoint.clone(), endpoint)
        }
    };
    let region = sdk.region().map_or(DEFAULT_REGION, AsRef::as_ref).to_owned();
    let control: Endpoint = match &endpoint {
        Some(endpoint) => endpoint.parse()?,
        None if region.starts_with("cn-") => format!("https://s3.{region}.amazonaws.com.cn").parse()?,
        None => format!("https://s3.{region}.amazonaws.com").parse()?,
    };
    let profile = match config.profile {
        Some(name) => Profile::of(name),
        None if endpoint.is_none() => Profile::of(ProfileName::Aws),
        None => Profile::of(Profile::guess(control.authority())),
    };
    let own_key = sdk.credentials_provider().ok_or(StartError::NoCredentials)?;
    let signing = match &config.signing {
        Some(credentials) => provider(credentials),
        None => own_key.clone(),
    };
    Ok(Found {
        addressing: config.addressing.unwrap_or(profile.addressing),
        public_endpoint: config.public_endpoint.clone().unwrap_or(control),
        sdk,
        signing,
        own_key,
        region,
        endpoint,
        place: place.unwrap_or_default(),
        profile,
    })
}

/// What tells the bucket from all others without telling where it is: 16 hexadecimal digits. The embedded store, which may
/// listen elsewhere tomorrow, is known by the key that was made with its directory.
fn bucket_id(bucket: &str, found: &Found) -> String {
    let mut hash = Sha256::new();
    for text in [found.place.as_bytes(), found.region.as_bytes(), bucket.as_bytes()] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let digits = hash.finalize().into_iter().take(8).map(|byte| format!("{byte:02x}"));
    digits.collect()
}

fn provider(credentials: &Credentials) -> SharedCredentialsProvider {
    let Credentials {
        access_key_id,
        secret_access_key,
        session_token,
    } = credentials;
    SharedCredentialsProvider::new(SdkCredentials::new(
        access_key_id,
        secret_access_key,
        session_token.clone(),
        None,
        "broker settings",
    ))
}
