//! XML documents: taken as they were meant and as they were sent, or not at all.

use store::DevStore;

use crate::client::{Client, md5_base64, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_number_with_anything_else_in_it_is_no_number() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let rule = |days: &str| {
        format!(
            "<LifecycleConfiguration><Rule><ID>a</ID><Prefix>x</Prefix><Status>Enabled</Status><Expiration><Days>{days}</Days>\
             </Expiration></Rule></LifecycleConfiguration>"
        )
    };
    for days in [
        "1,000",
        "1.5",
        "1e3",
        "+1",
        "0x10",
        "1<!-- -->",
        "1<![CDATA[0]]>",
        "99999999999",
        "",
    ] {
        let answer = client.ask("PUT", "", &[("lifecycle", "")], rule(days).as_bytes());
        assert_eq!(refused(&answer), (400, "MalformedXML".into()), "{days}");
    }
    assert_eq!(client.ask("GET", "", &[("lifecycle", "")], b"").status, 404);
    assert_eq!(
        client
            .ask("PUT", "", &[("lifecycle", "")], rule("1000").as_bytes())
            .status,
        200
    );
    assert_eq!(client.ask("GET", "", &[("lifecycle", "")], b"").element("Days"), "1000");

    let id = client.create("key");
    let etag = client.part("key", &id, 1, b"part").etag();
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1x</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    );
    let answer = client.ask("POST", "key", &[("uploadId", &id)], list.as_bytes());
    assert_eq!(refused(&answer), (400, "MalformedXML".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_not_what_its_digest_says_changes_nothing() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("key", b"body");
    let delete = b"<Delete><Object><Key>key</Key></Object></Delete>";
    for (header, value, code) in [
        ("content-md5", md5_base64(b"another"), "BadDigest"),
        ("content-md5", "short".to_owned(), "InvalidDigest"),
        ("content-md5", String::new(), "InvalidDigest"),
        ("x-amz-checksum-crc32", "AAAAAA==".to_owned(), "BadDigest"),
    ] {
        let answer = client.call("POST", "", &[("delete", "")], &[(header, value.as_str())], delete);
        assert_eq!(refused(&answer), (400, code.into()), "{header}: {value}");
    }
    assert_eq!(client.get("key").status, 200);
    let md5 = md5_base64(delete);
    let answer = client.call("POST", "", &[("delete", "")], &[("content-md5", md5.as_str())], delete);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(client.get("key").status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_a_section_that_would_be_dropped_is_refused() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let delete = b"<Delete><Object><Key><![CDATA[key]]></Key></Object></Delete>";
    let answer = client.ask("POST", "", &[("delete", "")], delete);
    assert_eq!(refused(&answer), (400, "MalformedXML".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_larger_than_any_is_refused_for_its_size_before_it_is_read() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let large = format!("<Delete>{}</Delete>", " ".repeat(9 << 20));
    for (method, query) in [
        ("POST", "delete"),
        ("PUT", "lifecycle"),
        ("PUT", "cors"),
        ("PUT", "tagging"),
    ] {
        let answer = client.ask(method, "", &[(query, "")], large.as_bytes());
        assert_eq!(refused(&answer), (400, "MaxMessageLengthExceeded".into()), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_words() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let answers = [
        client.ask("PUT", &"k".repeat(1025), &[], b""),
        client.ask("PUT", "", &[("lifecycle", "")], b"<LifecycleConfiguration>"),
        client.ask("GET", "nothing", &[], b""),
    ];
    for answer in answers {
        assert!(!answer.element("Message").is_empty(), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn characters_that_xml_cannot_hold_are_told_as_references() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let key = "a\u{1}b\rc";
    assert_eq!(client.put(key, b"\x01 data \r stay as they are").status, 200);
    assert_eq!(client.get(key).body, b"\x01 data \r stay as they are");
    let document = client.put("document", b"<?xml version=\"1.0\"?><a>\x01</a>");
    assert_eq!(document.status, 200);
    assert_eq!(client.get("document").body, b"<?xml version=\"1.0\"?><a>\x01</a>");

    let list = client.ask("GET", "", &[("list-type", "2")], b"");
    assert!(list.text().contains("<Key>a&#1;b&#13;c</Key>"), "{}", list.text());
    let list = client.ask("GET", "", &[("encoding-type", "url"), ("list-type", "2")], b"");
    assert!(list.text().contains("<Key>a%01b%0Dc</Key>"), "{}", list.text());
    let id = client.create(key);
    let uploads = client.ask("GET", "", &[("uploads", "")], b"");
    assert!(uploads.text().contains("<Key>a&#1;b&#13;c</Key>"), "{}", uploads.text());
    let part = client.part(key, &id, 1, b"part").etag();
    let done = client.complete(key, &id, &[(1, &part)]);
    assert!(done.text().contains("<Key>a&#1;b&#13;c</Key>"), "{}", done.text());
    // As Python's clients send it: the protocol layer takes no reference to what XML cannot hold.
    let delete = b"<Delete><Object><Key>a\x01b&#13;c</Key></Object></Delete>";
    let deleted = client.ask("POST", "", &[("delete", "")], delete);
    assert!(deleted.text().contains("<Key>a&#1;b&#13;c</Key>"), "{}", deleted.text());
    assert_eq!(client.get(key).status, 404);
    let missing = client.get("x\u{1}").text();
    assert!(!missing.contains('\u{1}'), "{missing}");
}
