//! Objects: what is put is what is read, whole, by anybody who may.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use md5::{Digest as _, Md5};
use store::{DevStore, StoreConfig};

use crate::bytes;
use crate::client::{Client, elements, hex, md5_base64, refused};

#[tokio::test(flavor = "multi_thread")]
async fn any_key_that_s3_allows_is_one_of_its_own_and_no_name_on_the_disk() {
    let around = tempfile::tempdir().unwrap();
    let dir = around.path().join("between/store");
    let change = |config: &mut StoreConfig| {
        config.dir.clone_from(&dir);
        config.min_part_size = 1;
    };
    let store = DevStore::start_with(change).await.unwrap();
    let client = Client::of(&store);
    let long = "k".repeat(1024);
    // As many bytes of more than one each.
    let long_of_others = "日".repeat(341) + "/";
    let keys = [
        "a",
        "a/b",
        "a/b/",
        "x/",
        "/",
        "//",
        ".",
        "..",
        "../",
        "../../../../outside",
        "../uploads/a",
        "a/../../../../../outside",
        "./a",
        "a//b",
        "/a",
        "/etc/outside",
        "a b",
        " ",
        "a+b",
        "a%2Fb",
        "%2e%2e/a",
        "%00",
        "%",
        "a&b=c",
        "a?b#c;d:e@f",
        "a\\..\\b",
        "ünï/日本",
        // One letter to the eye, composed and decomposed.
        "\u{e9}",
        "e\u{301}",
        "(a)!*'",
        "\u{1}\t\n\r\u{1f}\u{7f}",
        "CON",
        "draft-a",
        "index.redb",
        "bucket.json",
        "\u{10ffff}",
        &long,
        &long_of_others,
    ];
    for key in keys {
        let put = client.put(key, key.as_bytes());
        assert_eq!(put.status, 200, "{key}: {}", put.text());
        assert_eq!(put.etag(), format!("\"{}\"", hex(&Md5::digest(key))));
    }
    for key in keys {
        assert_eq!(client.get(key).body, key.as_bytes(), "{key}");
    }
    let mut expected = keys.map(str::to_owned);
    expected.sort();
    // Encoded, since XML cannot say some of them.
    let listed = client.ask("GET", "", &[("encoding-type", "url"), ("list-type", "2")], b"");
    let listed = elements(&listed.text(), "Key").into_iter().map(|key| decoded(&key));
    assert_eq!(listed.collect::<Vec<_>>(), expected);
    for key in keys {
        let id = client.create(key);
        let etag = client.part(key, &id, 1, b"joined").etag();
        assert_eq!(client.complete(key, &id, &[(1, &etag)]).status, 200, "{key}");
        assert_eq!(client.get(key).body, b"joined", "{key}");
    }
    for too_long in ["k".repeat(1025), long.clone() + "é"] {
        assert_eq!(client.put(&too_long, b"").element("Code"), "KeyTooLongError");
        let create = client.ask("POST", &too_long, &[("uploads", "")], b"");
        assert_eq!(create.element("Code"), "KeyTooLongError");
    }
    // Whatever the keys were, all that is there are names of the store's own.
    assert_eq!(names_below(around.path(), 2), ["between", "between/store"]);
    let digits = |name: &str| name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'.');
    for name in names_below(&dir.join("buckets"), 9) {
        let known = ["uploads", "uploads/bucket.json", "uploads/data", "uploads/uploads"].contains(&&*name);
        let ours = ["uploads/data/", "uploads/uploads/"].map(|place| name.strip_prefix(place));
        let ours = ours.into_iter().flatten().any(|rest| rest.split('/').all(digits));
        assert!(known || ours, "{name}");
    }
    for key in keys {
        assert_eq!(client.ask("DELETE", key, &[], b"").status, 204, "{key}");
    }
    assert_eq!(elements(&client.ask("GET", "", &[], b"").text(), "Key"), [""; 0]);
}

/// Paths of all that is below `dir`, so many names deep, in order.
fn names_below(dir: &Path, depth: usize) -> Vec<String> {
    let mut names = Vec::new();
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        if depth > 1 {
            let below = names_below(&entry.path(), depth - 1);
            names.extend(below.into_iter().map(|rest| format!("{name}/{rest}")));
        }
        names.push(name);
    }
    names.sort();
    names
}

/// What `%` and two digits stand for.
fn decoded(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_urls_are_encoded_on_request_and_pages_add_up() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for key in ["a b/1", "a b/2", "c+d", "e"] {
        client.put(key, b"");
    }
    let query = [
        ("delimiter", "/"),
        ("encoding-type", "url"),
        ("list-type", "2"),
        ("max-keys", "2"),
    ];
    let first = client.ask("GET", "", &query, b"");
    assert_eq!(elements(&first.text(), "Prefix").last().unwrap(), "a%20b/");
    assert_eq!(elements(&first.text(), "Key"), ["c%2Bd"]);
    assert_eq!(first.element("IsTruncated"), "true");
    let token = first.element("NextContinuationToken");
    let second = client.ask("GET", "", &[("continuation-token", &token), ("list-type", "2")], b"");
    assert_eq!(elements(&second.text(), "Key"), ["e"]);
    assert_eq!(second.element("IsTruncated"), "false");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_what_was_said_changes_nothing() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let empty = client.call("PUT", "key", &[], &[("content-md5", "")], b"body");
    assert_eq!(refused(&empty), (400, "InvalidDigest".into()));
    client.put("key", b"old");
    let md5 = md5_base64(b"new");
    for (header, value, code) in [
        ("content-md5", md5.as_str(), "BadDigest"),
        ("content-md5", "not an MD5", "InvalidDigest"),
        ("x-amz-checksum-crc32", "AAAAAA==", "BadDigest"),
        ("x-amz-checksum-sha256", "AAAA", "InvalidRequest"),
    ] {
        let target = client.v4("PUT", "key", &[], &[(header, value)]);
        let answer = client.send("PUT", &target, &[(header, value)], b"damaged");
        assert_eq!(
            (answer.status, answer.element("Code").as_str()),
            (400, code),
            "{header}"
        );
    }
    assert_eq!(client.get("key").body, b"old");
    let target = client.v4("PUT", "key", &[], &[("content-md5", &md5)]);
    assert_eq!(
        client.send("PUT", &target, &[("content-md5", &md5)], b"new").status,
        200
    );
    assert_eq!(client.get("key").body, b"new");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_writer_said_comes_back_and_ranges_are_of_the_bytes() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let said = [
        ("cache-control", "no-cache"),
        ("content-type", "text/x"),
        ("x-amz-meta-token", "t1"),
    ];
    let target = client.v4("PUT", "key", &[], &said);
    assert_eq!(client.send("PUT", &target, &said, b"0123456789").status, 200);
    let head = client.ask("HEAD", "key", &[], b"");
    for (name, value) in said {
        assert_eq!(head.header(name).as_deref(), Some(value));
    }
    assert_eq!(head.header("content-length").as_deref(), Some("10"));
    for (range, part) in [
        ("bytes=0-0", "0"),
        ("bytes=7-", "789"),
        ("bytes=-2", "89"),
        ("bytes=8-99", "89"),
    ] {
        let answer = client.send("GET", &client.v4("GET", "key", &[], &[]), &[("range", range)], b"");
        assert_eq!((answer.status, answer.text().as_str()), (206, part), "{range}");
    }
    for range in ["bytes=0-1,3-4", "lines=1-2", "bytes=2-1", "bytes=-", "bytes=a-b"] {
        let unsigned = client.send("GET", &client.v4("GET", "key", &[], &[]), &[("range", range)], b"");
        let signed = client.call("GET", "key", &[], &[("range", range)], b"");
        for answer in [unsigned, signed] {
            assert_eq!((answer.status, answer.text().as_str()), (200, "0123456789"), "{range}");
        }
        let target = client
            .v4("GET", "key", &[], &[("range", range)])
            .replace("Expires=300", "Expires=301");
        assert_eq!(
            refused(&client.send("GET", &target, &[("range", range)], b"")).0,
            403,
            "{range}"
        );
    }
    let answer = client.send(
        "GET",
        &client.v4("GET", "key", &[], &[]),
        &[("range", "bytes=10-")],
        b"",
    );
    assert_eq!((answer.status, answer.element("Code").as_str()), (416, "InvalidRange"));
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_reads_what_is_public_and_nothing_else() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("private", b"");
    let acl = [("x-amz-acl", "public-read")];
    let target = client.v4("PUT", "public", &[], &acl);
    assert_eq!(client.send("PUT", &target, &acl, b"for all").status, 200);
    assert_eq!(client.send("GET", "/uploads/public", &[], b"").body, b"for all");
    for (method, path) in [
        ("GET", "/uploads/private"),
        ("GET", "/uploads/absent"),
        ("GET", "/uploads/public?response-content-type=text/html"),
        ("PUT", "/uploads/public"),
        ("DELETE", "/uploads/public"),
        ("GET", "/uploads/"),
        ("GET", "/"),
        ("POST", "/uploads/public?uploads"),
    ] {
        let answer = client.send(method, path, &[], b"");
        assert!(
            (400..404).contains(&answer.status),
            "{method} {path}: {}",
            answer.status
        );
    }
    assert_eq!(
        elements(&client.ask("GET", "public", &[("acl", "")], b"").text(), "Grant").len(),
        2
    );
    let wrong = [("x-amz-acl", "for-me")];
    let answer = client.send("PUT", &client.v4("PUT", "other", &[], &wrong), &wrong, b"");
    assert_eq!(answer.element("Code"), "InvalidArgument");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_does_not_do_it_says() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for header in [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-acl", "public-read-write"),
    ] {
        let answer = client.call("PUT", "key", &[], &[header], b"");
        assert_eq!(
            (answer.status, answer.element("Code").as_str()),
            (501, "NotImplemented"),
            "{header:?}"
        );
    }
    assert_eq!(client.get("key").element("Code"), "NoSuchKey");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_one_version_whole_however_often_it_is_replaced() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    // Larger than a socket's buffers, so that a replacement falls into the middle of an answer.
    let versions: Vec<_> = (0..4).map(|seed| bytes(3 << 20, seed)).collect();
    client.put("key", &versions[0]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut read = 0;
                    while !done.load(Ordering::Relaxed) || read == 0 {
                        let answer = client.get("key");
                        assert_eq!(answer.etag(), format!("\"{}\"", hex(&Md5::digest(&answer.body))));
                        read += 1;
                    }
                })
            })
            .collect();
        for round in 0..20 {
            assert_eq!(client.put("key", &versions[round % versions.len()]).status, 200);
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_goes_when_it_is_empty_and_not_before() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("key", b"");
    let id = client.create("other");
    let refused = client.ask("DELETE", "", &[], b"");
    assert_eq!(
        (refused.status, refused.element("Code").as_str()),
        (409, "BucketNotEmpty")
    );
    assert_eq!(client.ask("DELETE", "key", &[], b"").status, 204);
    assert_eq!(client.ask("DELETE", "key", &[], b"").status, 204);
    assert_eq!(client.ask("DELETE", "", &[], b"").status, 204);
    assert_eq!(client.part("other", &id, 1, b"late").element("Code"), "NoSuchBucket");
    assert_eq!(client.ask("HEAD", "", &[], b"").status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_keys_each_is_deleted_only_as_it_was_meant() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for key in ["version", "other", "same", "plain"] {
        client.put(key, b"bytes");
    }
    let etag = client.ask("HEAD", "same", &[], b"").etag();
    let xml = format!(
        "<Delete><Object><Key>version</Key><VersionId>1</VersionId></Object>\
         <Object><Key>other</Key><ETag>\"0\"</ETag></Object>\
         <Object><Key>same</Key><ETag>{etag}</ETag></Object><Object><Key>plain</Key><VersionId>null</VersionId></Object></Delete>"
    );
    let answer = client.ask("POST", "", &[("delete", "")], xml.as_bytes()).text();
    assert_eq!(
        elements(&answer, "Code"),
        ["InvalidArgument", "PreconditionFailed"],
        "{answer}"
    );
    assert_eq!(
        elements(&client.ask("GET", "", &[], b"").text(), "Key"),
        ["other", "version"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_signature_nobody_chooses_how_an_object_is_shown() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.call(
        "PUT",
        "key",
        &[],
        &[("x-amz-acl", "public-read"), ("content-type", "text/plain")],
        b"<b>",
    );
    assert_eq!(client.send("GET", "/uploads/key", &[], b"").status, 200);
    for query in ["response-content-type=text/html", "%72esponse-content-type=text/html"] {
        let answer = client.send("GET", &format!("/uploads/key?{query}"), &[], b"");
        assert_eq!(answer.status, 400, "{query}: {:?}", answer.header("content-type"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_asked_for_is_dropped_in_silence() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("source", b"bytes");
    for header in [
        ("x-amz-server-side-encryption-customer-key", "eA=="),
        ("x-amz-server-side-encryption-aws-kms-key-id", "key"),
        ("x-amz-object-lock-retain-until-date", "2030-01-01T00:00:00Z"),
        ("x-amz-grant-read-acp", "id=\"owner\""),
    ] {
        assert_eq!(
            client.call("PUT", "key", &[], &[header], b"").element("Code"),
            "NotImplemented",
            "{header:?}"
        );
    }
    let copy = [
        ("x-amz-copy-source", "uploads/source"),
        ("x-amz-copy-source-server-side-encryption-customer-algorithm", "AES256"),
    ];
    assert_eq!(
        client.call("PUT", "key", &[], &copy, b"").element("Code"),
        "NotImplemented"
    );
    assert_eq!(
        client
            .call("PUT", "key", &[], &[("x-amz-bucket-object-lock-enabled", "false")], b"")
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_cannot_be_read_is_no_condition_for_a_reader() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("key", b"body");
    for name in ["if-modified-since", "if-unmodified-since"] {
        let answer = client.call("GET", "key", &[], &[(name, "yesterday")], b"");
        assert_eq!((answer.status, answer.text().as_str()), (200, "body"), "{name}");
    }
    let past = "Sat, 29 Oct 1994 19:43:31 GMT";
    assert_eq!(
        client
            .call("GET", "key", &[], &[("if-unmodified-since", past)], b"")
            .status,
        412
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_deleted_only_as_large_and_as_old_as_was_said() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("key", b"body");
    let modified = client.get("key").header("last-modified").unwrap();
    let past = "Sat, 29 Oct 1994 19:43:31 GMT";
    let (size, time) = ("x-amz-if-match-size", "x-amz-if-match-last-modified-time");
    for (headers, status) in [
        ([(size, "3"), (time, modified.as_str())], 412),
        ([(size, "4"), (time, past)], 412),
        ([(size, "four"), (time, past)], 400),
        ([(size, "4"), (time, "yesterday")], 400),
    ] {
        let answer = client.call("DELETE", "key", &[], &headers, b"");
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
    }
    let other = b"<Delete><Object><Key>key</Key><Size>3</Size></Object></Delete>";
    let answer = client.ask("POST", "", &[("delete", "")], other);
    assert_eq!(elements(&answer.text(), "Code"), ["PreconditionFailed"]);
    assert_eq!(client.get("key").status, 200);
    let headers = [(size, "4"), (time, modified.as_str())];
    assert_eq!(client.call("DELETE", "key", &[], &headers, b"").status, 204);
    assert_eq!(client.get("key").status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_empty_object_is_a_range() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("empty", b"");
    for range in ["bytes=0-", "bytes=-1", "bytes=5-9"] {
        let answer = client.call("GET", "empty", &[], &[("range", range)], b"");
        assert_eq!(refused(&answer), (416, "InvalidRange".into()), "{range}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_may_list_etags_and_weak_ones_do_not_vouch_for_bytes() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let etag = client.put("key", b"body").etag();
    let among = format!("\"a\", {etag},\"b\"");
    let weak = format!("W/{etag}");
    let among_weak = format!("W/\"a\", W/{etag}");
    for (tags, matches, is_there) in [
        (&etag, true, true),
        (&among, true, true),
        (&weak, false, true),
        (&among_weak, false, true),
        (&"\"a\", \"b\"".to_owned(), false, false),
    ] {
        let read = |name| client.call("GET", "key", &[], &[(name, tags.as_str())], b"").status;
        assert_eq!(read("if-match"), if matches { 200 } else { 412 }, "{tags}");
        assert_eq!(read("if-none-match"), if is_there { 304 } else { 200 }, "{tags}");
        let put = client.call("PUT", "key", &[], &[("if-match", tags.as_str())], b"body");
        assert_eq!(put.status, if matches { 200 } else { 412 }, "{tags}: {}", put.text());
    }
}
