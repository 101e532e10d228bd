//! Many small files at once, on every store: whole by one PUT where that is safe, as one part elsewhere.

use std::collections::BTreeMap;

use broker::s3::Profile;
use broker::sign::SignatureVersion;
use serde_json::{Value, json};
use shared::api::{BatchOutcome, BatchUpload, CompletedBatch, CreatedBatch, SignedRequest};
use shared::{MIB, UploadId};
use tests::{Answer, Stack, md5, put, random_bytes, unique};

/// What a file of a batch is asked for with.
fn file(name: &str, bytes: &[u8]) -> Value {
    json!({"name": name, "size": bytes.len(), "md5": md5(bytes).to_base64()})
}

async fn create(stack: &Stack, files: &[Value]) -> Vec<BatchUpload> {
    let answer = stack.api.post("/v1/batches", &json!({ "files": files })).await;
    answer.expect::<CreatedBatch>(201).files
}

async fn complete(stack: &Stack, uploads: &[UploadId]) -> Vec<BatchOutcome> {
    let answer = stack
        .api
        .post("/v1/batches/complete", &json!({ "uploads": uploads }))
        .await;
    answer.expect::<CompletedBatch>(200).uploads
}

fn admitted(file: &BatchUpload) -> (UploadId, Option<SignedRequest>) {
    match file {
        BatchUpload::Admitted { upload_id, request, .. } => (upload_id.clone(), request.clone()),
        BatchUpload::Refused { problem } => panic!("{}: {}", problem.code, problem.detail),
    }
}

async fn send(request: &SignedRequest, bytes: &[u8]) -> Answer {
    put(&request.url, &request.headers, bytes.to_vec()).await
}

#[tokio::test]
async fn many_small_files_arrive_with_what_was_asked_for_and_one_that_is_refused_does_not_stop_them() {
    let stack = Stack::on_store_under_test().await;
    let folder = unique("many ü &+%");
    let mut contents: BTreeMap<String, Vec<u8>> = (0..120)
        .map(|number| (format!("{folder}/{number}"), random_bytes(number * 37)))
        .collect();
    contents.insert(format!("{folder}/largest"), random_bytes(8 * MIB));
    let mut files: Vec<_> = contents.iter().map(|(name, bytes)| file(name, bytes)).collect();
    for file in &mut files {
        file["content_type"] = "text/x-test; charset=utf-8".into();
        file["metadata"] = json!({"origin": "a batch"});
    }
    files.push(file("../climbs", b""));

    let answer = create(&stack, &files).await;
    let refused = answer.last().unwrap();
    assert!(
        matches!(refused, BatchUpload::Refused { problem } if problem.code == "invalid_name" && !problem.request_id.is_empty()),
        "{refused:?}"
    );
    let mut uploads = Vec::new();
    for (sent, bytes) in answer.iter().zip(contents.values()) {
        let (id, request) = admitted(sent);
        if let Some(request) = request {
            let stored = send(&request, bytes).await;
            assert_eq!(stored.status, 200, "{}", stored.text());
        }
        uploads.push(id);
    }
    for _ in 0..2 {
        for (outcome, (name, bytes)) in complete(&stack, &uploads).await.iter().zip(&contents) {
            let BatchOutcome::Completed { object, .. } = outcome else {
                panic!("{name}: {outcome:?}");
            };
            assert_eq!((object.key.as_str(), object.size), (name.as_str(), bytes.len() as u64));
        }
    }
    for (name, bytes) in contents.iter().step_by(10) {
        let stored = stack.bucket.get(name).await.unwrap();
        assert!(stored.bytes == *bytes, "{name} differs");
        assert_eq!(stored.content_type.as_deref(), Some("text/x-test; charset=utf-8"));
        assert_eq!(stored.metadata["origin"], "a batch");
    }
    assert_eq!(stack.bucket.open_uploads(&folder).await, [""; 0]);
}

#[tokio::test]
async fn what_was_not_sent_or_not_as_declared_is_no_object() {
    let stack = Stack::on_store_under_test().await;
    let name = |name: &str| unique(name);
    let (right, unsent, wrong) = (name("right"), name("unsent"), name("wrong"));
    let answer = create(
        &stack,
        &[
            file(&right, b"content"),
            file(&unsent, b"content"),
            file(&wrong, b"content"),
        ],
    )
    .await;
    let sent: Vec<_> = answer.iter().map(admitted).collect();
    let request = |place: usize| sent[place].1.clone().unwrap();

    assert_eq!(send(&request(0), b"content").await.status, 200);
    assert!(
        send(&request(2), b"konzent").await.status >= 400,
        "other bytes were taken"
    );
    assert!(
        send(&request(2), b"content, and more").await.status >= 400,
        "another length was taken"
    );

    let outcomes = complete(&stack, &sent.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>()).await;
    let code = |outcome: &BatchOutcome| match outcome {
        BatchOutcome::Completed { .. } => String::new(),
        BatchOutcome::Failed { problem, .. } => problem.code.clone(),
    };
    let codes: Vec<_> = outcomes.iter().map(code).collect();
    assert_eq!(codes, ["", "parts_missing", "parts_missing"]);
    assert!(stack.bucket.get(&wrong).await.is_none() && stack.bucket.get(&unsent).await.is_none());
}

#[tokio::test]
async fn a_url_for_a_whole_file_is_good_for_nothing_else() {
    let stack = Stack::on_store_under_test().await;
    if !Profile::of(stack.store.kind.profile()).single_put {
        let name = unique("in parts");
        let (_, request) = admitted(&create(&stack, &[file(&name, b"content")]).await[0]);
        assert!(
            request.unwrap().url.contains("partNumber=1"),
            "a store that is not known to be safe gets a part"
        );
        return;
    }
    let secret = unique("secret");
    stack
        .bucket
        .put(&secret, b"secret", &std::collections::HashMap::new())
        .await;
    let name = unique("whole");
    let (_, request) = admitted(&create(&stack, &[file(&name, b"")]).await[0]);
    let request = request.unwrap();
    assert!(!request.url.contains("partNumber"), "not a URL for the whole");
    let profile = Profile::of(stack.store.kind.profile());
    let barred = profile.barred.object.iter().map(|header| (*header, "x".to_owned()));
    let everywhere = [
        ("x-amz-copy-source", format!("/{}/{secret}", stack.store.bucket)),
        ("x-amz-acl", "public-read".into()),
        ("x-amz-tagging", "a=b".into()),
        ("x-amz-website-redirect-location", "/a".into()),
    ];
    // Names of user metadata are without number, so they cannot be barred; more of it harms nobody but who sends it.
    let where_none_is_barred = barred.len() == 0;
    let metadata = where_none_is_barred.then(|| ("x-amz-meta-other", "x".to_owned()));
    for (header, value) in everywhere.into_iter().chain(barred).chain(metadata) {
        let mut altered = request.clone();
        altered.headers.insert(header.into(), value);
        let answer = send(&altered, b"").await;
        assert!(
            (400..500).contains(&answer.status),
            "{header}: {} {}",
            answer.status,
            answer.text()
        );
    }
    let other = request.url.replace("whole", "other");
    assert!(put(&other, &request.headers, Vec::new()).await.status >= 400);
    assert!(stack.bucket.get(&name).await.is_none(), "something was put");
    assert_eq!(send(&request, b"").await.status, 200);
}

#[tokio::test]
async fn a_broker_that_signs_in_version_2_sends_small_files_as_parts() {
    let stack = Stack::on_store_under_test().await;
    if !stack.store.kind.has_v2() {
        return;
    }
    let stack = stack.with_signature(SignatureVersion::V2).await;
    let name = unique("version 2");
    let (id, request) = admitted(&create(&stack, &[file(&name, b"content")]).await[0]);
    assert_eq!(send(&request.unwrap(), b"content").await.status, 200);
    assert!(matches!(
        complete(&stack, &[id]).await[0],
        BatchOutcome::Completed { .. }
    ));
    assert_eq!(stack.bucket.get(&name).await.unwrap().bytes, b"content");
}
