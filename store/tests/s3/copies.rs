//! Copies: of objects and of their pieces, with what was said of them or with something else.

use md5::{Digest as _, Md5};
use store::DevStore;

use crate::bytes;
use crate::client::{Client, hex, refused};

const PART: usize = 5 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_the_bytes_and_what_was_said_of_them_but_not_the_acl() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let said = [
        ("content-type", "text/x"),
        ("x-amz-acl", "public-read"),
        ("x-amz-meta-colour", "blue"),
        ("x-amz-tagging", "a=b&c="),
    ];
    client.call("PUT", "dir/ü source", &[], &said, b"bytes");
    let from = [("x-amz-copy-source", "uploads/dir/%C3%BC%20source")];
    let copied = client.call("PUT", "copy", &[], &from, b"");
    assert_eq!(copied.status, 200, "{}", copied.text());
    assert_eq!(copied.element("ETag"), format!("\"{}\"", hex(&Md5::digest(b"bytes"))));
    assert!(!copied.element("LastModified").is_empty());
    // The copy does not go with its source.
    assert_eq!(client.ask("DELETE", "dir/ü source", &[], b"").status, 204);
    let read = client.get("copy");
    assert_eq!(read.body, b"bytes");
    assert_eq!(read.header("content-type").as_deref(), Some("text/x"));
    assert_eq!(read.header("x-amz-meta-colour").as_deref(), Some("blue"));
    assert_eq!(read.header("x-amz-tagging-count").as_deref(), Some("2"));
    assert_eq!(
        client.send("GET", "/uploads/copy", &[], b"").status,
        403,
        "the ACL was copied"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn onto_itself_a_copy_changes_what_is_said_and_nothing_is_refused() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("key", b"bytes");
    let from = ("x-amz-copy-source", "/uploads/key");
    assert_eq!(
        refused(&client.call("PUT", "key", &[], &[from], b"")),
        (400, "InvalidRequest".into())
    );
    let replace = [
        from,
        ("x-amz-meta-colour", "red"),
        ("x-amz-metadata-directive", "REPLACE"),
    ];
    assert_eq!(client.call("PUT", "key", &[], &replace, b"").status, 200);
    let read = client.get("key");
    assert_eq!(
        (read.body.as_slice(), read.header("x-amz-meta-colour").as_deref()),
        (&b"bytes"[..], Some("red"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_hold_of_the_source_is_checked_first() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let etag = client.put("source", b"bytes").etag();
    let from = ("x-amz-copy-source", "uploads/source");
    for (header, value, expected) in [
        ("x-amz-copy-source-if-match", etag.as_str(), 200),
        ("x-amz-copy-source-if-match", "\"other\"", 412),
        ("x-amz-copy-source-if-none-match", etag.as_str(), 412),
        ("x-amz-copy-source-if-none-match", "\"other\"", 200),
        (
            "x-amz-copy-source-if-modified-since",
            "Sat, 01 Jan 2000 00:00:00 GMT",
            200,
        ),
        (
            "x-amz-copy-source-if-unmodified-since",
            "Sat, 01 Jan 2000 00:00:00 GMT",
            412,
        ),
    ] {
        let headers = [from, (header, value)];
        assert_eq!(
            client.call("PUT", "copy", &[], &headers, b"").status,
            expected,
            "{header}: {value}"
        );
    }
    for (source, code) in [
        ("uploads/absent", "NoSuchKey"),
        ("absent/source", "NoSuchBucket"),
        ("uploads/source?versionId=1", "InvalidArgument"),
    ] {
        let answer = client.call("PUT", "other", &[], &[("x-amz-copy-source", source)], b"");
        assert_eq!(answer.element("Code"), code, "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_parts_is_copied_in_one_piece_and_in_pieces() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let all = bytes(PART + 10, 1);
    let id = client.create("source");
    let etags = [&all[..PART], &all[PART..]].map(<[u8]>::to_vec);
    let etags: Vec<_> = (1..)
        .zip(&etags)
        .map(|(number, part)| client.part("source", &id, number, part).etag())
        .collect();
    client.complete("source", &id, &[(1, &etags[0]), (2, &etags[1])]);

    let from = ("x-amz-copy-source", "uploads/source");
    let copied = client.call("PUT", "whole", &[], &[from], b"");
    assert_eq!(
        copied.element("ETag"),
        format!("\"{}\"", hex(&Md5::digest(&all))),
        "one piece has a plain ETag"
    );
    assert!(client.get("whole").body == all, "other bytes");

    let id = client.create("pieces");
    let query = |number| [("partNumber", number), ("uploadId", id.as_str())];
    let end = all.len() - 1;
    let ranges = [format!("bytes=5-{end}"), "bytes=0-4".to_owned()];
    let etags: Vec<_> = ["1", "2"]
        .iter()
        .zip(&ranges)
        .map(|(number, range)| {
            let headers = [from, ("x-amz-copy-source-range", range.as_str())];
            let copied = client.call("PUT", "pieces", &query(number), &headers, b"");
            assert_eq!(copied.status, 200, "{}", copied.text());
            copied.element("ETag")
        })
        .collect();
    assert_eq!(
        client.complete("pieces", &id, &[(1, &etags[0]), (2, &etags[1])]).status,
        200
    );
    assert!(
        client.get("pieces").body == [&all[5..], &all[..5]].concat(),
        "other bytes"
    );

    let id = client.create("pieces");
    let query = [("partNumber", "1"), ("uploadId", id.as_str())];
    for (range, code) in [("bytes=0-99999999", "InvalidRange"), ("bytes=5-", "InvalidArgument")] {
        let headers = [from, ("x-amz-copy-source-range", range)];
        assert_eq!(
            client.call("PUT", "pieces", &query, &headers, b"").element("Code"),
            code,
            "{range}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_hold_of_the_target_is_checked_too() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("source", b"new");
    let etag = client.put("target", b"precious").etag();
    let from = ("x-amz-copy-source", "uploads/source");
    let target = client.v4("PUT", "target", &[], &[from]);
    let two = [from, ("if-none-match", "\"x\""), ("if-none-match", "*")];
    assert_eq!(client.send("PUT", &target, &two, b"").status, 400);
    assert_eq!(client.get("target").body, b"precious");
    for (header, value, expected) in [
        ("if-none-match", "*", 412),
        ("if-match", "\"other\"", 412),
        ("if-match", etag.as_str(), 200),
    ] {
        let answer = client.call("PUT", "target", &[], &[from, (header, value)], b"");
        assert_eq!(answer.status, expected, "{header}: {value}");
        assert_eq!(client.get("target").body == b"precious", expected == 412);
    }
}
