//! What a store is told at its start: where its data are, where it listens, whom it trusts.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::error::StoreError;

/// The region that the S3 protocol takes for granted where none is named.
pub const DEFAULT_REGION: &str = "us-east-1";
/// Least bytes of every part but the last, as on AWS (S3 User Guide, "Multipart upload limits").
pub const MIN_PART_SIZE: u64 = 5 * shared::MIB;

/// The one key pair that may do everything with the store.
#[derive(Clone, Deserialize, Serialize)]
pub struct Credentials {
    /// Names the key; part of every signed URL, so not a secret.
    pub access_key_id: String,
    /// Signs. Never logged; `Debug` hides it.
    pub secret_access_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// New credentials: 20 characters of key id, 40 of secret (200 random bits).
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn random() -> Result<Self, StoreError> {
        Ok(Self {
            access_key_id: format!("EK{}", random_text::<18>()?),
            secret_access_key: random_text::<40>()?,
        })
    }

    /// The credentials in the file at `path`; where there is none, new ones, written there for the next time with mode 0600.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, StoreError> {
        match fs::read(path) {
            Ok(bytes) => Self::parse(path, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let credentials = Self::random()?;
                match credentials.save(path) {
                    Ok(()) => Ok(credentials),
                    // Another process was first: its file is the one that stays.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        let bytes = fs::read(path).map_err(|source| unusable("read", path, source))?;
                        Self::parse(path, &bytes)
                    }
                    Err(source) => Err(unusable("write", path, source)),
                }
            }
            Err(source) => Err(unusable("read", path, source)),
        }
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        let wrong = || StoreError::Credentials { path: path.to_owned() };
        let credentials: Self = serde_json::from_slice(bytes).map_err(|_| wrong())?;
        let id = &credentials.access_key_id;
        if !(3..=128).contains(&id.len())
            || !id.bytes().all(|byte| byte.is_ascii_alphanumeric())
            || credentials.secret_access_key.len() < 8
            // No more than tools take without quoting: the secret is told in `export` lines.
            || !credentials.secret_access_key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/+=_-.".contains(&byte))
        {
            return Err(wrong());
        }
        if fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
            warn!(path = %path.display(), "other users of this machine can read the store's credentials; chmod 600 the file");
        }
        Ok(credentials)
    }

    /// Writes all of the file under another name and links it into place: nobody ever sees half of it.
    fn save(&self, path: &Path) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let draft = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::hard_link(&draft, path)
        })();
        let _ = fs::remove_file(&draft);
        written
    }
}

fn unusable(doing: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Directory {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// `N` characters, each one of 32 that no tool needs to escape.
fn random_text<const N: usize>() -> Result<String, StoreError> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
    Ok(bytes
        .iter()
        .filter_map(|byte| ALPHABET.get(usize::from(byte % 32)))
        .map(|byte| char::from(*byte))
        .collect())
}

/// How to run a store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where the data are; created if absent. One process at a time may serve it.
    pub dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The region that V4 signatures must name.
    pub region: String,
    /// Who may do everything.
    pub credentials: Credentials,
    /// Buckets that shall exist; created if absent.
    pub buckets: Vec<String>,
    /// Whether data are on the disk before the answer says so. Without it a power cut can take what was answered 200,
    /// or damage the index so that the store is lost; the end of the process cannot.
    pub sync: bool,
    /// Least bytes of every part but the last; [`MIN_PART_SIZE`], or less for tests.
    pub min_part_size: u64,
}

impl StoreConfig {
    /// A store in `dir` as most want it: a free port of 127.0.0.1, `us-east-1`, no buckets, synced, AWS's part size.
    pub fn new(dir: PathBuf, credentials: Credentials) -> Self {
        Self {
            dir,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            region: DEFAULT_REGION.to_owned(),
            credentials,
            buckets: Vec::new(),
            sync: true,
            min_part_size: MIN_PART_SIZE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_made_once_and_only_their_owner_can_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/credentials.json");
        let first = Credentials::load_or_create(&path).unwrap();
        let again = Credentials::load_or_create(&path).unwrap();
        assert_eq!(first.secret_access_key, again.secret_access_key);
        assert_eq!(first.secret_access_key.len(), 40);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "a draft was left"
        );
    }

    #[test]
    fn a_file_that_holds_no_credentials_is_refused_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.json");
        fs::write(
            &path,
            "{\"access_key_id\": \"a/b\", \"secret_access_key\": \"long enough\"}",
        )
        .unwrap();
        assert!(matches!(
            Credentials::load_or_create(&path),
            Err(StoreError::Credentials { .. })
        ));
    }

    #[test]
    fn debug_output_does_not_hold_the_secret() {
        let credentials = Credentials::random().unwrap();
        assert!(!format!("{credentials:?}").contains(&credentials.secret_access_key));
    }
}
