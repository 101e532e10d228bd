//! A store for tests: started in one line, gone when dropped, and failing where and how a test wants it to.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::fault::{Fault, Faults, Gate, Storm, When};
use crate::keys::Credentials;
use crate::server::Store;

/// A store in a temporary directory, on a free port of 127.0.0.1, with random credentials, the bucket `uploads`, and no
/// waiting for the disk. Dropped, it stops and takes its directory with it.
#[derive(Debug)]
pub struct DevStore {
    store: Store,
    credentials: Credentials,
    region: String,
    faults: Arc<Faults>,
    // Below the store: fields are dropped in order, and the directory goes last.
    dir: TempDir,
}

impl DevStore {
    /// The bucket that is there.
    pub const BUCKET: &str = "uploads";

    /// Starts one.
    ///
    /// # Errors
    /// There is no temporary directory to be had, or what [`Store::start`] says.
    pub async fn start() -> Result<Self, StoreError> {
        Self::start_with(|_| ()).await
    }

    /// Starts one whose settings `change` has been over, such as `min_part_size`.
    ///
    /// # Errors
    /// As [`DevStore::start`].
    pub async fn start_with(change: impl FnOnce(&mut StoreConfig)) -> Result<Self, StoreError> {
        let dir = tempfile::tempdir().map_err(|source| StoreError::Directory {
            doing: "create a directory in",
            path: std::env::temp_dir(),
            source,
        })?;
        let mut config = StoreConfig::new(dir.path().join("store"), Credentials::random()?);
        config.buckets = vec![Self::BUCKET.to_owned()];
        config.sync = false;
        change(&mut config);
        let (credentials, region) = (config.keys.owner().clone(), config.region.clone());
        let faults = Arc::new(Faults::default());
        Ok(Self {
            store: Store::start_with(config, Some(Arc::clone(&faults))).await?,
            credentials,
            region,
            faults,
            dir,
        })
    }

    /// Who may do everything.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The bucket that is there.
    pub fn bucket(&self) -> &'static str {
        Self::BUCKET
    }

    /// The region that V4 signatures must name.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The directory that goes with it.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Has `fault` strike the requests that `when` names. Of several that fit, the one injected first strikes.
    pub fn inject(&self, fault: Fault, when: When) {
        self.faults.waiting.lock().push((fault, when));
    }

    /// Has one of `faults` strike each request by chance, in `per_mille` of a thousand cases, where none that was injected
    /// does; all but GetObject and PutObject. What strikes is told by `seed` and the order of the requests.
    pub fn storm(&self, seed: u64, per_mille: u16, faults: &[Fault]) {
        *self.faults.storm.lock() = Some(Storm::new(seed, per_mille, faults));
    }

    /// Forgets the faults that have not struck, and ends a storm.
    pub fn clear_faults(&self) {
        self.faults.waiting.lock().clear();
        *self.faults.storm.lock() = None;
    }

    /// Has ListParts answer pages of so many parts; 0 for as many as are asked for.
    pub fn pages_of(&self, parts: usize) {
        self.faults.page.store(parts, Ordering::Relaxed);
    }

    /// Waits until a request is held by [`Fault::Hold`].
    pub async fn held(&self) {
        let mut held = self.faults.gate.subscribe();
        // The sender lives as long as this store.
        let _ = held.wait_for(|gate| *gate == Gate::Held).await;
    }

    /// Lets the held request go on, or cuts its connection.
    pub fn release(&self, cut: bool) {
        self.faults.gate.send_replace(if cut { Gate::Cut } else { Gate::Open });
    }

    /// How many requests have arrived that a fault could be asked for.
    pub fn requests(&self) -> u64 {
        self.faults.requests.load(Ordering::Relaxed)
    }

    /// How many such requests have arrived, struck or not, refused or not.
    #[allow(clippy::needless_pass_by_value)] // `attempts(part(3))` reads as it is meant.
    pub fn attempts(&self, when: When) -> u64 {
        self.faults.arrived.lock().get(&when.point).copied().unwrap_or_default()
    }
}

impl Deref for DevStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
