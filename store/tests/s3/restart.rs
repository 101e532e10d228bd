//! What a start finds: everything that was answered, nothing half done, and nobody else in the directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use md5::{Digest as _, Md5};
use sha2::Sha256;
use store::{Credentials, DevStore, Store, StoreError};

use crate::client::{config, elements, hex, md5_base64, start};

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
async fn a_bucket_made_again_after_its_end_has_nothing_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials::random().unwrap();
    let (store, client) = start(dir.path(), &credentials).await;
    client.put("key", b"body");
    let id = client.create("open");
    assert_eq!(client.ask("DELETE", "", &[], b"").status, 409, "it is not empty");
    client.ask("DELETE", "key", &[], b"");
    assert_eq!(client.ask("DELETE", "", &[], b"").status, 204);
    assert_eq!(client.put("key", b"body").status, 404);
    assert_eq!(client.ask("PUT", "", &[], b"").status, 200);
    store.stop().await;
    let (_store, client) = start(dir.path(), &credentials).await;
    assert_eq!(client.get("key").status, 404);
    assert_eq!(client.part("open", &id, 1, b"part").status, 404);
    let uploads = client.ask("GET", "", &[("uploads", "")], b"").text();
    assert_eq!(elements(&uploads, "UploadId"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_refused_and_nothing_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials::random().unwrap();
    let (store, client) = start(dir.path(), &credentials).await;
    client.put("key", b"body");
    store.stop().await;
    let index = dir.path().join("index.redb");
    let whole = fs::read(&index).unwrap();

    let zeroed = vec![0; whole.len()];
    let cut = whole[..whole.len() / 2].to_vec();
    let mut garbled = whole.clone();
    garbled[..64].fill(0xA5);
    for damaged in [Some(zeroed), Some(cut), Some(garbled), Some(Vec::new()), None] {
        match &damaged {
            Some(bytes) => fs::write(&index, bytes).unwrap(),
            None => fs::remove_file(&index).unwrap(),
        }
        let error = Store::start(config(dir.path(), &credentials)).await.unwrap_err();
        assert!(matches!(error, StoreError::Index { .. }), "{error:?}");
        assert!(error.to_string().contains("index.redb"), "{error}");
        assert_eq!(fs::read(&index).ok(), damaged, "the damaged file was written to");
    }

    fs::write(&index, whole).unwrap();
    let (_store, client) = start(dir.path(), &credentials).await;
    assert_eq!(client.get("key").body, b"body");
}

/// A directory as the version before left it, without a process that could still do so: two objects, an open upload, one
/// that was completed when the process died before it said so, and one that was given up.
fn old_directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("format"), "embedded-store 1\n").unwrap();
    fs::create_dir(dir.path().join("trash")).unwrap();
    let bucket = bucket(dir.path());
    for folder in ["objects", "data", "uploads/open", "uploads/done", "uploads/gone"] {
        fs::create_dir_all(bucket.join(folder)).unwrap();
    }
    fs::write(bucket.join("bucket.json"), r#"{"created":1700000000000}"#).unwrap();
    fs::write(bucket.join("data/0123"), "whole").unwrap();
    let whole = r#"{"key":"put","size":5,"etag":"bc90dac0ff5d4b8a8f9d3c7b9ab4a1a4","modified":1700000000000,
        "content":{"file":"0123"},"meta":{"acl":"private","content_type":"text/plain"}}"#;
    let md5 = hex(&Md5::digest(b"part"));
    let joined = format!(
        r#"{{"key":"joined","size":4,"etag":"00000000000000000000000000000000-1","modified":1700000000000,
        "content":{{"parts":{{"upload":"done","parts":[{{"number":1,"seq":0,"md5":"{}","size":4}}]}}}},"meta":{{"acl":"private"}}}}"#,
        md5_base64(b"part")
    );
    for (key, record) in [("put", whole), ("joined", &*joined)] {
        fs::write(bucket.join("objects").join(hex(&Sha256::digest(key))), record).unwrap();
    }
    for (id, key) in [("open", "open"), ("done", "joined")] {
        let upload = bucket.join("uploads").join(id);
        let record = format!(r#"{{"key":"{key}","initiated":1700000000000,"meta":{{"acl":"private"}}}}"#);
        fs::write(upload.join("upload.json"), record).unwrap();
        fs::write(upload.join(format!("00001.0000000000000000.{md5}")), "part").unwrap();
    }
    dir
}

async fn check_brought_over(dir: &Path, credentials: &Credentials) {
    let (store, client) = start(dir, credentials).await;
    let put = client.get("put");
    assert_eq!(put.body, b"whole");
    assert_eq!(put.header("content-type").unwrap(), "text/plain");
    assert_eq!(client.get("joined").body, b"part");
    let uploads = client.ask("GET", "", &[("uploads", "")], b"").text();
    assert_eq!(elements(&uploads, "UploadId"), ["open"]);
    let etag = client.list_parts("open", "open", "0").element("ETag");
    assert_eq!(client.complete("open", "open", &[(1, &etag)]).status, 200);
    assert_eq!(client.get("open").body, b"part");
    assert_eq!(fs::read_to_string(dir.join("format")).unwrap(), "embedded-store 2\n");
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_the_format_before_is_brought_over() {
    let credentials = Credentials::random().unwrap();
    let dir = old_directory();
    check_brought_over(dir.path(), &credentials).await;
    // As any later start finds it.
    let (_store, client) = start(dir.path(), &credentials).await;
    assert_eq!(client.get("open").body, b"part");
    assert_eq!(
        elements(&client.ask("GET", "", &[], b"").text(), "Key"),
        ["joined", "open", "put"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_directory_is_brought_over_begins_it_again() {
    let credentials = Credentials::random().unwrap();
    // The index was begun, with whatever in it; the format still says what counts.
    let dir = old_directory();
    fs::write(dir.path().join("index.redb"), [0xA5; 8192]).unwrap();
    check_brought_over(dir.path(), &credentials).await;
    // An index of another directory: were it believed, there would be no objects.
    let dir = old_directory();
    let other = tempfile::tempdir().unwrap();
    start(other.path(), &credentials).await.0.stop().await;
    fs::copy(other.path().join("index.redb"), dir.path().join("index.redb")).unwrap();
    check_brought_over(dir.path(), &credentials).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_of_the_format_before_keeps_the_directory_as_it_is() {
    let credentials = Credentials::random().unwrap();
    let dir = old_directory();
    let damaged = bucket(dir.path()).join("objects").join(hex(&Sha256::digest("put")));
    fs::write(&damaged, "{\"key\"").unwrap();
    let error = Store::start(config(dir.path(), &credentials)).await.unwrap_err();
    assert!(matches!(error, StoreError::OldRecord { .. }), "{error:?}");
    assert!(error.to_string().contains(&damaged.display().to_string()), "{error}");
    assert_eq!(
        fs::read_to_string(dir.path().join("format")).unwrap(),
        "embedded-store 1\n"
    );
    assert_eq!(names(bucket(dir.path()).join("objects")).len(), 2);

    fs::remove_file(damaged).unwrap();
    let (_store, client) = start(dir.path(), &credentials).await;
    assert_eq!(client.get("put").status, 404);
    assert_eq!(client.get("joined").body, b"part");
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
    fs::write(newer.path().join("format"), "embedded-store 3\n").unwrap();
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

#[test]
fn a_file_for_a_directory_and_an_address_without_a_port_are_told_as_such() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let serve = |dir: &Path, listen: &str| {
        let done = Command::new(env!("CARGO_BIN_EXE_store"))
            .args(["serve", "--listen", listen])
            .arg(dir)
            .output()
            .unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (status, said) = serve(file.path(), "127.0.0.1:0");
    assert_eq!(status, Some(1));
    assert!(said.contains("is a file; name the directory"), "{said}");
    assert!(!said.contains("credentials"), "{said}");
    let (status, said) = serve(dir.path(), "127.0.0.1");
    assert_eq!(status, Some(2));
    assert!(said.contains("expected an IP address and a port"), "{said}");
}
