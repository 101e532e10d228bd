//! Reads that go on, and deletes that depend on what is there.

use store::DevStore;

use crate::client::{Client, refused};

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_on_with_another_version_gets_the_whole() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let etag = client.put("key", b"whole body").etag();
    let modified = client.get("key").header("last-modified").unwrap();
    let weak = format!("W/{etag}");
    for (known, status) in [
        (etag.as_str(), 206),
        (&modified, 206),
        ("\"another\"", 200),
        (&weak, 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
        ("yesterday", 200),
    ] {
        let answer = client.call("GET", "key", &[], &[("if-range", known), ("range", "bytes=6-")], b"");
        assert_eq!(answer.status, status, "{known}");
        let body: &[u8] = if status == 206 { b"body" } else { b"whole body" };
        assert_eq!(answer.body, body, "{known}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_of_a_version_that_is_not_there_is_told() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for known in ["*", "\"etag\""] {
        let answer = client.call("DELETE", "missing", &[], &[("if-match", known)], b"");
        assert_eq!(refused(&answer), (404, "NoSuchKey".into()), "{known}");
    }
    assert_eq!(client.ask("DELETE", "missing", &[], b"").status, 204);
}
