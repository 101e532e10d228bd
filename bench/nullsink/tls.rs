//! TLS for connections, by a certificate from PEM files.

use std::error::Error;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Who the sink says it is.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ServerConfig>);

impl Tls {
    /// Reads the certificate, with those that vouch for it behind it, and its key.
    pub(crate) fn read(certificate: &str, key: &str) -> Result<Self, Box<dyn Error>> {
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| format!("the certificate {certificate} cannot be read: {error}"))?;
        let key =
            PrivateKeyDer::from_pem_file(key).map_err(|error| format!("the key {key} cannot be read: {error}"))?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Self(Arc::new(config)))
    }

    /// The handshake is made by the first read.
    pub(crate) fn secure(&self, stream: TcpStream) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
        let connection = ServerConnection::new(self.0.clone()).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    }
}
