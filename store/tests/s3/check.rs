//! `store check`: silent about a healthy store, and precise about one that is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use store::{Credentials, DevStore, Store, StoreConfig};

use crate::bytes;
use crate::client::Client;

/// What it printed, line by line, and its exit status.
pub(crate) fn check(dir: &Path) -> (Vec<Value>, i32) {
    let store = env!("CARGO_BIN_EXE_store");
    let done = Command::new(store)
        .arg("check")
        .arg(dir)
        .arg("--json")
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (lines.collect(), done.status.code().unwrap())
}

/// A stopped store with an object put whole, one with a checksum, one of two parts and an open upload.
async fn filled() -> (tempfile::TempDir, PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials::random().unwrap();
    let config = StoreConfig {
        buckets: vec![DevStore::BUCKET.to_owned()],
        min_part_size: 1,
        ..StoreConfig::new(dir.path().to_owned(), credentials.clone())
    };
    let store = Store::start(config).await.unwrap();
    let client = Client::to(&store, &credentials);
    client.put("whole", &bytes(3000, 1));
    let headers = [("x-amz-checksum-crc32", "DUoRhQ==")];
    let target = client.v4("PUT", "summed", &[], &headers);
    assert_eq!(client.send("PUT", &target, &headers, b"hello world").status, 200);
    let id = client.create("parts");
    let etags = [1, 2].map(|part| client.part("parts", &id, part, &bytes(2000, part.into())).etag());
    client.complete("parts", &id, &[(1, &etags[0]), (2, &etags[1])]);
    let open = client.create("open");
    client.part("open", &open, 5, b"part");
    store.stop().await;
    let bucket = dir.path().join("buckets").join(DevStore::BUCKET);
    (dir, bucket, id)
}

/// The file below `dir` whose name begins so and that has this many bytes.
fn file(dir: &Path, begins: &str, size: u64) -> PathBuf {
    let found = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).find(|entry| {
        entry.file_name().to_string_lossy().starts_with(begins) && entry.metadata().unwrap().len() == size
    });
    found.unwrap().path()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_store_is_counted_and_has_no_problems() {
    let (dir, _, _) = filled().await;
    let expected = json!({"buckets": 1, "objects": 3, "uploads": 1, "parts": 3, "bytes": 7015, "problems": 0});
    assert_eq!(check(dir.path()), (vec![expected], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_is_named_with_bucket_and_key() {
    let (dir, bucket, id) = filled().await;
    let flip = |path: PathBuf| {
        let mut bytes = fs::read(&path).unwrap();
        bytes[1] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    flip(file(&bucket.join("data"), "", 3000));
    fs::remove_file(file(&bucket.join("data"), "", 11)).unwrap();
    fs::write(file(&bucket.join("uploads").join(id), "00002", 2000), bytes(1999, 2)).unwrap();
    let mut uploads = fs::read_dir(bucket.join("uploads"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    flip(file(
        &uploads.find(|dir| fs::read_dir(dir).unwrap().count() == 1).unwrap(),
        "00005",
        4,
    ));

    let (mut lines, status) = check(dir.path());
    let summary = lines.pop().unwrap();
    assert_eq!(
        (status, &summary["problems"], &summary["objects"]),
        (1, &json!(5), &json!(3))
    );
    let told = lines.iter().map(|line| {
        assert_eq!(line["bucket"], DevStore::BUCKET);
        let problem = line["problem"].as_str().unwrap();
        let word = problem.split(' ').take(2).collect::<Vec<_>>().join(" ");
        (line["key"].as_str().unwrap(), word, line["upload"].is_string())
    });
    let expected = [
        ("parts", "part 2", false),
        ("parts", "there are", false),
        ("summed", "cannot read", false),
        ("whole", "the MD5", false),
        ("open", "part 5", true),
    ];
    assert_eq!(
        told.collect::<Vec<_>>(),
        expected.map(|(key, word, upload)| (key, word.to_owned(), upload))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_served_or_is_none_is_not_checked() {
    let (dir, _, _) = filled().await;
    let config = StoreConfig::new(dir.path().to_owned(), Credentials::random().unwrap());
    let _store = Store::start(config).await.unwrap();
    assert_eq!(check(dir.path()), (Vec::new(), 1));
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(check(empty.path()), (Vec::new(), 1));
    assert_eq!(
        fs::read_dir(empty.path()).unwrap().count(),
        0,
        "a look leaves nothing behind"
    );
}
