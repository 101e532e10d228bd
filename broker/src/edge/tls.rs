//! TLS by certificate files, which are read again when they change: a certificate is renewed without a restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_cert::der::Decode as _;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Where certificate and key are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFiles {
    /// The certificate, and those that lead from it to a root, in PEM.
    pub certificates: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Why there is no TLS by these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{file} cannot be read as PEM")]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// There is no certificate in the file.
    #[error("{0} has no certificate in it")]
    NoCertificate(PathBuf),
    /// Key and certificate cannot be used together, or at all.
    #[error("the certificate {certificates} and the key {key} cannot be used together")]
    Pair {
        /// The certificate's file.
        certificates: PathBuf,
        /// The key's.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// When the certificate in use ends; nothing where there is none. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct CertificateSeries(Family<[(&'static str, &'static str); 0], Gauge>);

impl CertificateSeries {
    /// Under its name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When the certificate of --tls-cert ends, in seconds since 1970",
            Unit::Seconds,
            self.0.clone(),
        );
    }

    fn ends(&self, at: OffsetDateTime) {
        self.0.get_or_create(&[]).set(at.unix_timestamp());
    }
}

/// The certificate in use.
#[derive(Debug)]
pub struct Certificate {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: RwLock<(Arc<CertifiedKey>, Stamp)>,
    series: CertificateSeries,
}

/// When the two files were changed.
type Stamp = [Option<SystemTime>; 2];

impl Certificate {
    /// Reads it, and tells of its end by `series`.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn read(files: TlsFiles, series: CertificateSeries) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let stamp = stamp(&files);
        let key = load(&files, &provider)?;
        if let Some(end) = end_of(&key) {
            series.ends(end);
        }
        Ok(Arc::new(Self {
            files,
            provider,
            current: RwLock::new((key, stamp)),
            series,
        }))
    }

    /// When it ends, where it says so in a way that can be read.
    pub fn end(&self) -> Option<OffsetDateTime> {
        end_of(&self.current.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// What a server needs: TLS 1.2 and 1.3, HTTP/1.1.
    ///
    /// # Errors
    /// The cryptography does not speak these versions.
    pub fn server(self: &Arc<Self>) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone());
        let builder = builder.with_safe_default_protocol_versions()?;
        Ok(builder.with_no_client_auth().with_cert_resolver(Arc::clone(self) as _))
    }

    /// Reads the files again if they have changed. What cannot be used is told in the log, and what was in use stays.
    pub fn look(&self) {
        let now = stamp(&self.files);
        if self.current.read().unwrap_or_else(PoisonError::into_inner).1 == now {
            return;
        }
        match load(&self.files, &self.provider) {
            Ok(key) => {
                let end = end_of(&key);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = (key, now);
                if let Some(end) = end {
                    self.series.ends(end);
                }
                tell(end);
            }
            // Perhaps only one of the two has been written yet.
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, source, "the certificate before stays in use");
            }
        }
    }

    /// Looks at the files for as long as it is polled, and when the signal HUP comes.
    pub async fn keep_looking(self: Arc<Self>) {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut every = tokio::time::interval(LOOK);
        loop {
            let told = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = every.tick() => {}
                _ = told => {}
            }
            self.look();
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current.0))
    }
}

/// Tells the log until when the certificate in use is good.
pub fn tell(end: Option<OffsetDateTime>) {
    let until = end.and_then(|end| end.format(&Rfc3339).ok());
    if end.is_some_and(|end| end <= OffsetDateTime::now_utc()) {
        tracing::error!(
            until,
            "the certificate of --tls-cert has ended: clients will not talk to this broker"
        );
    } else {
        tracing::info!(until, "TLS by the certificate of --tls-cert");
    }
}

/// The end of the server's own certificate (RFC 5280 section 4.1.2.5).
fn end_of(key: &CertifiedKey) -> Option<OffsetDateTime> {
    let certificate = x509_cert::Certificate::from_der(key.end_entity_cert().ok()?).ok()?;
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    Some(OffsetDateTime::UNIX_EPOCH + end)
}

fn stamp(files: &TlsFiles) -> Stamp {
    let changed = |file: &Path| std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
    [changed(&files.certificates), changed(&files.key)]
}

fn load(files: &TlsFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let unread = |file: &Path| {
        let file = file.to_owned();
        |source| TlsError::File { file, source }
    };
    let certificates = CertificateDer::pem_file_iter(&files.certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unread(&files.certificates))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(files.certificates.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unread(&files.key))?;
    let pair = CertifiedKey::from_der(certificates, key, provider);
    pair.map(Arc::new).map_err(|source| TlsError::Pair {
        certificates: files.certificates.clone(),
        key: files.key.clone(),
        source,
    })
}
