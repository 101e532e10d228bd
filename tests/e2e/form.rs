//! The original form protocol, to the letter, and the faults of its first implementation that are not kept.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use shared::{MIB, Md5Digest};
use tests::{Answer, Api, Stack, cut, md5, multipart_etag, pattern, put};

const PART: u64 = 5 * MIB;

/// A form, field by field.
fn form(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The form that asks for a URL for each of these parts.
fn presign_form(key: &str, parts: &[&[u8]]) -> Vec<(String, String)> {
    let mut fields = form(&[("keyname", key), ("expires", "900")]);
    fields.extend(
        (1..)
            .zip(parts)
            .map(|(number, part): (u16, _)| (number.to_string(), md5(part).to_base64())),
    );
    fields
}

/// What `/presign` answered: the upload id, and the URLs by part number.
struct Presigned {
    id: String,
    urls: BTreeMap<u16, String>,
}

impl Presigned {
    /// As existing clients read it: every field but `UploadID` is a part.
    fn read(answer: &Answer) -> Self {
        let mut fields: BTreeMap<String, String> = answer.expect(201);
        let id = fields.remove("UploadID").unwrap();
        let urls = fields
            .into_iter()
            .map(|(number, url)| (number.parse().unwrap(), url))
            .collect();
        Self { id, urls }
    }

    async fn send(&self, number: u16, bytes: &[u8]) -> Answer {
        let headers = BTreeMap::from([("Content-MD5".to_owned(), md5(bytes).to_base64())]);
        put(&self.urls[&number], &headers, bytes.to_vec()).await
    }

    async fn complete(&self, api: &Api, key: &str) -> Answer {
        api.post_form("/complete", &form(&[("uploadid", &self.id), ("keyname", key)]))
            .await
    }
}

#[tokio::test]
async fn a_form_is_answered_with_an_upload_id_a_url_for_each_part_and_nothing_else() {
    let stack = Stack::start().await;
    let answer = stack
        .api
        .post_form("/presign", &presign_form("a.bin", &[b"one", b"two", b"three"]))
        .await;

    let presigned = Presigned::read(&answer);
    assert!(presigned.urls.keys().eq(&[1, 2, 3]));
    assert!(
        presigned
            .urls
            .values()
            .all(|url| url.starts_with(&stack.store.endpoint))
    );
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test]
async fn a_file_arrives_with_its_type_and_metadata() {
    let stack = Stack::start().await;
    let bytes = pattern(2 * PART + 1);
    let parts: Vec<_> = cut(&bytes, PART).collect();
    let mut fields = presign_form("dir/ünï cödé +&=%.bin", &parts);
    fields.extend(form(&[
        ("contenttype", "video/mp4"),
        ("x-amz-meta-camera", "left + right"),
    ]));

    let presigned = Presigned::read(&stack.api.post_form("/presign", &fields).await);
    for (number, part) in (1..).zip(&parts) {
        assert_eq!(presigned.send(number, part).await.status, 200);
    }
    let answer = presigned.complete(&stack.api, "dir/ünï cödé +&=%.bin").await;

    assert_eq!(answer.expect::<Value>(200), serde_json::json!({"status_code": 200}));
    let object = stack.bucket.get("dir/ünï cödé +&=%.bin").await.unwrap();
    assert!(object.bytes == bytes, "the object differs from the file");
    assert_eq!(object.etag, multipart_etag(parts));
    assert_eq!(object.content_type.as_deref(), Some("video/mp4"));
    assert_eq!(object.metadata["camera"], "left + right");
}

#[tokio::test]
async fn completing_does_not_start_a_second_upload() {
    let stack = Stack::start().await;
    let presigned = Presigned::read(&stack.api.post_form("/presign", &presign_form("a", &[b"all"])).await);
    assert_eq!(presigned.send(1, b"all").await.status, 200);
    assert_eq!(stack.bucket.open_uploads("").await, ["a"]);

    presigned.complete(&stack.api, "a").await.expect::<Value>(200);

    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
    assert_eq!(stack.bucket.keys("").await, ["a"]);
}

#[tokio::test]
async fn completing_again_gives_the_same_answer() {
    let stack = Stack::start().await;
    let presigned = Presigned::read(&stack.api.post_form("/presign", &presign_form("a", &[b"all"])).await);
    assert_eq!(presigned.send(1, b"all").await.status, 200);
    for _ in 0..2 {
        presigned.complete(&stack.api, "a").await.expect::<Value>(200);
    }
}

#[tokio::test]
async fn a_missing_part_is_named_and_makes_no_object() {
    let stack = Stack::start().await;
    let bytes = pattern(3 * PART);
    let parts: Vec<_> = cut(&bytes, PART).collect();
    let presigned = Presigned::read(&stack.api.post_form("/presign", &presign_form("a", &parts)).await);
    for number in [1, 3] {
        assert_eq!(presigned.send(number, parts[usize::from(number) - 1]).await.status, 200);
    }

    let answer = presigned.complete(&stack.api, "a").await;

    let problem = answer.problem(422);
    assert_eq!(problem.code, "parts_missing");
    assert_eq!(problem.parts.iter().map(|part| part.get()).collect::<Vec<_>>(), [2]);
    assert!(problem.detail.contains('2'), "{}", problem.detail);
    assert_eq!(answer.expect::<Value>(422)["status_code"], 422);
    assert!(stack.bucket.get("a").await.is_none());

    // And nothing is lost: the part can still be sent.
    assert_eq!(presigned.send(2, parts[1]).await.status, 200);
    presigned.complete(&stack.api, "a").await.expect::<Value>(200);
    assert!(stack.bucket.get("a").await.unwrap().bytes == bytes);
}

#[tokio::test]
async fn ten_thousand_digests_in_one_form_are_answered_with_ten_thousand_urls() {
    let stack = Stack::start().await;
    let digests = (1..=10_000_u16).map(|number| (number.to_string(), Md5Digest::from_bytes([7; 16]).to_base64()));
    let mut fields = form(&[("keyname", "large"), ("expires", "900")]);
    fields.extend(digests);

    let presigned = Presigned::read(&stack.api.post_form("/presign", &fields).await);

    assert!(presigned.urls.into_keys().eq(1..=10_000));
}

#[tokio::test]
async fn a_part_that_is_not_what_its_digest_said_is_refused_by_the_store() {
    let stack = Stack::start().await;
    let presigned = Presigned::read(&stack.api.post_form("/presign", &presign_form("a", &[b"right"])).await);

    let declared = BTreeMap::from([("Content-MD5".to_owned(), md5(b"right").to_base64())]);
    let answer = put(&presigned.urls[&1], &declared, b"wrong".to_vec()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("BadDigest"), "{}", answer.text());

    // Nor does it help to declare another digest than the one that was signed.
    assert_eq!(presigned.send(1, b"wrong").await.status, 403);
    assert_eq!(
        presigned.complete(&stack.api, "a").await.problem(422).code,
        "parts_missing"
    );
}

#[tokio::test]
async fn a_form_that_lacks_a_field_or_has_a_bad_one_is_refused_by_name() {
    let stack = Stack::start().await;
    let good = md5(b"x").to_base64();
    let fifteen = BASE64.encode([0; 15]);
    let bad_forms: &[(&[(&str, &str)], &str)] = &[
        (&[("expires", "900"), ("1", &good)], "keyname"),
        (&[("keyname", "a"), ("1", &good)], "expires"),
        (&[("keyname", "a"), ("expires", "soon"), ("1", &good)], "expires"),
        (&[("keyname", "a"), ("expires", "-1"), ("1", &good)], "expires"),
        (&[("keyname", "a"), ("expires", "900"), ("0", &good)], "0"),
        (&[("keyname", "a"), ("expires", "900"), ("10001", &good)], "10001"),
        (&[("keyname", "a"), ("expires", "900"), ("1", "not base64")], "1"),
        (&[("keyname", "a"), ("expires", "900"), ("1", &fifteen)], "15"),
        (&[("keyname", "a"), ("expires", "900"), ("1", &good), ("3", &good)], "2"),
        (&[("keyname", "a"), ("expires", "900")], "part"),
        (&[("keyname", ""), ("expires", "900"), ("1", &good)], "name"),
    ];
    for (fields, named) in bad_forms {
        let answer = stack.api.post_form("/presign", &form(fields)).await;
        let status = answer.status;
        assert!((400..500).contains(&status), "{fields:?} was answered with {status}");
        let problem = answer.problem(status);
        assert!(problem.detail.contains(named), "{fields:?}: {}", problem.detail);
    }
    assert_eq!(
        stack.bucket.open_uploads("").await,
        [""; 0],
        "a refused form left an upload"
    );
}

#[tokio::test]
async fn complete_and_abort_without_their_fields_are_400() {
    let stack = Stack::start().await;
    for path in ["/complete", "/abort"] {
        for fields in [form(&[("keyname", "a")]), form(&[("uploadid", "x")]), form(&[])] {
            stack.api.post_form(path, &fields).await.problem(400);
        }
    }
}

#[tokio::test]
async fn an_acl_that_is_not_granted_is_refused_not_dropped() {
    let stack = Stack::start().await;
    let mut fields = presign_form("a", &[b"x"]);
    fields.extend(form(&[("x-amz-acl", "public-read")]));

    let answer = stack.api.post_form("/presign", &fields).await;

    assert_eq!(answer.problem(403).code, "acl_not_granted");
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn an_aborted_upload_is_gone_and_can_be_aborted_again() {
    let stack = Stack::start().await;
    let presigned = Presigned::read(&stack.api.post_form("/presign", &presign_form("a", &[b"x"])).await);
    let fields = form(&[("uploadid", &presigned.id), ("keyname", "a")]);
    for _ in 0..2 {
        assert_eq!(stack.api.post_form("/abort", &fields).await.status, 200);
    }
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
    assert_ne!(presigned.send(1, b"x").await.status, 200);
    let refused = presigned.complete(&stack.api, "a").await;
    refused.problem(refused.status);
    assert!(refused.status >= 400);
}

#[tokio::test]
async fn an_upload_is_not_completed_under_another_key() {
    let stack = Stack::start().await;
    let presigned = Presigned::read(&stack.api.post_form("/presign", &presign_form("mine", &[b"x"])).await);
    assert_eq!(presigned.send(1, b"x").await.status, 200);

    let answer = presigned.complete(&stack.api, "theirs").await;

    assert!((400..500).contains(&answer.status), "{}", answer.status);
    answer.problem(answer.status);
    assert_eq!(stack.bucket.keys("").await, [""; 0]);
}
