//! `kill -9` to the broker at any point: a new one on the same data directory goes on.

use std::time::Duration;

use serde_json::json;
use shared::MIB;
use shared::api::{CompletedObject, Completing, UploadCreated};
use store::fault::{Fault, complete, create, head};
use tempfile::TempDir;
use tests::{Api, BrokerProcess, Bucket, Program, StoreUnderTest, in_time, pattern, until};

const BROKER: Program = Program::at(env!("CARGO_BIN_EXE_broker-under-test"));
const PART: u64 = 5 * MIB;
/// Longer than any test: what is held so long is never answered, because somebody is killed first.
const FOR_EVER: Duration = Duration::from_mins(10);

/// A store that stays, and one broker process after another on the same ledger.
struct Survivor {
    store: StoreUnderTest,
    directory: TempDir,
    broker: BrokerProcess,
}

impl Survivor {
    async fn start() -> Self {
        let (store, directory) = (StoreUnderTest::embedded().await, tempfile::tempdir().unwrap());
        let broker = BrokerProcess::start(BROKER, directory.path(), &store, 0).await;
        Self {
            store,
            directory,
            broker,
        }
    }

    fn api(&self) -> Api {
        self.broker.api()
    }

    async fn kill_and_restart(self) -> Self {
        let Self {
            store,
            directory,
            broker,
        } = self;
        broker.kill().await;
        let broker = BrokerProcess::start(BROKER, directory.path(), &store, 0).await;
        Self {
            store,
            directory,
            broker,
        }
    }

    /// Asks to complete until the killed broker's lease has run out.
    async fn complete(&self, upload: &UploadCreated) -> CompletedObject {
        in_time(async {
            loop {
                let answer = self.api().complete(&upload.upload_id).await;
                if answer.status != 202 {
                    return answer.expect(200);
                }
                let wait: Completing = answer.expect(202);
                tokio::time::sleep(Duration::from_secs(wait.retry_after)).await;
            }
        })
        .await
    }

    async fn assert_holds(&self, key: &str, bytes: &[u8]) {
        let bucket = Bucket::of(&self.store);
        assert!(
            bucket.get(key).await.unwrap().bytes == bytes,
            "the object differs from the file"
        );
        assert_eq!(bucket.open_uploads("").await, [""; 0]);
    }
}

async fn create_upload(api: &Api, bytes: &[u8]) -> UploadCreated {
    let asked = json!({"name": "a", "size": bytes.len(), "part_size": PART, "fingerprint": "f"});
    let answer = api.post("/v1/uploads", &asked).await;
    answer.expect(answer.status)
}

#[tokio::test]
async fn between_any_two_requests_nothing_is_lost() {
    let bytes = pattern(2 * PART + 1);
    let survivor = Survivor::start().await;
    let upload = create_upload(&survivor.api(), &bytes).await;

    let survivor = survivor.kill_and_restart().await;
    survivor.api().send_parts(&upload, &bytes, [1]).await;
    let survivor = survivor.kill_and_restart().await;
    let again = create_upload(&survivor.api(), &bytes).await;
    assert_eq!(again.upload_id, upload.upload_id);
    assert_eq!(again.parts.len(), 1);
    survivor.api().send_parts(&upload, &bytes, [2, 3]).await;
    let survivor = survivor.kill_and_restart().await;
    let object = survivor.complete(&upload).await;
    let survivor = survivor.kill_and_restart().await;

    assert_eq!(survivor.complete(&upload).await, object);
    survivor.assert_holds("a", &bytes).await;
}

#[tokio::test]
async fn in_the_middle_of_create_the_same_request_works_again() {
    let bytes = pattern(PART);
    let survivor = Survivor::start().await;
    survivor.store.faulty().inject(Fault::Delay(FOR_EVER), create());
    let asking = {
        let (api, bytes) = (survivor.api(), bytes.clone());
        tokio::spawn(async move { create_upload(&api, &bytes).await })
    };
    until(|| survivor.store.faulty().attempts(create()) == 1).await;

    let survivor = survivor.kill_and_restart().await;
    assert!(asking.await.is_err(), "a killed broker has answered");
    let upload = create_upload(&survivor.api(), &bytes).await;

    survivor.api().send_parts(&upload, &bytes, [1]).await;
    survivor.complete(&upload).await;
    survivor.assert_holds("a", &bytes).await;
}

#[tokio::test]
async fn before_the_store_has_joined_the_parts_they_are_joined_by_the_next_broker() {
    let bytes = pattern(PART + 1);
    let survivor = Survivor::start().await;
    let upload = create_upload(&survivor.api(), &bytes).await;
    survivor.api().send_parts(&upload, &bytes, [1, 2]).await;
    survivor.store.faulty().inject(Fault::Delay(FOR_EVER), complete());
    let asking = {
        let (api, id) = (survivor.api(), upload.upload_id.clone());
        tokio::spawn(async move { api.complete(&id).await })
    };
    until(|| survivor.store.faulty().attempts(complete()) == 1).await;

    let survivor = survivor.kill_and_restart().await;
    assert!(asking.await.is_err(), "a killed broker has answered");

    survivor.complete(&upload).await;
    survivor.assert_holds("a", &bytes).await;
}

#[tokio::test]
async fn after_the_store_has_joined_the_parts_the_next_broker_finds_the_object() {
    let bytes = pattern(PART + 1);
    let survivor = Survivor::start().await;
    let upload = create_upload(&survivor.api(), &bytes).await;
    survivor.api().send_parts(&upload, &bytes, [1, 2]).await;
    // The store joins the parts and its answer gets lost; the broker dies when it looks whether they were joined.
    survivor.store.faulty().inject(Fault::CutAfterEffect, complete());
    survivor.store.faulty().inject(Fault::Delay(FOR_EVER), head());
    let looked = survivor.store.faulty().attempts(head());
    let asking = {
        let (api, id) = (survivor.api(), upload.upload_id.clone());
        tokio::spawn(async move { api.complete(&id).await })
    };
    until(|| survivor.store.faulty().attempts(head()) > looked).await;

    let survivor = survivor.kill_and_restart().await;
    assert!(asking.await.is_err(), "a killed broker has answered");

    let object = survivor.complete(&upload).await;
    assert_eq!(object.size, bytes.len() as u64);
    assert_eq!(
        survivor.store.faulty().attempts(complete()),
        1,
        "an object that was there was made again"
    );
    survivor.assert_holds("a", &bytes).await;
}
