//! The store inside the broker: started with it, and found by the operator's commands beside it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use store::{Keys, Store, StoreConfig, StoreError};

use crate::config::{Config, DEFAULT_STORE_LISTEN};
use crate::start::{DEFAULT_REGION, StartError};

/// Starts it, and notes its address for commands in the same data directory.
///
/// # Errors
/// Its directory, its keys or its address cannot be used.
pub(crate) async fn start(config: &Config, listen: SocketAddr) -> Result<Store, StartError> {
    let store = Store::start(StoreConfig {
        dir: config.data_dir.join("store"),
        listen,
        region: DEFAULT_REGION.to_owned(),
        keys: keys(&config.data_dir)?,
        buckets: config.buckets.clone(),
        sync: true,
        min_part_size: shared::plan::MIN_PART_SIZE,
    })
    .await?;
    if let Err(error) = std::fs::write(address_file(&config.data_dir), store.endpoint()) {
        tracing::warn!(%error, "the store's address cannot be noted: tell commands beside this broker --store-listen");
    }
    Ok(store)
}

/// Where it answers: where it was last started in this data directory, unless the settings name another address than the usual.
pub fn endpoint(config: &Config, listen: SocketAddr) -> String {
    let noted = std::fs::read_to_string(address_file(&config.data_dir)).ok();
    match noted.filter(|noted| listen == DEFAULT_STORE_LISTEN && noted.starts_with("http://")) {
        Some(noted) => noted,
        None => store::endpoint(listen),
    }
}

/// Its keys, made where there are none yet.
pub(crate) fn keys(data_dir: &Path) -> Result<Keys, StoreError> {
    Keys::load_or_create(&credentials_file(data_dir))
}

/// Where its keys are kept.
pub fn credentials_file(data_dir: &Path) -> PathBuf {
    data_dir.join("store-credentials")
}

fn address_file(data_dir: &Path) -> PathBuf {
    data_dir.join("store-address")
}
