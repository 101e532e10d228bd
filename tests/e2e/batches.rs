//! Batches of small files: whose they are, what they may not do, and how they meet the routes for single uploads.

use std::collections::BTreeMap;

use broker::Settings;
use serde_json::{Value, json};
use shared::api::{
    BatchOutcome, BatchUpload, CompletedBatch, CompletedObject, CreatedBatch, MAX_BATCH, OpenUploads, UploadState,
    UploadStatus,
};
use store::fault::{Fault, create, head, put as put_object};
use tests::{Api, Bucket, Stack, StoreUnderTest, md5, postgres_database, put, random_bytes};

use crate::uploader::Machine;

fn file(name: &str) -> Value {
    json!({"name": name, "size": 7, "md5": md5(b"content").to_base64()})
}

/// Creates a batch of these names, sends those that are told, and answers all uploads.
async fn batch(api: &Api, names: &[&str], sent: usize) -> Vec<shared::UploadId> {
    let files: Vec<_> = names.iter().map(|name| file(name)).collect();
    let created: CreatedBatch = api.post("/v1/batches", &json!({ "files": files })).await.expect(201);
    let mut ids = Vec::new();
    for (place, upload) in created.files.into_iter().enumerate() {
        let BatchUpload::Admitted { upload_id, request, .. } = upload else {
            panic!("{upload:?}");
        };
        if place < sent {
            let request = request.unwrap();
            assert_eq!(
                put(&request.url, &request.headers, b"content".to_vec()).await.status,
                200
            );
        }
        ids.push(upload_id);
    }
    ids
}

async fn complete(api: &Api, uploads: &[shared::UploadId]) -> Vec<Result<CompletedObject, String>> {
    let answer: CompletedBatch = api
        .post("/v1/batches/complete", &json!({ "uploads": uploads }))
        .await
        .expect(200);
    let outcome = |outcome| match outcome {
        BatchOutcome::Completed { object, .. } => Ok(object),
        BatchOutcome::Failed { problem, .. } => Err(problem.code),
    };
    answer.uploads.into_iter().map(outcome).collect()
}

#[tokio::test]
async fn an_upload_of_a_batch_is_one_of_the_single_routes_too() {
    let stack = Stack::start().await;
    let ids = batch(&stack.api, &["a", "b", "c"], 2).await;

    let refused = stack
        .api
        .post(
            &format!("/v1/uploads/{}/parts", ids[0]),
            &json!({"parts": [{"number": 1}]}),
        )
        .await;
    assert_eq!(refused.problem(409).code, "no_parts_in_batch");
    let object: CompletedObject = stack.api.complete(&ids[0]).await.expect(200);
    assert_eq!((object.key.as_str(), object.size), ("a", 7));
    assert_eq!(stack.api.complete(&ids[2]).await.problem(409).code, "parts_missing");
    assert_eq!(stack.api.delete(&format!("/v1/uploads/{}", ids[2])).await.status, 204);

    let outcomes = complete(&stack.api, &ids).await;
    let codes: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.map(|object| object.size))
        .collect();
    assert_eq!(codes, [Ok(7), Ok(7), Err("upload_ended".into())]);
    let status: UploadStatus = stack.api.get(&format!("/v1/uploads/{}", ids[1])).await.expect(200);
    assert_eq!((status.state, status.object.unwrap().size), (UploadState::Completed, 7));
}

#[tokio::test]
async fn an_object_of_another_size_that_poses_as_a_small_files_own_is_not_called_complete() {
    let stack = Stack::start().await;
    let ids = batch(&stack.api, &["a"], 1).await;
    // Whoever has the URL has what the object is known by.
    let object = stack.bucket.get("a").await.unwrap();
    stack.bucket.put("a", b"longer content", &object.metadata).await;
    assert_eq!(complete(&stack.api, &ids).await, [Err("parts_wrong".into())]);
    let status: UploadStatus = stack.api.get(&format!("/v1/uploads/{}", ids[0])).await.expect(200);
    assert_eq!(status.state, UploadState::Open, "and may be sent again");
}

#[tokio::test]
async fn batches_survive_a_restart_and_belong_to_whoever_created_them() {
    let stack = Stack::with_tokens(&[("alice", "a"), ("bob", "b")]).await;
    let ids = batch(&stack.api.with_token("a"), &["x", "y"], 2).await;
    let stack = stack.with_broker_restarted().await;
    assert_eq!(
        complete(&stack.api.with_token("b"), &ids).await,
        [Err("no_such_upload".into()), Err("no_such_upload".into())]
    );
    let twice = [ids[0].clone(), ids[1].clone(), ids[0].clone()];
    let outcomes = complete(&stack.api.with_token("a"), &twice).await;
    assert!(outcomes[0].is_ok() && outcomes[1].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[2], Err("no_such_upload".into()));
}

#[tokio::test]
async fn hundreds_of_files_cost_the_store_one_put_each_and_a_page_of_its_listing() {
    let stack = Stack::start().await;
    for number in 0..1500 {
        // Among others, so that not every page is full of hits.
        if number % 100 == 0 {
            stack
                .bucket
                .put(
                    &format!("folder/{number:04}x"),
                    b"other",
                    &std::collections::HashMap::new(),
                )
                .await;
        }
    }
    let names: Vec<_> = (0..400).map(|number| format!("folder/{number:04}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let before = stack.store.faulty().attempts(put_object());
    let ids = batch(&stack.api, &names, 400).await;
    assert!(complete(&stack.api, &ids).await.iter().all(Result::is_ok));
    assert_eq!(stack.store.faulty().attempts(put_object()) - before, 400);
    assert_eq!(stack.store.faulty().attempts(head()), 0);
}

/// Twenty files that are sent: enough for a listing to pay.
async fn twenty_sent(api: &Api) -> Vec<shared::UploadId> {
    let names: Vec<_> = (0..20).map(|number| format!("many/{number:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    batch(api, &names, 20).await
}

#[tokio::test]
async fn files_of_one_batch_in_two_buckets_are_looked_for_each_in_its_own() {
    let store = StoreUnderTest::embedded().await;
    let archive = Bucket::of(&store).another("archive").await;
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        rules.path(),
        "[[destination]]\nname = \"scratch\"\n[[destination]]\nname = \"archive\"\nbucket = \"archive\"\n\
         [[grant]]\nto = [\"anonymous\"]\nmay = [\"upload\"]\n",
    )
    .unwrap();
    let settings = Settings {
        allow_anonymous: Some(true),
        ..Settings::read(rules.path()).unwrap()
    };
    let stack = Stack::with(store, settings).await;
    let mut ids = twenty_sent(&stack.api).await;
    ids.extend(batch(&stack.api, &["report"], 1).await);
    let to_archive = |name: &str| {
        let mut file = file(name);
        file["destination"] = "archive".into();
        file
    };
    let asked = json!({"files": [to_archive("report"), to_archive("zz")]});
    let created: CreatedBatch = stack.api.post("/v1/batches", &asked).await.expect(201);
    for (place, created) in created.files.into_iter().enumerate() {
        let BatchUpload::Admitted { upload_id, request, .. } = created else {
            panic!("{created:?}");
        };
        if place == 1 {
            let request = request.unwrap();
            assert_eq!(
                put(&request.url, &request.headers, b"content".to_vec()).await.status,
                200
            );
        }
        ids.push(upload_id);
    }
    let outcomes = complete(&stack.api, &ids).await;
    assert!(outcomes[..21].iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(
        outcomes[21],
        Err("parts_missing".into()),
        "it lies in the other bucket alone"
    );
    assert!(
        outcomes[22].is_ok() && archive.get("zz").await.is_some(),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn whoever_may_only_upload_does_not_find_out_by_guessing_what_others_store_or_that_they_do() {
    let stack = Stack::with_tokens(&[("alice", "a"), ("mallory", "m")]).await;
    let (alice, mallory) = (stack.api.with_token("a"), stack.api.with_token("m"));
    let mut ids = twenty_sent(&mallory).await;
    // Beforehand and afterwards; the very bytes and others; and a key at which nothing is. Nothing is sent of any of them.
    ids.extend(batch(&mallory, &["early"], 0).await);
    batch(&alice, &["early", "late"], 2).await;
    ids.extend(batch(&mallory, &["late", "never"], 0).await);
    let other = json!({"name": "late", "size": 7, "md5": md5(b"guessed").to_base64()});
    let created: CreatedBatch = mallory
        .post("/v1/batches", &json!({"files": [other]}))
        .await
        .expect(201);
    let BatchUpload::Admitted { upload_id, .. } = &created.files[0] else {
        panic!("{created:?}");
    };
    ids.push(upload_id.clone());
    let outcomes = complete(&mallory, &ids).await;
    assert!(outcomes[..20].iter().all(Result::is_ok), "{outcomes:?}");
    for outcome in &outcomes[20..] {
        assert_eq!(*outcome, Err("parts_missing".into()), "{outcomes:?}");
    }
}

#[tokio::test]
async fn two_who_complete_the_same_files_in_opposite_order_do_not_wait_for_each_other_in_a_circle() {
    let settings = Settings {
        ledger: Some(postgres_database().await),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    for round in 0..3 {
        let names: Vec<_> = (0..200).map(|number| format!("{round}/{number:03}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let ids = batch(&stack.api, &names, 200).await;
        let reversed: Vec<_> = ids.iter().rev().cloned().collect();
        let (one, other) = tokio::join!(complete(&stack.api, &ids), complete(&stack.api, &reversed));
        assert!(one.iter().chain(&other).all(Result::is_ok));
    }
}

#[tokio::test]
async fn a_batch_that_cannot_be_right_is_refused_whole_or_file_by_file() {
    let stack = Stack::start().await;
    let too_many: Vec<_> = (0..=MAX_BATCH).map(|number| file(&number.to_string())).collect();
    for (files, code) in [
        (json!([]), "batch_size"),
        (json!(too_many), "batch_size"),
        (json!([{"name": "a"}]), "invalid_json"),
    ] {
        let refused = stack.api.post("/v1/batches", &json!({ "files": files })).await;
        assert_eq!(refused.problem(400).code, code);
    }
    let refused = stack.api.post("/v1/batches/complete", &json!({"uploads": []})).await;
    assert_eq!(refused.problem(400).code, "batch_size");
    let mut large = file("large");
    large["size"] = (9 << 20).into();
    let mut acl = file("acl");
    acl["acl"] = "public-read-write".into();
    let files = json!({"files": [large, acl, file("right")]});
    let created: CreatedBatch = stack.api.post("/v1/batches", &files).await.expect(201);
    let codes: Vec<_> = created
        .files
        .iter()
        .map(|file| match file {
            BatchUpload::Admitted { .. } => "",
            BatchUpload::Refused { problem } => problem.code.as_str(),
        })
        .collect();
    assert_eq!(codes, ["not_small", "acl_not_granted", ""]);
}

#[tokio::test]
async fn a_directory_of_small_files_goes_together_and_what_goes_wrong_with_one_stays_with_it() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    std::fs::create_dir(machine.path().join("many")).unwrap();
    let mut contents = BTreeMap::new();
    for number in 0..700 {
        let (name, bytes) = (format!("many/{number:03}"), random_bytes(number * 13 % 5000));
        machine.file(&name, &bytes);
        contents.insert(name, bytes);
    }
    machine.file("many/bad\nname", b"content");
    let store = stack.store.faulty();
    for fault in [
        Fault::FlipOneBit,
        Fault::InternalError,
        Fault::CutConnection,
        Fault::CutAfterEffect,
        Fault::SlowDown { retry_after: None },
    ] {
        store.inject(fault, put_object());
    }

    let run = machine.run(&["--json", "put", "many"]).await;

    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let summary: Value = serde_json::from_str(run.stdout.lines().next_back().unwrap()).unwrap();
    assert_eq!((&summary["files"], &summary["failed"]), (&700.into(), &1.into()));
    assert!(run.stderr.contains("invalid_name"), "{}", run.stderr);
    for (name, bytes) in &contents {
        assert!(
            stack
                .bucket
                .get(name)
                .await
                .is_some_and(|stored| stored.bytes == *bytes),
            "{name}"
        );
    }
    assert!(
        store.attempts(create()) <= 3,
        "{} files went alone",
        store.attempts(create())
    );
}

#[tokio::test]
async fn empty_files_go_together_too_and_none_of_their_uploads_stays_open() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    std::fs::create_dir(machine.path().join("many")).unwrap();
    for number in 0..20 {
        machine.file(&format!("many/{number}"), b"");
    }
    let run = machine.run(&["put", "many"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(
        stack.store.faulty().attempts(put_object()),
        20,
        "one was sent a second time"
    );
    assert_eq!(stack.bucket.keys("many/").await.len(), 20);
    let open: OpenUploads = stack.api.get("/v1/uploads").await.expect(200);
    assert!(open.uploads.is_empty(), "{open:?}");
}
