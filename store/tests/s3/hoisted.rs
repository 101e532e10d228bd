//! URLs whose signer moved headers into the query, as SDKs do.

use store::DevStore;

use crate::client::{Client, refused};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_into_a_signed_query_counts_as_the_header() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let query = [
        ("x-amz-acl", "public-read"),
        ("X-Amz-Meta-Token", "of the signer"),
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-tagging", "a=b&c=d"),
        ("x-id", "PutObject"),
    ];
    assert_eq!(client.ask("PUT", "key", &query, b"body").status, 200);
    let unsigned = client.send("GET", "/uploads/key", &[], b"");
    assert_eq!((unsigned.status, unsigned.body.as_slice()), (200, &b"body"[..]));
    assert_eq!(unsigned.header("x-amz-meta-token").as_deref(), Some("of the signer"));
    let tags = client.ask("GET", "key", &[("tagging", "")], b"").text();
    assert!(
        tags.contains("<Key>a</Key><Value>b</Value>") && tags.contains("<Key>c</Key><Value>d</Value>"),
        "{tags}"
    );

    let copy = [("x-amz-copy-source", "/uploads/key")];
    assert_eq!(client.ask("PUT", "copy", &copy, b"").status, 200);
    assert_eq!(client.get("copy").body, b"body");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_done_for_a_header_is_refused_in_the_query_too() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for (name, value, expected) in [
        ("x-amz-server-side-encryption", "AES256", (501, "NotImplemented")),
        ("x-amz-storage-class", "GLACIER", (400, "InvalidStorageClass")),
        ("x-amz-meta-token", "two\nlines", (400, "InvalidArgument")),
    ] {
        let answer = client.ask("PUT", "key", &[(name, value)], b"body");
        assert_eq!(
            refused(&answer),
            (expected.0, expected.1.into()),
            "{name}: {}",
            answer.text()
        );
    }
    assert_eq!(client.get("key").status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_signed_is_read_from_a_query() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let v4 = format!("{}&x-amz-acl=public-read", client.v4("PUT", "key", &[], &[]));
    assert_eq!(
        refused(&client.send("PUT", &v4, &[], b"")),
        (403, "SignatureDoesNotMatch".into())
    );
    // The query of version 2 is not signed but for sub-resources.
    let v2 = format!("{}&x-amz-acl=public-read", client.v2("PUT", "key", &[], ""));
    assert_eq!(client.send("PUT", &v2, &[], b"mine").status, 200);
    assert_eq!(
        client.send("GET", "/uploads/key", &[], b"").status,
        403,
        "made public by its sender"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_says_otherwise_than_the_query_is_refused() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let query = [("x-amz-acl", "private")];
    let open = client.call("PUT", "key", &query, &[("x-amz-acl", "public-read")], b"");
    assert_eq!(refused(&open), (400, "InvalidArgument".into()));
    let unsigned = client.send(
        "PUT",
        &client.v4("PUT", "key", &query, &[]),
        &[("x-amz-acl", "private")],
        b"",
    );
    assert_eq!(unsigned.status, 403, "a header has to be signed as one");
    assert_eq!(client.get("key").status, 404);
    assert_eq!(client.call("PUT", "key", &query, &query, b"").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checksum_that_a_signer_made_without_a_body_is_passed_over() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let of_nothing = [
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
    ];
    let answer = client.ask("PUT", "key", &of_nothing, b"body");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_counts_also_beside_headers_that_are_signed_with_other_than_plain_spaces_and_letters() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("source", b"source");
    for value in ["a  b", "a b"] {
        let target = client.v4(
            "PUT",
            "copy",
            &[("x-amz-copy-source", "/uploads/source")],
            &[("x-foo", "a b")],
        );
        let value = value.replace("  ", "\t");
        assert_eq!(
            client.send("PUT", &target, &[("x-foo", &value)], b"").status,
            200,
            "{value:?}"
        );
        assert_eq!(client.get("copy").body, b"source", "{value:?}");
    }
    let target = client.v4(
        "PUT",
        "copy",
        &[("x-amz-copy-source", "/uploads/source")],
        &[("x-foo", "é")],
    );
    assert_eq!(client.send("PUT", &target, &[("x-foo", "é")], b"").status, 200);
    assert_eq!(client.get("copy").body, b"source");
}
