//! What a broker does when the store is the trouble: wrong keys, no bucket, clocks apart, silence, an object that is not right.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::ledger::LeaseOutcome;
use reqwest::Method;
use shared::MIB;
use shared::api::{CompletedObject, UploadCreated};
use store::fault::{Fault, abort, complete, create, head, list_parts};
use tests::{Program, Stack, StoreUnderTest, in_time, md5, pattern, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const BROKER: Program = Program::at(env!("CARGO_BIN_EXE_broker-under-test"));
const PART: u64 = 5 * MIB;

#[tokio::test]
async fn keys_that_the_store_does_not_know_are_the_operators_trouble_and_are_not_shown() {
    let mut store = StoreUnderTest::embedded().await;
    store.secret_access_key = "not-the-secret-that-the-store-knows".into();
    let stack = Stack::on(store).await;

    let ready = stack.api.get("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    let refused = stack
        .api
        .post("/v1/uploads", &serde_json::json!({"name": "a", "size": 1}))
        .await;
    let text = refused.text();
    let problem = refused.problem(502);

    assert_eq!(problem.code, "store_refused");
    assert!(problem.detail.contains("SignatureDoesNotMatch"), "{text}");
    assert!(problem.detail.contains("access key"), "{text}");
    for secret in [&stack.store.secret_access_key, &stack.store.access_key_id] {
        assert!(!text.contains(secret.as_str()), "{text}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_said_at_the_start() {
    let store = StoreUnderTest::embedded().await;
    let directory = tempfile::tempdir().unwrap();
    let environment: BTreeMap<_, _> = store.environment();
    let arguments = ["--listen", "127.0.0.1:0", "--data-dir", "data", "--bucket", "nowhere"];
    let run = BROKER.run(directory.path(), arguments, &environment).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("nowhere"), "{}", run.stderr);
}

#[tokio::test]
async fn a_bucket_that_has_gone_since_is_the_operators_trouble() {
    let stack = Stack::start().await;
    stack.bucket.remove().await;
    let refused = stack
        .api
        .post("/v1/uploads", &serde_json::json!({"name": "a", "size": 1}))
        .await;
    let problem = refused.problem(502);
    assert_eq!(problem.code, "store_refused");
    assert!(problem.detail.contains("NoSuchBucket"), "{}", problem.detail);
}

#[tokio::test]
async fn t19_urls_are_dated_by_the_stores_clock_and_a_broker_whose_own_is_off_says_that_it_is_not_ready() {
    let stack = Stack::start().await;
    for (ahead, ready) in [(14, 200), (600, 503), (3 * 3600, 503)] {
        stack.broker.clock().advance(Duration::from_secs(ahead));
        // Dated by a broker that is hours ahead, these URLs would not be valid yet.
        let name = format!("ahead by {ahead}");
        let object = stack.api.upload(&name, b"content").await;
        assert_eq!(object.size, 7);
        assert_eq!(stack.bucket.get(&name).await.unwrap().bytes, b"content");
        assert_eq!(stack.api.get("/readyz").await.status, ready, "{name}");
    }
    // So far off that it is not clear whose clock is wrong: nothing is promised, and that is said.
    stack.broker.clock().advance(Duration::from_hours(26));
    assert_eq!(stack.api.get("/readyz").await.status, 503);
}

#[tokio::test]
async fn t29_whatever_a_store_answers_the_caller_gets_a_problem_and_the_broker_goes_on() {
    let bodies: Vec<Vec<u8>> = vec![
        b"<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"&b;&b;\"><!ENTITY b \"&a;\">]><InitiateMultipartUploadResult><UploadId>&a;</UploadId></InitiateMultipartUploadResult>".to_vec(),
        b"<!DOCTYPE x SYSTEM \"file:///etc/passwd\"><InitiateMultipartUploadResult><UploadId>&x;</UploadId></InitiateMultipartUploadResult>".to_vec(),
        b"<OtherResult><UploadId>id</UploadId></OtherResult>".to_vec(),
        b"<InitiateMultipartUploadResult><UploadId></UploadId></InitiateMultipartUploadResult>".to_vec(),
        b"\0\0\0\0".to_vec(),
        b"\xff\xfe<\0a\0".to_vec(),
        Vec::new(),
        b"<html><body>200 OK".to_vec(),
        "<a>".repeat(300_000).into_bytes(),
        [b"<InitiateMultipartUploadResult>".as_slice(), &vec![b'x'; 1 << 20]].concat(),
    ];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let answer = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = answer.clone();
    let store = tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let body: Vec<u8> = told.lock().unwrap().clone();
            tokio::spawn(async move {
                let mut asked = vec![0; 64 * 1024];
                _ = connection.read(&mut asked).await;
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                _ = connection.write_all(head.as_bytes()).await;
                _ = connection.write_all(&body).await;
            });
        }
    });
    let data = tempfile::tempdir().unwrap();
    let settings = broker::Settings {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        data_dir: Some(data.path().to_owned()),
        bucket: Some("bucket".into()),
        endpoint: Some(endpoint),
        access_key_id: Some("key".into()),
        secret_access_key: Some(broker::config::Secret("secret".into())),
        ..broker::Settings::default()
    };
    let running = Box::pin(broker::start(settings.resolve().unwrap())).await.unwrap();
    let api = tests::Api::at(format!("http://{}", running.address()));
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        *answer.lock().unwrap() = body;
        let refused = api
            .post("/v1/uploads", &serde_json::json!({"name": "a", "size": 7}))
            .await;
        assert!([502, 503].contains(&refused.status), "{shown}: {}", refused.text());
        let problem = refused.problem(refused.status);
        assert!(
            !problem.detail.contains('<') && !problem.detail.contains("root:"),
            "{}",
            problem.detail
        );
    }
    running.stop().await;
    store.abort();
}

#[tokio::test]
async fn a_part_that_is_on_its_way_when_its_upload_is_aborted_is_told_so() {
    let stack = Stack::start().await;
    let bytes = pattern(PART);
    let upload = stack.api.create("a", PART).await;
    let signed = stack.api.sign(&upload.upload_id, 1, Some(md5(&bytes))).await;
    let (host, path) = signed.url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut head = format!("PUT /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {PART}\r\n");
    for (name, value) in &signed.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    let mut store = TcpStream::connect(host).await.unwrap();
    store.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let (now, later) = bytes.split_at(bytes.len() / 2);
    store.write_all(now).await.unwrap();

    let aborted = stack.api.delete(&format!("/v1/uploads/{}", upload.upload_id)).await;
    assert_eq!(aborted.status, 204, "{}", aborted.text());
    store.write_all(later).await.unwrap();

    let mut answer = String::new();
    in_time(store.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.contains("<Code>NoSuchUpload</Code>"), "{answer}");
}

/// Twice as long as a lease.
const LEASE_AND_MORE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_complete_without_an_answer_is_not_sent_again_until_the_store_has_had_time() {
    let stack = Stack::start().await;
    let bytes = pattern(PART + 1);
    let upload = stack.api.create("a", bytes.len() as u64).await;
    stack
        .api
        .send_parts(&upload, &bytes, 1..=upload.part_count.unwrap())
        .await;
    // The connection breaks before anything is done, which the broker cannot know.
    stack.store.faulty().inject(Fault::CutConnection, complete());

    let unknown = stack.api.complete(&upload.upload_id).await.problem(503);
    assert_eq!(unknown.code, "store_unavailable");
    assert_eq!(stack.api.complete(&upload.upload_id).await.status, 202, "not yet");
    assert_eq!(
        stack
            .api
            .delete(&format!("/v1/uploads/{}", upload.upload_id))
            .await
            .status,
        409
    );
    assert_eq!(stack.store.faulty().attempts(complete()), 1);

    stack.broker.clock().advance(LEASE_AND_MORE);
    let object: CompletedObject = stack.api.complete(&upload.upload_id).await.expect(200);
    assert_eq!(object.size, bytes.len() as u64);
    assert_eq!(stack.bucket.get("a").await.unwrap().bytes, bytes);
}

/// A broker that the store's list of parts holds up until its lease has run out, while it completes this upload.
async fn held_up_past_its_lease() -> (Stack, UploadCreated, tokio::task::JoinHandle<tests::Answer>) {
    let stack = Stack::start().await;
    let upload = stack.api.create("a", 7).await;
    stack.api.send_parts(&upload, b"content", [1]).await;
    let lists = stack.store.faulty().attempts(list_parts());
    stack
        .store
        .faulty()
        .inject(Fault::Delay(Duration::from_secs(1)), list_parts());
    let (api, id) = (stack.api.clone(), upload.upload_id.clone());
    let held_up = tokio::spawn(async move { api.complete(&id).await });
    until(|| stack.store.faulty().attempts(list_parts()) > lists).await;
    stack.broker.clock().advance(LEASE_AND_MORE);
    (stack, upload, held_up)
}

#[tokio::test]
async fn a_broker_that_was_held_up_past_its_lease_does_not_complete_beside_the_next_one() {
    let (stack, upload, held_up) = held_up_past_its_lease().await;
    let now = stack.broker.clock().now();
    let next = stack
        .broker
        .ledger()
        .take_lease(&upload.upload_id, "next", None, now)
        .await;
    assert!(matches!(next.unwrap(), LeaseOutcome::Taken(lease) if lease.outcome_unknown));

    assert_eq!(in_time(held_up).await.unwrap().problem(409).code, "upload_busy");
    assert_eq!(stack.store.faulty().attempts(complete()), 0);
}

#[tokio::test]
async fn a_broker_that_was_held_up_and_still_has_its_lease_completes() {
    let (_stack, _, held_up) = held_up_past_its_lease().await;
    assert_eq!(
        in_time(held_up).await.unwrap().status,
        200,
        "nobody has taken it over, so it is renewed"
    );
}

#[tokio::test]
async fn an_object_of_another_size_than_its_parts_is_not_called_complete() {
    let stack = Stack::start().await;
    let bytes = pattern(PART + 1);
    let upload = stack.api.create("a", bytes.len() as u64).await;
    stack
        .api
        .send_parts(&upload, &bytes, 1..=upload.part_count.unwrap())
        .await;
    // Stands in for a store that joins the parts badly: before the broker looks, the object loses its first byte.
    stack
        .store
        .faulty()
        .inject(Fault::Delay(Duration::from_secs(2)), head());
    let asking = {
        let (api, id) = (stack.api.clone(), upload.upload_id.clone());
        tokio::spawn(async move { api.complete(&id).await })
    };
    let looked = stack.store.faulty().attempts(head());
    until(|| stack.store.faulty().attempts(head()) > looked).await;
    let object = stack.bucket.get("a").await.unwrap();
    stack.bucket.put("a", &bytes[1..], &object.metadata).await;

    let problem = asking.await.unwrap().problem(502);
    assert_eq!(problem.code, "object_wrong");
    let again = stack.api.complete(&upload.upload_id).await.problem(409);
    assert_eq!(again.code, "upload_ended");
}

#[tokio::test]
async fn a_broker_that_died_before_it_asked_the_store_does_not_leave_the_upload_stuck() {
    let stack = Stack::start().await;
    let asked = serde_json::json!({"name": "a", "size": 2 * PART, "part_size": PART, "fingerprint": "f"});
    let upload: UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(201);
    let bytes = pattern(2 * PART);
    stack.api.send_parts(&upload, &bytes, [1]).await;
    let clock = stack.broker.clock();
    // All that a completion leaves behind whose process was killed right after it took the lease.
    let died = stack
        .broker
        .ledger()
        .take_lease(&upload.upload_id, "died", None, clock.now());
    assert!(matches!(died.await.unwrap(), LeaseOutcome::Taken(_)));

    assert_eq!(stack.api.complete(&upload.upload_id).await.status, 202);
    clock.advance(LEASE_AND_MORE);
    let missing = stack.api.complete(&upload.upload_id).await.problem(409);
    assert_eq!(missing.code, "parts_missing");

    stack.api.send_parts(&upload, &bytes, [2]).await;
    stack
        .api
        .complete(&upload.upload_id)
        .await
        .expect::<CompletedObject>(200);
    assert_eq!(stack.bucket.get("a").await.unwrap().bytes, bytes);
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_nothing_at_the_store_that_the_ledger_does_not_know() {
    let stack = Stack::start().await;
    let store = stack.store.faulty();
    let asked = serde_json::json!({"name": "a", "size": PART, "fingerprint": "f"});
    let hang_up = async |request: reqwest::RequestBuilder, arrived: &dyn Fn() -> bool| {
        let waiting = tokio::spawn(request.send());
        until(arrived).await;
        waiting.abort();
    };
    store.inject(Fault::Delay(Duration::from_millis(500)), create());
    let request = stack.api.request(Method::POST, "/v1/uploads").json(&asked);
    hang_up(request, &|| store.attempts(create()) == 1).await;
    // The same request finds what the first one began, once that is recorded.
    let again = async || stack.api.post("/v1/uploads", &asked).await;
    let upload: UploadCreated = loop {
        let answer = again().await;
        if stack.bucket.open_uploads("").await.len() == 1 {
            break answer.expect(answer.status);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        stack.bucket.open_uploads("").await,
        ["a"],
        "one of them is in no ledger"
    );

    let before = store.attempts(abort());
    store.inject(Fault::Delay(Duration::from_millis(500)), abort());
    let path = format!("/v1/uploads/{}", upload.upload_id);
    hang_up(stack.api.request(Method::DELETE, &path), &|| {
        store.attempts(abort()) > before
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        stack.bucket.open_uploads("").await,
        [""; 0],
        "aborted in the ledger only"
    );
}
