//! The embedded store as `store serve` runs it, but with parts of any size: so that 10,000 of them fit on a disk.
//!
//! `manyparts DIR` prints the store's endpoint, access key and secret key, a line each, and serves until it is killed.

use std::error::Error;
use std::path::PathBuf;

use store::{Credentials, Store, StoreConfig};

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let dir = dir.ok_or("usage: manyparts DIR")?;
    let credentials = Credentials::random()?;
    let store = Store::start(StoreConfig {
        buckets: vec!["bench".to_owned()],
        min_part_size: 1,
        ..StoreConfig::new(dir, credentials.clone())
    })
    .await?;
    println!("{}", store.endpoint());
    println!("{}\n{}", credentials.access_key_id, credentials.secret_access_key);
    std::future::pending().await
}
