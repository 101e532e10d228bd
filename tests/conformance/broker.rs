//! Whole uploads through a broker.

use std::collections::BTreeMap;

use broker::config::Settings;
use broker::s3::Profile;
use broker::sign::SignatureVersion;
use reqwest::Method;
use serde_json::{Value, json};
use shared::MIB;
use shared::api::{CompletedObject, Download, ObjectList, UploadCreated};
use tests::{Api, Stack, StoreUnderTest, cut, md5, multipart_etag, pattern, put, random_bytes, unique};

const PART: u64 = 5 * MIB;

#[tokio::test]
async fn a_file_arrives_byte_for_byte_with_type_metadata_and_the_etag_of_its_parts() {
    let stack = Stack::on_store_under_test().await;
    let bytes = random_bytes(PART + 1);
    let name = unique("ünï cödé +&=%.bin");
    let asked = json!({"name": name, "size": bytes.len(), "part_size": PART, "content_type": "text/x-test",
        "metadata": {"origin": "conformance suite"}});
    let upload: UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(201);
    stack.api.send_parts(&upload, &bytes, [2, 1]).await;

    let object: CompletedObject = stack.api.complete(&upload.upload_id).await.expect(200);

    let stored = stack.bucket.get(&name).await.unwrap();
    assert!(stored.bytes == bytes, "the object differs from the file");
    assert_eq!(stored.content_type.as_deref(), Some("text/x-test"));
    assert_eq!(stored.metadata["origin"], "conformance suite");
    assert_eq!(stored.etag, multipart_etag(cut(&bytes, PART)));
    assert_eq!(object.etag.unquoted(), stored.etag);
    assert_eq!(object.size, bytes.len() as u64);
}

#[tokio::test]
async fn an_acl_that_is_granted_arrives_with_type_and_metadata_by_the_form_protocol() {
    let settings = Settings {
        acls: Some("private,public-read".into()),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::from_environment().await, settings).await;
    for (acl, readable) in [("public-read", true), ("private", false)] {
        let name = unique(acl);
        let content = md5(b"content").to_base64();
        let fields = [
            ("keyname", name.as_str()),
            ("expires", "600"),
            ("1", &content),
            ("x-amz-acl", acl),
        ];
        let fields = fields
            .into_iter()
            .chain([("contenttype", "text/x-test"), ("x-amz-meta-colour", "blue")]);
        let fields: Vec<_> = fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let answer: BTreeMap<String, String> = stack.api.post_form("/presign", &fields).await.expect(201);
        let headers = BTreeMap::from([("Content-MD5".to_owned(), content)]);
        assert_eq!(put(&answer["1"], &headers, b"content".to_vec()).await.status, 200);
        let fields = [("uploadid", &answer["UploadID"]), ("keyname", &name)];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.clone()));
        assert_eq!(stack.api.post_form("/complete", &fields).await.status, 200);

        let stored = stack.bucket.get(&name).await.unwrap();
        assert_eq!(stored.bytes, b"content");
        assert_eq!(stored.content_type.as_deref(), Some("text/x-test"));
        assert_eq!(stored.metadata["colour"], "blue");
        // Without any signature, as anybody may ask.
        let url = format!("{}/{}/{name}", stack.store.endpoint, stack.store.bucket);
        let status = reqwest::get(url).await.unwrap().status();
        assert_eq!(
            status == 200,
            readable && stack.store.kind.has_acls(),
            "{acl}: {status}"
        );
    }
}

#[tokio::test]
async fn an_empty_file_becomes_an_empty_object() {
    let stack = Stack::on_store_under_test().await;
    let name = unique("empty");
    assert_eq!(stack.api.upload(&name, b"").await.size, 0);
    assert_eq!(stack.bucket.get(&name).await.unwrap().bytes, b"");
    assert_eq!(stack.bucket.open_uploads(&name).await, [""; 0]);
}

#[tokio::test]
async fn an_upload_is_continued_by_another_broker_from_the_parts_the_store_holds() {
    let stack = Stack::on_store_under_test().await;
    let (bytes, name) = (pattern(2 * PART + 9), unique("resumed"));
    let asked = json!({"name": name, "size": bytes.len(), "part_size": PART, "fingerprint": name});
    let upload: UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(201);
    stack.api.send_parts(&upload, &bytes, [1, 3]).await;

    let stack = stack.with_broker_restarted().await;
    let again: UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(200);

    assert_eq!(again.upload_id, upload.upload_id);
    assert_eq!(
        again
            .parts
            .iter()
            .map(|part| (part.number.get(), part.size))
            .collect::<Vec<_>>(),
        [(1, PART), (3, 9)]
    );
    stack.api.send_parts(&again, &bytes, [2]).await;
    stack
        .api
        .complete(&again.upload_id)
        .await
        .expect::<CompletedObject>(200);
    assert!(stack.bucket.get(&name).await.unwrap().bytes == bytes);
}

#[tokio::test]
async fn a_part_that_does_not_match_its_md5_is_not_stored() {
    let stack = Stack::on_store_under_test().await;
    let upload = stack.api.create(&unique("damaged"), 4).await;
    let signed = stack.api.sign(&upload.upload_id, 1, Some(md5(b"sent"))).await;

    let answer = put(&signed.url, &signed.headers, b"lost".to_vec()).await;

    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("<Code>BadDigest</Code>"), "{}", answer.text());
    assert_eq!(
        stack.api.complete(&upload.upload_id).await.problem(409).code,
        "parts_missing"
    );
}

#[tokio::test]
async fn a_missing_part_is_named_and_makes_no_object() {
    let stack = Stack::on_store_under_test().await;
    let name = unique("hole");
    let asked = json!({"name": name, "size": 2 * PART + 1, "part_size": PART});
    let upload: UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(201);
    stack.api.send_parts(&upload, &pattern(2 * PART + 1), [1, 3]).await;

    let problem = stack.api.complete(&upload.upload_id).await.problem(409);

    assert_eq!(problem.parts.iter().map(|part| part.get()).collect::<Vec<_>>(), [2]);
    assert!(stack.bucket.get(&name).await.is_none());
}

#[tokio::test]
async fn more_than_a_thousand_parts_are_all_listed_and_joined_in_order() {
    // Every store here has been told to take small parts: see conformance.sh and Stack::on_store_under_test.
    const COUNT: u16 = 1203;
    let stack = Stack::on_store_under_test().await;
    let name = unique("many");
    let part = |number: u16| format!("{number:05};").into_bytes();
    let mut fields = vec![
        ("keyname".to_owned(), name.clone()),
        ("expires".to_owned(), "900".to_owned()),
    ];
    fields.extend((1..=COUNT).map(|number| (number.to_string(), md5(&part(number)).to_base64())));
    let mut urls: BTreeMap<String, String> = stack.api.post_form("/presign", &fields).await.expect(201);
    let id = urls.remove("UploadID").unwrap();

    let mut senders = tokio::task::JoinSet::new();
    for lane in 0..8_u16 {
        let urls = urls.clone();
        senders.spawn(async move {
            for number in (1..=COUNT).filter(|number| number % 8 == lane && *number != 1101) {
                let headers = BTreeMap::from([("Content-MD5".to_owned(), md5(&part(number)).to_base64())]);
                let answer = put(&urls[&number.to_string()], &headers, part(number)).await;
                assert_eq!(answer.status, 200, "part {number}: {}", answer.text());
            }
        });
    }
    senders.join_all().await;
    let complete = [("uploadid".to_owned(), id), ("keyname".to_owned(), name.clone())];
    let problem = stack.api.post_form("/complete", &complete).await.problem(422);
    assert_eq!(
        problem.parts.iter().map(|part| part.get()).collect::<Vec<_>>(),
        [1101],
        "one on the second page"
    );

    let headers = BTreeMap::from([("Content-MD5".to_owned(), md5(&part(1101)).to_base64())]);
    assert_eq!(put(&urls["1101"], &headers, part(1101)).await.status, 200);
    stack.api.post_form("/complete", &complete).await.expect::<Value>(200);
    let object = stack.bucket.get(&name).await.unwrap();
    assert!(object.bytes == (1..=COUNT).flat_map(part).collect::<Vec<_>>());
    let parts: Vec<_> = (1..=COUNT).map(part).collect();
    assert_eq!(object.etag, multipart_etag(parts.iter().map(Vec::as_slice)));
}

#[tokio::test]
async fn parts_of_different_sizes_are_joined_where_the_profile_says_so() {
    let stack = Stack::on_store_under_test().await;
    if Profile::of(stack.store.kind.profile()).equal_parts {
        return;
    }
    let (name, parts) = (unique("growing"), [PART, PART + 3, 1].map(random_bytes));
    let numbered = || {
        (1..)
            .zip(&parts)
            .map(|(number, part): (u16, _)| (number.to_string(), part))
    };
    let mut fields = vec![
        ("keyname".to_owned(), name.clone()),
        ("expires".to_owned(), "600".to_owned()),
    ];
    fields.extend(numbered().map(|(number, part)| (number, md5(part).to_base64())));
    let answer: BTreeMap<String, String> = stack.api.post_form("/presign", &fields).await.expect(201);
    for (number, part) in numbered() {
        let headers = BTreeMap::from([("Content-MD5".to_owned(), md5(part).to_base64())]);
        assert_eq!(put(&answer[&number], &headers, part.clone()).await.status, 200);
    }
    let fields = [
        ("uploadid".to_owned(), answer["UploadID"].clone()),
        ("keyname".to_owned(), name.clone()),
    ];
    assert_eq!(stack.api.post_form("/complete", &fields).await.status, 200);
    assert!(stack.bucket.get(&name).await.unwrap().bytes == parts.concat());
}

#[tokio::test]
async fn completing_twice_answers_the_same_object_and_leaves_no_upload() {
    let stack = Stack::on_store_under_test().await;
    let name = unique("twice");
    let upload = stack.api.create(&name, 3).await;
    stack.api.send_parts(&upload, b"abc", [1]).await;
    let first: CompletedObject = stack.api.complete(&upload.upload_id).await.expect(200);
    let again: CompletedObject = stack.api.complete(&upload.upload_id).await.expect(200);
    assert_eq!(first, again);
    assert_eq!(stack.bucket.open_uploads(&name).await, [""; 0]);
}

#[tokio::test]
async fn an_aborted_upload_takes_no_more_parts() {
    let stack = Stack::on_store_under_test().await;
    let name = unique("aborted");
    let upload = stack.api.create(&name, 3).await;
    let signed = stack.api.sign(&upload.upload_id, 1, Some(md5(b"abc"))).await;
    assert_eq!(
        stack
            .api
            .delete(&format!("/v1/uploads/{}", upload.upload_id))
            .await
            .status,
        204
    );
    assert_eq!(put(&signed.url, &signed.headers, b"abc".to_vec()).await.status, 404);
    assert_eq!(stack.bucket.open_uploads(&name).await, [""; 0]);
}

#[tokio::test]
async fn the_form_protocol_works_with_signature_version_2_where_the_store_knows_it() {
    let stack = Stack::on_store_under_test().await;
    if !stack.store.kind.has_v2() {
        let settings = stack.settings_with_signature(SignatureVersion::V2);
        let refusal = settings.resolve().unwrap_err().to_string();
        assert!(refusal.contains("V4 only"), "{refusal}");
        return;
    }
    let stack = stack.with_signature(SignatureVersion::V2).await;
    let name = unique("version 2 +&=%");
    let fields = [
        ("keyname", name.as_str()),
        ("expires", "900"),
        ("1", &md5(b"bytes").to_base64()),
    ];
    let fields = fields.map(|(field, value)| (field.to_owned(), value.to_owned()));
    let presigned: BTreeMap<String, String> = stack.api.post_form("/presign", &fields).await.expect(201);
    assert!(presigned["1"].contains("AWSAccessKeyId="), "not a URL of version 2");
    let headers = BTreeMap::from([("Content-MD5".to_owned(), md5(b"bytes").to_base64())]);

    let answer = put(&presigned["1"], &headers, b"bytes".to_vec()).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    let complete = [
        ("uploadid".to_owned(), presigned["UploadID"].clone()),
        ("keyname".to_owned(), name.clone()),
    ];
    stack.api.post_form("/complete", &complete).await.expect::<Value>(200);
    assert_eq!(stack.bucket.get(&name).await.unwrap().bytes, b"bytes");
}

#[tokio::test]
async fn an_object_is_listed_and_downloaded_whichever_way_the_url_is_signed() {
    let settings = Settings {
        downloads: Some(true),
        ..Settings::default()
    };
    let mut stack = Stack::with(StoreUnderTest::from_environment().await, settings).await;
    let folder = unique("listed ü &+%");
    for number in 1..=3 {
        stack.api.upload(&format!("{folder}/{number}"), b"0123456789").await;
    }

    let query = [("prefix", format!("{folder}/")), ("limit", "2".into())];
    let request = stack.api.request(Method::GET, "/v1/objects");
    let page: ObjectList = stack.api.send(request.query(&query)).await.expect(200);
    assert_eq!(page.objects.len(), 2);
    let cursor = ("cursor", page.next_cursor.unwrap());
    let request = stack.api.request(Method::GET, "/v1/objects");
    let [prefix, limit] = query;
    let rest: ObjectList = stack
        .api
        .send(request.query(&[prefix, limit, cursor]))
        .await
        .expect(200);
    assert_eq!((rest.objects.len(), rest.next_cursor), (1, None));
    let object = &rest.objects[0];
    assert_eq!((object.key.as_str(), object.size), (format!("{folder}/3").as_str(), 10));

    for version in [SignatureVersion::V4, SignatureVersion::V2] {
        if version == SignatureVersion::V2 && !stack.store.kind.has_v2() {
            continue;
        }
        stack = stack.with_signature(version).await;
        let download: Download = stack
            .api
            .post("/v1/downloads", &json!({"key": object.key}))
            .await
            .expect(201);
        assert_eq!(download.etag, object.etag);
        let url = Api::at(&download.url);
        let request = url.request(Method::GET, "").header("Range", "bytes=2-4");
        let part = url.send(request.header("If-Match", download.etag.as_str())).await;
        assert_eq!(
            (part.status, part.body.as_ref()),
            (206, &b"234"[..]),
            "{version:?}: {}",
            part.text()
        );
    }
}
