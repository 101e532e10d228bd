//! The JSON protocol: what each route answers, and what it refuses.

use broker::config::Settings;
use broker::s3::ProfileName;
use serde_json::{Value, json};
use shared::MIB;
use shared::api::{CompletedObject, Me, SignedParts, UploadCreated, UploadState, UploadStatus};
use tests::{Answer, Stack, StoreUnderTest, cut, md5, multipart_etag, pattern, put, random_bytes};

const PART: u64 = 5 * MIB;

#[tokio::test]
async fn a_file_goes_up_in_planned_parts_and_is_described_when_complete() {
    let stack = Stack::start().await;
    let bytes = random_bytes(2 * PART + 1);
    let asked = json!({"name": "film.mp4", "size": bytes.len(), "part_size": PART, "content_type": "video/mp4",
        "metadata": {"camera": "left"}});

    let answer = stack.api.post("/v1/uploads", &asked).await;
    let upload: UploadCreated = answer.expect(201);
    assert_eq!((upload.part_size, upload.part_count), (PART, Some(3)));
    assert!(upload.parts.is_empty());
    assert!(upload.expires_in > 0);
    stack.api.send_parts(&upload, &bytes, [3, 1, 2]).await;
    let object: CompletedObject = stack.api.complete(&upload.upload_id).await.expect(200);

    assert_eq!(object.key, upload.key);
    assert_eq!(object.size, bytes.len() as u64);
    let stored = stack.bucket.get(upload.key.as_str()).await.unwrap();
    assert!(stored.bytes == bytes, "the object differs from the file");
    assert_eq!(stored.etag, multipart_etag(cut(&bytes, PART)));
    assert_eq!(object.etag.as_str().trim_matches('"'), stored.etag);
    assert_eq!(stored.content_type.as_deref(), Some("video/mp4"));
    assert_eq!(stored.metadata["camera"], "left");
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn an_empty_file_becomes_an_empty_object() {
    let stack = Stack::start().await;
    let object = stack.api.upload("empty", b"").await;
    assert_eq!(object.size, 0);
    assert_eq!(stack.bucket.get("empty").await.unwrap().bytes, b"");
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn completing_is_idempotent_and_so_is_completing_at_once() {
    let stack = Stack::start().await;
    let bytes = pattern(PART + 1);
    let upload = stack.api.create("a", bytes.len() as u64).await;
    stack
        .api
        .send_parts(&upload, &bytes, 1..=upload.part_count.unwrap())
        .await;

    let at_once = [(); 4].map(|()| {
        let (api, id) = (stack.api.clone(), upload.upload_id.clone());
        tokio::spawn(async move { api.complete(&id).await })
    });
    for answer in at_once {
        let status = answer.await.unwrap().status;
        assert!(matches!(status, 200 | 202), "{status}");
    }
    let first: CompletedObject = stack.api.complete(&upload.upload_id).await.expect(200);
    let again: CompletedObject = stack.api.complete(&upload.upload_id).await.expect(200);
    assert_eq!(first, again);
    assert_eq!(stack.bucket.keys("").await, ["a"]);
}

#[tokio::test]
async fn a_size_that_is_said_again_has_to_be_the_one_of_before() {
    let stack = Stack::start().await;
    let upload = stack.api.create("a", 7).await;
    stack.api.send_parts(&upload, b"content", [1]).await;
    let path = format!("/v1/uploads/{}/complete", upload.upload_id);
    let refused = stack.api.post(&path, &json!({"size": 8})).await;
    assert_eq!(refused.problem(409).code, "size_changed");
    assert_eq!(stack.api.post(&path, &json!({"size": 7})).await.status, 200);
}

#[tokio::test]
async fn missing_parts_are_named_and_the_upload_stays_open() {
    let stack = Stack::start().await;
    let asked = json!({"name": "a", "size": 3 * PART, "part_size": PART});
    let upload: UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(201);
    let bytes = pattern(3 * PART);
    stack.api.send_parts(&upload, &bytes, [2]).await;

    let problem = stack.api.complete(&upload.upload_id).await.problem(409);

    assert_eq!(problem.code, "parts_missing");
    assert_eq!(problem.parts.iter().map(|part| part.get()).collect::<Vec<_>>(), [1, 3]);
    let status: UploadStatus = stack
        .api
        .get(&format!("/v1/uploads/{}", upload.upload_id))
        .await
        .expect(200);
    assert_eq!(status.state, UploadState::Open);
    assert_eq!(status.parts.len(), 1);
    assert_eq!((status.parts[0].number.get(), status.parts[0].size), (2, PART));
    stack.api.send_parts(&upload, &bytes, [1, 3]).await;
    stack
        .api
        .complete(&upload.upload_id)
        .await
        .expect::<CompletedObject>(200);
}

#[tokio::test]
async fn a_part_of_another_size_than_planned_cannot_be_sent() {
    let stack = Stack::start().await;
    let upload = stack.api.create("a", 100).await;
    let signed = stack.api.sign(&upload.upload_id, 1, None).await;
    let answer = put(&signed.url, &signed.headers, pattern(101)).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(
        stack.api.complete(&upload.upload_id).await.problem(409).code,
        "parts_missing"
    );
}

#[tokio::test]
async fn creating_again_with_the_same_fingerprint_finds_the_open_upload_and_its_parts() {
    let stack = Stack::start().await;
    let bytes = pattern(2 * PART);
    let asked = json!({"name": "a", "size": bytes.len(), "part_size": PART, "fingerprint": "mtime-and-inode"});
    let first: UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(201);
    stack.api.send_parts(&first, &bytes, [1]).await;

    let again: UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(200);

    assert_eq!(again.upload_id, first.upload_id);
    assert_eq!(
        again.parts.iter().map(|part| part.number.get()).collect::<Vec<_>>(),
        [1]
    );
    let mut other = asked.clone();
    other["fingerprint"] = json!("another file");
    let other: UploadCreated = stack.api.post("/v1/uploads", &other).await.expect(201);
    assert_ne!(other.upload_id, first.upload_id);
}

#[tokio::test]
async fn creating_at_once_with_the_same_fingerprint_makes_one_upload() {
    let stack = Stack::start().await;
    let asked = json!({"name": "a", "size": PART, "fingerprint": "mtime-and-inode"});
    let at_once = [(); 8].map(|()| {
        let (api, asked) = (stack.api.clone(), asked.clone());
        tokio::spawn(async move {
            let answer = api.post("/v1/uploads", &asked).await;
            answer.expect::<UploadCreated>(answer.status).upload_id
        })
    });
    let mut ids = Vec::new();
    for created in at_once {
        ids.push(created.await.unwrap());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(stack.bucket.open_uploads("").await, ["a"]);
}

#[tokio::test]
async fn metadata_that_is_admitted_is_taken_by_the_store_too() {
    let stack = Stack::start().await;
    let most = json!({"name": "most", "size": 1, "metadata": {"a": "x".repeat(1997)}});
    let upload: UploadCreated = stack.api.post("/v1/uploads", &most).await.expect(201);
    stack.api.send_parts(&upload, b"x", [1]).await;
    stack
        .api
        .complete(&upload.upload_id)
        .await
        .expect::<CompletedObject>(200);
    let names = |count: usize| -> Value { (0..count).map(|name| (name.to_string(), json!("v"))).collect() };
    for size in [0, 1] {
        let many = json!({"name": format!("many-{size}"), "size": size, "metadata": names(64)});
        let upload: UploadCreated = stack.api.post("/v1/uploads", &many).await.expect(201);
        stack
            .api
            .send_parts(&upload, b"x", 1..=upload.part_count.unwrap())
            .await;
        stack
            .api
            .complete(&upload.upload_id)
            .await
            .expect::<CompletedObject>(200);
    }
    for metadata in [json!({"a": "x".repeat(1998)}), names(65)] {
        let asked = json!({"name": "more", "size": 1, "metadata": metadata});
        assert_eq!(
            stack.api.post("/v1/uploads", &asked).await.problem(400).code,
            "invalid_field"
        );
    }
}

#[tokio::test]
async fn an_aborted_upload_is_gone_from_the_store_and_abort_is_idempotent() {
    let stack = Stack::start().await;
    let upload = stack.api.create("a", PART).await;
    let path = format!("/v1/uploads/{}", upload.upload_id);
    for _ in 0..2 {
        assert_eq!(stack.api.delete(&path).await.status, 204);
    }
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
    let status: UploadStatus = stack.api.get(&path).await.expect(200);
    assert_eq!(status.state, UploadState::Aborted);
    stack.api.complete(&upload.upload_id).await.problem(409);
    stack
        .api
        .post(&format!("{path}/parts"), &json!({"parts": [{"number": 1}]}))
        .await
        .problem(409);
}

#[tokio::test]
async fn me_tells_who_asks_and_what_they_may() {
    let stack = Stack::start().await;
    let me: Me = stack.api.get("/v1/me").await.expect(200);
    assert_eq!(me.principal, "anonymous");
    assert_eq!(me.limits.max_parts, 10_000);
    assert!(!me.destinations.is_empty());
}

/// All that a caller can see of an answer, but for what differs from request to request.
fn seen(answer: &Answer) -> Value {
    let problem = answer.problem(404);
    json!([problem.kind, problem.title, problem.detail, problem.code, problem.parts])
}

#[tokio::test]
async fn a_foreign_an_unknown_and_a_malformed_upload_get_the_same_404() {
    let stack = Stack::with_tokens(&[("alice", "alice-token"), ("bob", "bob-token")]).await;
    let (alice, bob) = (stack.api.with_token("alice-token"), stack.api.with_token("bob-token"));
    let foreign = alice.create("a", PART).await.upload_id.to_string();
    let ids = [
        foreign.as_str(),
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "short",
        "%2e%2e%2fetc%2fpasswd",
        "'%20or%201=1--",
    ];

    let mut answers = Vec::new();
    for id in ids {
        answers.push(seen(&bob.get(&format!("/v1/uploads/{id}")).await));
        answers.push(seen(&bob.delete(&format!("/v1/uploads/{id}")).await));
        answers.push(seen(&bob.post(&format!("/v1/uploads/{id}/complete"), &json!({})).await));
        let parts = json!({"parts": [{"number": 1}]});
        answers.push(seen(&bob.post(&format!("/v1/uploads/{id}/parts"), &parts).await));
    }

    assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:#?}");
    let untouched: UploadStatus = alice.get(&format!("/v1/uploads/{foreign}")).await.expect(200);
    assert_eq!(untouched.state, UploadState::Open);
}

#[tokio::test]
async fn no_token_or_a_wrong_one_is_401_where_tokens_are_configured() {
    let stack = Stack::with_tokens(&[("alice", "alice-token")]).await;
    for api in [
        stack.api.clone(),
        stack.api.with_token("guessed"),
        stack.api.with_token(""),
    ] {
        let answer = api.get("/v1/me").await;
        answer.problem(401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    let me: Me = stack.api.with_token("alice-token").get("/v1/me").await.expect(200);
    assert_eq!(me.principal, "alice");
}

#[tokio::test]
async fn what_cannot_be_right_is_refused_with_a_problem() {
    let stack = Stack::start().await;
    let upload = stack.api.create("a", 2 * PART).await;
    let parts = format!("/v1/uploads/{}/parts", upload.upload_id);
    let good = "1B2M2Y8AsgTpgAmY7PhCfg==";
    let bad_requests = [
        ("/v1/uploads", json!({})),
        ("/v1/uploads", json!({"name": "a", "size": -1})),
        ("/v1/uploads", json!({"name": "a", "size": "many"})),
        ("/v1/uploads", json!({"name": ""})),
        (
            "/v1/uploads",
            json!({"name": "a", "size": 1, "content-type": "text/plain"}),
        ),
        ("/v1/uploads", json!({"name": "a", "size": u64::MAX})),
        ("/v1/uploads", json!({"name": "a", "size": PART, "part_size": 1})),
        ("/v1/uploads", json!({"name": "a", "size": 1, "acl": "public-read"})),
        ("/v1/uploads", json!({"name": "a", "size": 1, "destination": "nowhere"})),
        ("/v1/uploads", json!({"name": "x".repeat(1025), "size": 1})),
        (
            "/v1/uploads",
            json!({"name": "a", "size": 1, "metadata": {"long": "x".repeat(3000)}}),
        ),
        ("/v1/uploads", json!([])),
        (&parts, json!({"parts": []})),
        (&parts, json!({"parts": [{"number": 0}]})),
        (&parts, json!({"parts": [{"number": 10_001}]})),
        (&parts, json!({"parts": [{"number": 3}]})),
        (&parts, json!({"parts": [{"number": 1, "md5": "not base64"}]})),
        (&parts, json!({"parts": [{"number": 1, "md5": "MTIzNDU2Nzg5MDEyMzQ1"}]})),
        (&parts, json!({"parts": [{"number": 1, "md5": good, "sha1": "x"}]})),
        (&parts, json!({"parts": [{"number": 1, "size": 7}]})),
        (&parts, json!({"parts": vec![json!({"number": 1}); 1001]})),
    ];
    for (path, body) in bad_requests {
        let answer = stack.api.post(path, &body).await;
        let status = answer.status;
        assert!(
            (400..500).contains(&status),
            "{body} was answered with {status}: {}",
            answer.text()
        );
        answer.problem(status);
    }
    assert_eq!(
        stack.bucket.open_uploads("").await.len(),
        1,
        "a refused request left an upload"
    );
}

#[tokio::test]
async fn a_stream_that_came_to_nothing_becomes_an_empty_object_and_leaves_no_upload() {
    let stack = Stack::start().await;
    let upload: UploadCreated = stack
        .api
        .post("/v1/uploads", &json!({"name": "stream"}))
        .await
        .expect(201);
    assert_eq!(stack.bucket.open_uploads("").await, ["stream"]);
    let path = format!("/v1/uploads/{}/complete", upload.upload_id);
    let object: CompletedObject = stack.api.post(&path, &json!({"size": 0})).await.expect(200);
    assert_eq!(object.size, 0);
    assert_eq!(stack.bucket.get("stream").await.unwrap().bytes, b"");
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn parts_of_a_stream_grow_by_the_rule_and_are_judged_by_it() {
    let stack = Stack::start().await;
    let asked = json!({"name": "stream", "growing_parts": true});
    let upload: UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(201);
    assert!(upload.growing_parts);
    assert_eq!((upload.part_size, upload.part_count), (16 * MIB, None));
    let path = format!("/v1/uploads/{}/parts", upload.upload_id);
    for (number, size, refused) in [
        (1, 16 * MIB, None),
        (1, 16 * MIB + 1, Some((422, "part_size"))),
        (1001, 32 * MIB, None),
        (1001, 32 * MIB + 1, Some((422, "part_size"))),
        (9990, 2048 * MIB, None),
        // It would end beyond the largest object.
        (10_000, 1, Some((413, "file_too_large"))),
    ] {
        let answer = stack
            .api
            .post(&path, &json!({"parts": [{"number": number, "size": size}]}))
            .await;
        match refused {
            None => assert_eq!(answer.expect::<SignedParts>(200).parts.len(), 1),
            Some((status, code)) => assert_eq!(answer.problem(status).code, code),
        }
    }

    // Cut at another place than the rule says: as many bytes, and yet not these parts.
    for (number, size) in [(1, 16 * MIB - 1), (2, 2)] {
        let bytes = pattern(size);
        let signed = stack.api.sign(&upload.upload_id, number, Some(md5(&bytes))).await;
        assert_eq!(put(&signed.url, &signed.headers, bytes).await.status, 200);
    }
    let complete = format!("/v1/uploads/{}/complete", upload.upload_id);
    let problem = stack
        .api
        .post(&complete, &json!({"size": 16 * MIB + 1}))
        .await
        .problem(409);
    assert_eq!(problem.code, "parts_wrong");
    let bytes = pattern(16 * MIB);
    let signed = stack.api.sign(&upload.upload_id, 1, Some(md5(&bytes))).await;
    assert_eq!(put(&signed.url, &signed.headers, bytes).await.status, 200);
    let answer = stack.api.post(&complete, &json!({"size": 16 * MIB + 2})).await;
    assert_eq!(answer.expect::<CompletedObject>(200).size, 16 * MIB + 2);
}

#[tokio::test]
async fn parts_stay_equal_where_the_store_or_the_client_wants_them_so() {
    let settings = Settings {
        profile: Some(ProfileName::R2),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let me: Me = stack.api.get("/v1/me").await.expect(200);
    assert!(!me.limits.growing_parts);
    let asked = json!({"name": "a", "part_size": PART, "growing_parts": true});
    let upload: UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(201);
    assert_eq!((upload.growing_parts, upload.part_size), (false, PART));

    let stack = Stack::start().await;
    let me: Me = stack.api.get("/v1/me").await.expect(200);
    assert!(me.limits.growing_parts);
    for asked in [
        json!({"name": "a"}),
        json!({"name": "a", "size": PART, "growing_parts": true}),
    ] {
        let upload: UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(201);
        assert!(!upload.growing_parts, "{asked}");
    }
}

#[tokio::test]
async fn an_upload_that_a_restored_ledger_has_as_open_and_the_store_has_joined_is_not_told_to_be_lost() {
    let stack = Stack::start().await;
    let upload = stack.api.create("a", 7).await;
    stack.api.send_parts(&upload, b"content", [1]).await;
    // As after a restore: the store is further than the ledger.
    let at_store = stack.bucket.upload_id("a").await;
    stack.bucket.complete_upload("a", &at_store, &[md5(b"content")]).await;
    let path = format!("/v1/uploads/{}", upload.upload_id);
    let status: UploadStatus = stack.api.get(&path).await.expect(200);
    assert_eq!(status.state, UploadState::Completing, "whoever completes it finds out");
    let object: CompletedObject = stack.api.complete(&upload.upload_id).await.expect(200);
    assert_eq!(
        (object.size, object.etag.as_str()),
        (
            7,
            stack
                .bucket
                .get("a")
                .await
                .map(|object| format!("\"{}\"", object.etag))
                .unwrap()
                .as_str()
        )
    );

    // One that is gone altogether is.
    let upload = stack.api.create("b", 7).await;
    let at_store = stack.bucket.upload_id("b").await;
    stack.bucket.abort_upload("b", &at_store).await;
    let path = format!("/v1/uploads/{}", upload.upload_id);
    assert_eq!(stack.api.get(&path).await.problem(410).code, "upload_lost");
}

#[tokio::test]
async fn parts_are_as_large_as_the_most_parts_need_and_a_refusal_names_the_rule() {
    let settings = Settings {
        max_parts: Some(5),
        max_size: Some(100 * MIB),
        max_metadata: Some(10),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let upload = stack.api.create("a", 45 * MIB).await;
    assert_eq!((upload.part_size, upload.part_count), (9 * MIB, Some(5)));
    let me: Me = stack.api.get("/v1/me").await.expect(200);
    assert_eq!(me.limits.max_parts, 5);
    for (asked, code, words) in [
        (
            json!({"name": "a", "size": 101 * MIB}),
            "file_too_large",
            "the destination \"default\" takes at most 104857600",
        ),
        (
            json!({"name": "a", "size": 45 * MIB, "part_size": 8 * MIB}),
            "too_many_parts_planned",
            "ask the operator",
        ),
        (
            json!({"name": "a", "size": 1, "metadata": {"colour": "ultramarine"}}),
            "invalid_field",
            "the destination \"default\" takes at most 10",
        ),
    ] {
        let answer = stack.api.post("/v1/uploads", &asked).await;
        let problem = answer.problem(answer.status);
        assert!(problem.code == code && problem.detail.contains(words), "{problem:?}");
    }
}
