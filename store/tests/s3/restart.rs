//! What a start finds: everything that was answered, nothing half done, and nobody else in the directory.

use std::fs;
use std::path::{Path, PathBuf};

use store::{Credentials, DevStore, Store, StoreConfig, StoreError};

use crate::client::{Client, elements};

fn config(dir: &Path, credentials: &Credentials) -> StoreConfig {
    StoreConfig {
        buckets: vec![DevStore::BUCKET.to_owned()],
        ..StoreConfig::new(dir.to_owned(), credentials.clone())
    }
}

async fn start(dir: &Path, credentials: &Credentials) -> (Store, Client) {
    let store = Store::start(config(dir, credentials)).await.unwrap();
    let client = Client::to(&store, credentials);
    (store, client)
}

fn bucket(dir: &Path) -> PathBuf {
    dir.join("buckets").join(DevStore::BUCKET)
}

fn names(dir: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_and_open_uploads_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials::random().unwrap();
    let (store, client) = start(dir.path(), &credentials).await;
    client.put("put", b"whole");
    let done = client.create("joined");
    let etag = client.part("joined", &done, 7, b"part").etag();
    client.complete("joined", &done, &[(7, &etag)]);
    let open = client.create("open");
    client.part("open", &open, 2, b"old");
    let newest = client.part("open", &open, 2, b"new").etag();
    let given_up = client.create("given up");
    client.ask("DELETE", "given up", &[("uploadId", &given_up)], b"");
    store.stop().await;

    let (_store, client) = start(dir.path(), &credentials).await;
    assert_eq!(client.get("put").body, b"whole");
    assert_eq!(client.get("joined").body, b"part");
    assert_eq!(client.complete("joined", &done, &[(7, &etag)]).status, 200);
    let uploads = client.ask("GET", "", &[("uploads", "")], b"").text();
    assert_eq!(elements(&uploads, "UploadId"), [open.as_str()]);
    assert_eq!(
        elements(&client.list_parts("open", &open, "0").text(), "ETag"),
        [newest.as_str()]
    );
    assert_eq!(client.complete("open", &open, &[(2, &newest)]).status, 200);
    assert_eq!(client.get("open").body, b"new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_finishes_a_complete_and_removes_what_nothing_names() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials::random().unwrap();
    let (store, client) = start(dir.path(), &credentials).await;
    client.put("key", b"kept");
    let id = client.create("joined");
    let etag = client.part("joined", &id, 1, b"part").etag();
    let upload = bucket(dir.path()).join("uploads").join(&id);
    let record = fs::read(upload.join("upload.json")).unwrap();
    client.complete("joined", &id, &[(1, &etag)]);
    store.stop().await;
    // As if the process had died between the object's record and the upload's end, and in the middle of other writes.
    fs::write(upload.join("upload.json"), record).unwrap();
    fs::write(upload.join("draft-part"), b"half").unwrap();
    fs::write(bucket(dir.path()).join("data/0123"), b"half").unwrap();
    fs::write(bucket(dir.path()).join("objects/draft-record"), b"{").unwrap();
    fs::create_dir(bucket(dir.path()).join("uploads/0123")).unwrap();
    fs::create_dir(dir.path().join("trash/bucket")).unwrap();

    let (store, client) = start(dir.path(), &credentials).await;
    assert_eq!(client.get("joined").body, b"part");
    assert_eq!(client.get("key").body, b"kept");
    assert!(
        !client
            .ask("GET", "", &[("uploads", "")], b"")
            .text()
            .contains("<Upload>")
    );
    store.stop().await;
    // Removal goes on beside the requests; a store that has stopped and started again has done it.
    let (_store, _client) = start(dir.path(), &credentials).await;
    assert_eq!(names(upload).len(), 1);
    assert_eq!(names(bucket(dir.path()).join("objects")).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_costs_its_object_and_no_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials::random().unwrap();
    let (store, client) = start(dir.path(), &credentials).await;
    client.put("key", b"body");
    store.stop().await;
    let objects = bucket(dir.path()).join("objects");
    let name = names(objects.clone()).remove(0);
    fs::write(objects.join(name), b"{\"key\"").unwrap();

    let (store, client) = start(dir.path(), &credentials).await;
    assert_eq!(client.get("key").status, 404);
    store.stop().await;
    assert_eq!(names(bucket(dir.path()).join("data")).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_or_an_address_in_use_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials::random().unwrap();
    let (store, _client) = start(dir.path(), &credentials).await;
    let locked = Store::start(config(dir.path(), &credentials)).await;
    assert!(matches!(locked, Err(StoreError::Locked { .. })), "{locked:?}");

    let other = tempfile::tempdir().unwrap();
    let mut taken = config(other.path(), &credentials);
    taken.listen = store.address();
    let error = Store::start(taken).await.unwrap_err();
    assert!(matches!(error, StoreError::AddressInUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&store.address().to_string()));
    assert!(names(other.path().to_owned()).is_empty());
    store.stop().await;
    start(dir.path(), &credentials).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_a_newer_format_or_of_somebody_else_is_left_alone() {
    let credentials = Credentials::random().unwrap();
    let newer = tempfile::tempdir().unwrap();
    fs::write(newer.path().join("format"), "embedded-store 2\n").unwrap();
    let refused = Store::start(config(newer.path(), &credentials)).await;
    assert!(matches!(refused, Err(StoreError::Format { .. })), "{refused:?}");
    let foreign = tempfile::tempdir().unwrap();
    fs::create_dir(foreign.path().join("buckets")).unwrap();
    let refused = Store::start(config(foreign.path(), &credentials)).await;
    assert!(matches!(refused, Err(StoreError::NotAStore { .. })), "{refused:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = Store::start(config(file.path(), &credentials)).await;
    assert!(matches!(refused, Err(StoreError::Directory { .. })), "{refused:?}");
    let mut nowhere = config(newer.path(), &credentials);
    nowhere.region = "us east".to_owned();
    let refused = Store::start(nowhere).await;
    assert!(matches!(refused, Err(StoreError::Region(_))), "{refused:?}");
    let mut named = config(newer.path(), &credentials);
    named.buckets.push("../up".to_owned());
    let refused = Store::start(named).await;
    assert!(matches!(refused, Err(StoreError::BucketName(_))), "{refused:?}");
}
