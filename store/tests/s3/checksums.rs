//! Additional checksums: held against the bytes, kept, and made anew for what is made of parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use store::DevStore;

use crate::bytes;
use crate::client::{Answer, Client, elements, hex, hmac256, refused};

/// Of the nine bytes that the catalogue of CRCs checks with.
const NINE: &[u8] = b"123456789";
const OF_NINE: [(&str, &str); 3] = [
    ("x-amz-checksum-crc32", "y/Q5Jg=="),
    ("x-amz-checksum-crc32c", "4waSgw=="),
    ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_what_its_checksum_says_leaves_what_was_there() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for (header, value) in OF_NINE {
        let answer = client.call("PUT", "key", &[], &[(header, value)], NINE);
        assert_eq!(answer.status, 200, "{header}: {}", answer.text());
        assert_eq!(answer.header(header).as_deref(), Some(value));
        let other = client.call("PUT", "key", &[], &[(header, value)], b"987654321");
        assert_eq!(refused(&other), (400, "BadDigest".into()), "{header}");
        let read = client.call("GET", "key", &[], &[("x-amz-checksum-mode", "ENABLED")], b"");
        assert_eq!(
            (read.body.as_slice(), read.header(header).as_deref()),
            (NINE, Some(value))
        );
        assert_eq!(read.header("x-amz-checksum-type").as_deref(), Some("FULL_OBJECT"));
        assert_eq!(client.get("key").header(header), None, "told unasked");
    }
}

/// Uploads two parts under a checksum, and answers what Complete says.
fn in_two_parts(client: &Client, key: &str, algorithm: &[(&str, &str)], parts: [&[u8]; 2]) -> (String, Answer) {
    let created = client.call("POST", key, &[("uploads", "")], algorithm, b"");
    assert_eq!(created.status, 200, "{}", created.text());
    let id = created.element("UploadId");
    let etags: Vec<_> = (1..)
        .zip(parts)
        .map(|(number, part)| client.part(key, &id, number, part).etag())
        .collect();
    let listed = client.list_parts(key, &id, "0").text();
    (listed, client.complete(key, &id, &[(1, &etags[0]), (2, &etags[1])]))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parts_the_checksum_is_of_all_bytes_where_sums_can_be_combined() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let large = bytes(5 << 20, 1);
    for (name, header) in [
        ("CRC32", "x-amz-checksum-crc32"),
        ("CRC32C", "x-amz-checksum-crc32c"),
        ("CRC64NVME", "x-amz-checksum-crc64nvme"),
    ] {
        let element = format!("Checksum{name}");
        let whole = client.call(
            "PUT",
            "whole",
            &[],
            &[("x-amz-sdk-checksum-algorithm", name)],
            &[&large, NINE].concat(),
        );
        assert_eq!(whole.status, 200);
        let asked = [
            ("x-amz-checksum-algorithm", name),
            ("x-amz-checksum-type", "FULL_OBJECT"),
        ];
        let (listed, completed) = in_two_parts(&client, "parts", &asked, [&large, NINE]);
        let of_nine = OF_NINE.iter().find(|(known, _)| *known == header).unwrap().1;
        assert_eq!(elements(&listed, &element)[1], of_nine, "{listed}");
        // The store's own sum of the same bytes in one piece, which it has to compute for a copy.
        let copy = [
            ("x-amz-copy-source", "uploads/parts"),
            ("x-amz-checksum-algorithm", name),
        ];
        let copied = client.call("PUT", "copy", &[], &copy, b"");
        assert!(!completed.element(&element).is_empty(), "{}", completed.text());
        assert_eq!(completed.element(&element), copied.element(&element), "{name}");
        let head = client.call("HEAD", "parts", &[], &[("x-amz-checksum-mode", "ENABLED")], b"");
        assert_eq!(head.header(header), Some(completed.element(&element)));
        assert_eq!(head.header("x-amz-checksum-type").as_deref(), Some("FULL_OBJECT"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_composite_checksum_is_of_the_parts_checksums() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let large = bytes(5 << 20, 2);
    let asked = [("x-amz-checksum-algorithm", "SHA256")];
    let (listed, completed) = in_two_parts(&client, "key", &asked, [&large, NINE]);
    let digests = [Sha256::digest(&large), Sha256::digest(NINE)];
    assert_eq!(
        elements(&listed, "ChecksumSHA256"),
        digests.map(|digest| BASE64.encode(digest))
    );
    let expected = format!("{}-2", BASE64.encode(Sha256::digest(digests.concat())));
    assert_eq!(completed.element("ChecksumSHA256"), expected);
    assert_eq!(completed.element("ChecksumType"), "COMPOSITE");
    let attributes = [("x-amz-object-attributes", "Checksum,ObjectParts,ObjectSize,ETag")];
    let told = client.call("GET", "key", &[("attributes", "")], &attributes, b"");
    assert_eq!(told.status, 200, "{}", told.text());
    assert_eq!(elements(&told.text(), "ChecksumSHA256")[0], expected);
    assert_eq!(told.element("ObjectSize"), ((5 << 20) + 9).to_string());
    assert_eq!(told.element("PartsCount"), "2", "{}", told.text());
    assert_eq!(elements(&told.text(), "PartNumber"), ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_has_the_checksum_that_its_upload_was_created_for() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let asked = [("x-amz-checksum-algorithm", "SHA1")];
    let id = client
        .call("POST", "key", &[("uploads", "")], &asked, b"")
        .element("UploadId");
    let query = [("partNumber", "1"), ("uploadId", id.as_str())];
    let other = client.call("PUT", "key", &query, &OF_NINE[..1], NINE);
    assert_eq!(refused(&other), (400, "InvalidRequest".into()));
    for (algorithm, kind) in [
        ("SHA1", "FULL_OBJECT"),
        ("CRC64NVME", "COMPOSITE"),
        ("CRC32", "HALF"),
        ("MD4", "COMPOSITE"),
    ] {
        let asked = [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind)];
        let answer = client.call("POST", "key", &[("uploads", "")], &asked, b"");
        assert_eq!(refused(&answer), (400, "InvalidRequest".into()), "{algorithm} {kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checksum_that_could_not_be_held_against_anything_is_refused() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for (created, declared, code) in [
        (None, ("x-amz-checksum-crc32", "AAAAAA=="), "InvalidRequest"),
        (
            Some("CRC32"),
            ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
            "InvalidRequest",
        ),
        (Some("CRC32"), ("x-amz-checksum-crc32", "AAAAAA=="), "BadDigest"),
    ] {
        let asked: Vec<_> = created
            .into_iter()
            .map(|name| ("x-amz-checksum-algorithm", name))
            .collect();
        let id = client
            .call("POST", "key", &[("uploads", "")], &asked, b"")
            .element("UploadId");
        let etag = client.part("key", &id, 1, NINE).etag();
        let xml = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        );
        let answer = client.call("POST", "key", &[("uploadId", &id)], &[declared], xml.as_bytes());
        assert_eq!(
            answer.element("Code"),
            code,
            "{created:?} {declared:?}: {}",
            answer.text()
        );
        assert_eq!(
            client.complete("key", &id, &[(1, &etag)]).status,
            200,
            "the upload is not open any more"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_tell_again_what_a_part_was_checked_by() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("key");
    let query = [("partNumber", "1"), ("uploadId", id.as_str())];
    let etag = client.call("PUT", "key", &query, &OF_NINE[..1], NINE).etag();
    let part = format!(
        "<PartNumber>1</PartNumber><ETag>{etag}</ETag><ChecksumCRC32>{}</ChecksumCRC32>",
        OF_NINE[0].1
    );
    let xml = format!("<CompleteMultipartUpload><Part>{part}</Part></CompleteMultipartUpload>");
    let completed = client.ask("POST", "key", &[("uploadId", &id)], xml.as_bytes());
    assert_eq!(completed.status, 200, "{}", completed.text());
    assert_eq!(client.get("key").body, NINE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_no_checksum_has_is_refused_as_a_wrong_request() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for (header, value) in [
        ("x-amz-checksum-crc32", "!!"),
        ("x-amz-checksum-crc32", "rosUhgp5mIg="),
        ("x-amz-checksum-sha256", "y/Q5Jg=="),
    ] {
        let answer = client.call("PUT", "key", &[], &[(header, value)], NINE);
        assert_eq!(refused(&answer), (400, "InvalidRequest".into()), "{header} {value}");
        assert_eq!(
            answer.element("Message"),
            format!("Value for {header} header is invalid.")
        );
    }
    assert_eq!(client.get("key").status, 404);
}

/// A PUT whose checksum, announced as this one, comes behind the body.
fn put_trailed(client: &Client, announced: &str, body: &str) -> Answer {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = client.now.format(&format).unwrap();
    let length = NINE.len().to_string();
    let headers = [
        ("content-encoding", "aws-chunked"),
        ("host", &client.address.to_string()),
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-date", &time),
        ("x-amz-decoded-content-length", &length),
        ("x-amz-trailer", announced),
    ];
    let names = headers.map(|(name, _)| name).join(";");
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let canonical = format!("PUT\n/uploads/key\n\n{lines}\n{names}\nSTREAMING-UNSIGNED-PAYLOAD-TRAILER");
    let scope = format!("{}/us-east-1/s3/aws4_request", &time[..8]);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        hex(&Sha256::digest(&canonical))
    );
    let mut signing = format!("AWS4{}", client.credentials.secret_access_key).into_bytes();
    for step in scope.split('/').chain([to_sign.as_str()]) {
        signing = hmac256(&signing, step);
    }
    let id = &client.credentials.access_key_id;
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={}",
        hex(&signing)
    );
    let mut sent: Vec<_> = headers.into_iter().filter(|(name, _)| *name != "host").collect();
    sent.push(("authorization", &authorization));
    client.send("PUT", "/uploads/key", &sent, body.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_body_stands_what_was_announced_and_nothing_else() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let (good, other) = (
        "x-amz-checksum-crc32:y/Q5Jg==\r\n",
        "x-amz-checksum-crc32c:4waSgw==\r\n",
    );
    let behind = |trailer: &str| format!("9\r\n123456789\r\n0\r\n{trailer}\r\n");
    for body in [
        behind(""),
        behind(other),
        behind(&[good, good].concat()),
        behind(&[good, other].concat()),
        "9\r\n123456789\r\n".to_owned(),
    ] {
        let answer = put_trailed(&client, "x-amz-checksum-crc32", &body);
        assert_eq!(
            refused(&answer),
            (400, "MalformedTrailerError".into()),
            "{body:?}: {}",
            answer.text()
        );
    }
    assert_eq!(client.get("key").status, 404);
    let answer = put_trailed(&client, "x-amz-checksum-crc32", &behind(good));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(client.get("key").body, NINE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checksum_that_is_not_known_is_not_taken_for_verified() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let wrong = [("x-amz-checksum-sha512", "AAAA")];
    let answer = client.call("PUT", "key", &[], &wrong, b"body");
    assert_eq!(refused(&answer), (501, "NotImplemented".into()));
    assert_eq!(client.get("key").status, 404);
}
