//! What becomes of uploads that nobody ends: aborted at the store, completed where that is right, and nobody else's touched.

use std::time::Duration;

use broker::Settings;
use broker::ledger::{Duty, LeaseOutcome};
use broker::random::Random;
use broker::start::open_with;
use broker::sweep::{Sweep, Swept, due, keep_sweeping, sweep_once, unknown};
use serde_json::{Value, json};
use shared::MIB;
use shared::api::{BatchUpload, CompletedObject, CreatedBatch, UploadCreated};
use store::fault::{Fault, abort, list_parts};
use tests::{Program, Stack, StoreUnderTest, in_time, md5, pattern, put};

use crate::rules::{caller, with_rules};

const BROKER: Program = Program::at(env!("CARGO_BIN_EXE_broker-under-test"));
const PART: u64 = 5 * MIB;
const WEEK: Duration = Duration::from_hours(7 * 24);
/// So long that the next round may be the last before an upload runs out.
const NEARLY_A_WEEK: Duration = Duration::from_mins(7 * 24 * 60 - 1);
/// After this nothing can be on its way any more.
const STRAGGLE: Duration = Duration::from_mins(15);

fn swept() -> Swept {
    Swept::default()
}

/// A round by this holder of a turn, so many uploads at once.
async fn round(stack: &Stack, holder: Option<&str>, page: u16) -> Swept {
    let sweep = Sweep {
        broker: stack.broker.state(),
        holder,
        page,
    };
    sweep.round().await.unwrap()
}

/// Uploads of one part each that lack nothing but their completion.
async fn all_sent(stack: &Stack, names: [&str; 3]) -> Vec<UploadCreated> {
    let mut uploads = Vec::new();
    for name in names {
        let upload = stack.api.create(name, 7).await;
        stack.api.send_parts(&upload, b"content", [1]).await;
        uploads.push(upload);
    }
    uploads
}

async fn finishing() -> Stack {
    let settings = Settings {
        finish_abandoned: Some(true),
        ..Settings::default()
    };
    Stack::with(StoreUnderTest::embedded().await, settings).await
}

#[tokio::test]
async fn what_ran_out_is_aborted_at_the_store_and_what_did_not_or_is_foreign_stays() {
    let stack = Stack::start().await;
    let bytes = pattern(2 * PART);
    let upload = stack.api.create("old", 2 * PART).await;
    stack.api.send_parts(&upload, &bytes, [1]).await;
    stack.bucket.create_upload("foreign").await;
    stack.broker.clock().advance(NEARLY_A_WEEK);
    stack.api.create("new", PART).await;
    assert_eq!(stack.broker.sweep().await, swept(), "nothing has run out");

    stack.broker.clock().advance(Duration::from_mins(3));
    assert_eq!(stack.broker.sweep().await, Swept { expired: 1, ..swept() });
    assert_eq!(stack.bucket.open_uploads("").await, ["foreign", "new"]);
    let gone = stack.api.complete(&upload.upload_id).await;
    assert_eq!(gone.problem(404).code, "no_such_upload");

    stack.broker.clock().advance(STRAGGLE);
    assert_eq!(stack.broker.sweep().await, Swept { cleared: 1, ..swept() });
    assert_eq!(stack.broker.sweep().await, swept(), "and that was that");
    assert_eq!(stack.bucket.open_uploads("").await, ["foreign", "new"]);
}

#[tokio::test]
async fn an_abort_that_the_store_did_not_do_is_done_in_a_later_round() {
    let stack = Stack::start().await;
    for name in ["given-up", "ran-out"] {
        stack.api.create(name, PART).await;
    }
    let page: Value = stack.api.get("/v1/uploads").await.expect(200);
    let given_up = page["uploads"]
        .as_array()
        .unwrap()
        .iter()
        .find(|upload| upload["name"] == "given-up")
        .unwrap();
    stack
        .store
        .faulty()
        .inject(Fault::SlowDown { retry_after: None }, abort().always());
    let refused = stack
        .api
        .delete(&format!("/v1/uploads/{}", given_up["upload_id"].as_str().unwrap()))
        .await;
    assert_eq!(refused.problem(503).code, "store_unavailable");
    stack.broker.clock().advance(WEEK);
    let round = stack.broker.sweep().await;
    assert_eq!((round.expired, round.cleared), (1, 0));
    assert!(round.failed >= 1, "{round:?}");
    assert_eq!(stack.bucket.open_uploads("").await, ["given-up", "ran-out"]);

    stack.store.faulty().clear_faults();
    stack.broker.clock().advance(STRAGGLE);
    assert_eq!(stack.broker.sweep().await, Swept { cleared: 2, ..swept() });
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn two_thousand_five_hundred_uploads_are_told_apart_over_three_pages_of_the_store() {
    const EACH: usize = 1_250;
    let stack = Stack::start().await;
    let mut creating = tokio::task::JoinSet::new();
    for number in 0..EACH {
        let (api, bucket) = (stack.api.clone(), stack.bucket.clone());
        creating.spawn(async move {
            api.create(&format!("ours/{number:04}"), PART).await;
            bucket.create_upload(&format!("theirs/{number:04}")).await;
        });
        if creating.len() == 32 {
            creating.join_next().await.unwrap().unwrap();
        }
    }
    creating.join_all().await;
    let later = stack.broker.clock().now() + Duration::from_hours(1);
    let foreign = unknown(stack.broker.state(), "uploads", later).await.unwrap();
    assert_eq!(foreign.len(), EACH);
    assert!(foreign.iter().all(|upload| upload.key.as_str().starts_with("theirs/")));

    stack.broker.clock().advance(WEEK);
    let round = stack.broker.sweep().await;
    assert_eq!(
        round,
        Swept {
            expired: EACH as u64,
            ..swept()
        }
    );
    assert_eq!(stack.bucket.open_uploads("ours/").await.len(), 0);
    stack.broker.clock().advance(STRAGGLE);
    assert_eq!(stack.broker.sweep().await.cleared, EACH as u64);
    let foreign = unknown(stack.broker.state(), "uploads", later).await.unwrap();
    assert_eq!(foreign.len(), EACH, "theirs are all there");
}

#[tokio::test]
async fn a_completion_whose_broker_died_is_taken_over_with_the_size_that_its_owner_stated() {
    let stack = Stack::start().await;
    let bytes = pattern(PART + 7);
    let asked = json!({"name": "stream", "part_size": PART});
    let upload: UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(201);
    stack.api.send_parts(&upload, &bytes, [1, 2]).await;
    let clock = stack.broker.clock();
    let size = Some(bytes.len() as u64);
    let died = stack
        .broker
        .ledger()
        .take_lease(&upload.upload_id, "died", size, clock.now());
    assert!(matches!(died.await.unwrap(), LeaseOutcome::Taken(_)));
    assert_eq!(stack.broker.sweep().await, swept(), "its holder may be alive");

    clock.advance(Duration::from_secs(31));
    assert_eq!(
        stack.broker.sweep().await,
        Swept {
            completed: 1,
            ..swept()
        }
    );
    assert_eq!(stack.bucket.get("stream").await.unwrap().bytes, bytes);
    let object: CompletedObject = stack.api.complete(&upload.upload_id).await.expect(200);
    assert_eq!(object.size, PART + 7);
}

#[tokio::test]
async fn a_step_goes_on_from_page_to_page_until_another_broker_has_the_turn() {
    let stack = finishing().await;
    let clock = stack.broker.clock();
    let completed = |completed| Swept { completed, ..swept() };
    for upload in all_sent(&stack, ["begun-1", "begun-2", "begun-3"]).await {
        let lease = stack
            .broker
            .ledger()
            .take_lease(&upload.upload_id, "died", None, clock.now());
        assert!(matches!(lease.await.unwrap(), LeaseOutcome::Taken(_)));
    }
    clock.advance(Duration::from_secs(31));
    let turn = async || {
        let taken = stack.broker.ledger().take_turn(Duty::Sweep, "other", clock.now()).await;
        assert!(taken.unwrap());
    };
    turn().await;
    assert_eq!(
        round(&stack, Some("late"), 1).await,
        completed(1),
        "what was begun is ended"
    );
    assert_eq!(round(&stack, None, 1).await, completed(2));

    all_sent(&stack, ["left-1", "left-2", "left-3"]).await;
    clock.advance(NEARLY_A_WEEK);
    turn().await;
    assert_eq!(round(&stack, Some("late"), 1).await, completed(1));
    assert_eq!(round(&stack, None, 1).await, completed(2));
}

#[tokio::test]
async fn a_store_that_fails_eight_calls_and_does_none_is_left_alone_until_the_next_round() {
    let stack = Stack::start().await;
    let (clock, store) = (stack.broker.clock(), stack.store.faulty());
    for number in 0..10 {
        stack.api.create(&format!("ran-out-{number}"), PART).await;
    }
    clock.advance(WEEK);
    store.inject(Fault::AccessDenied, abort().always());
    let ran_out = Swept {
        expired: 10,
        failed: 10,
        ..swept()
    };
    assert_eq!(stack.broker.sweep().await, ran_out);

    // A completion that fails in the same round is no word about the calls that clear.
    let begun = stack.api.create("begun", 7).await;
    let lease = stack
        .broker
        .ledger()
        .take_lease(&begun.upload_id, "died", None, clock.now());
    assert!(matches!(lease.await.unwrap(), LeaseOutcome::Taken(_)));
    clock.advance(STRAGGLE);
    for (page, served, expected) in [
        (8, 0, Swept { failed: 9, ..swept() }),
        (4, 0, Swept { failed: 11, ..swept() }),
        (
            8,
            1,
            Swept {
                cleared: 1,
                failed: 10,
                ..swept()
            },
        ),
    ] {
        store.clear_faults();
        store.inject(Fault::AccessDenied, list_parts().times(1));
        store.inject(Fault::AccessDenied, abort().after(served).always());
        assert_eq!(
            round(&stack, None, page).await,
            expected,
            "{page} at once, {served} served"
        );
        // Who tried to complete it has the lease for a while.
        clock.advance(Duration::from_mins(1));
    }
    store.clear_faults();
    assert_eq!(stack.broker.sweep().await.cleared, 9);
    assert_eq!(stack.bucket.open_uploads("").await, ["begun"]);
}

#[tokio::test]
async fn a_broker_sweeps_by_itself_when_it_is_its_turn() {
    let stack = Stack::start().await;
    stack.api.create("old", PART).await;
    stack.broker.clock().advance(WEEK);
    let (ledger, now) = (stack.broker.ledger(), stack.broker.clock().now());
    assert!(ledger.take_turn(Duty::Sweep, "other", now).await.unwrap());
    let sweeping = tokio::spawn(keep_sweeping(stack.broker.state().clone(), Duration::from_millis(5)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stack.bucket.open_uploads("").await, ["old"], "another's turn");
    ledger.end_turn(Duty::Sweep, "other").await.unwrap();
    in_time(async {
        while !stack.bucket.open_uploads("").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    sweeping.abort();
}

#[tokio::test]
async fn an_abandoned_upload_with_all_its_parts_becomes_an_object_where_its_destination_says_so() {
    for (stack, becomes) in [(finishing().await, true), (Stack::start().await, false)] {
        let bytes = pattern(PART + 1);
        let whole = stack.api.create("whole", PART + 1).await;
        let lacking = stack.api.create("lacking", 2 * PART).await;
        stack
            .api
            .send_parts(&whole, &bytes, 1..=whole.part_count.unwrap())
            .await;
        stack.broker.clock().advance(NEARLY_A_WEEK);
        let completed = u64::from(becomes);
        assert_eq!(stack.broker.sweep().await, Swept { completed, ..swept() });
        assert_eq!(
            stack
                .bucket
                .get("whole")
                .await
                .is_some_and(|object| object.bytes == bytes),
            becomes
        );

        stack.broker.clock().advance(Duration::from_mins(1));
        assert_eq!(stack.broker.sweep().await.expired, 2 - completed);
        assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
        assert_eq!(stack.api.complete(&lacking.upload_id).await.status, 404);
    }
}

#[tokio::test]
async fn an_abandoned_upload_of_whom_may_no_longer_upload_becomes_no_object() {
    let rules = "[[destination]]\nname = \"d\"\nfinish_abandoned = true\n[[grant]]\nto = [\"alice\", \"bob\"]\nmay = [\"upload\"]\n";
    let stack = with_rules(&["alice", "bob"], rules).await;
    for name in ["alice", "bob"] {
        let api = caller(&stack, name);
        let upload = api.create(name, 7).await;
        api.send_parts(&upload, b"content", [1]).await;
    }
    // The grant is for one of them from now on.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules.replace(", \"bob\"", "")).unwrap();
    let settings = Settings {
        grant: Settings::read(file.path()).unwrap().grant,
        ..stack.settings_with_signature(broker::sign::SignatureVersion::V4)
    };
    let clock = stack.broker.clock();
    clock.advance(NEARLY_A_WEEK);
    let config = settings.resolve().unwrap();
    let anew = open_with(&config, clock.clone(), Random::default()).await.unwrap();
    assert_eq!(sweep_once(&anew).await.unwrap().completed, 1);
    assert_eq!(stack.bucket.keys("").await, ["alice"]);
}

#[tokio::test]
async fn a_small_file_that_was_put_and_never_completed_is_recorded_before_it_runs_out() {
    let stack = Stack::start().await;
    let file = |name: &str| json!({"name": name, "size": 7, "md5": md5(b"content").to_base64()});
    let asked = json!({"files": [file("sent"), file("never-sent")]});
    let created: CreatedBatch = stack.api.post("/v1/batches", &asked).await.expect(201);
    let mut ids = Vec::new();
    for upload in created.files {
        let BatchUpload::Admitted {
            upload_id,
            request,
            key,
        } = upload
        else {
            panic!("{upload:?}");
        };
        if key.as_str() == "sent" {
            let request = request.unwrap();
            put(&request.url, &request.headers, b"content".to_vec()).await;
        }
        ids.push(upload_id);
    }
    stack.broker.clock().advance(NEARLY_A_WEEK);
    assert_eq!(
        stack.broker.sweep().await,
        Swept {
            completed: 1,
            ..swept()
        }
    );
    stack.broker.clock().advance(Duration::from_mins(1));
    assert_eq!(stack.broker.sweep().await, Swept { expired: 1, ..swept() });
    assert_eq!(stack.api.complete(&ids[0]).await.expect::<CompletedObject>(200).size, 7);
    assert_eq!(stack.api.complete(&ids[1]).await.status, 404);
}

#[tokio::test]
async fn what_a_sweep_would_do_is_told_of_each_upload_in_its_time() {
    let stack = finishing().await;
    let told = async || {
        let due = due(stack.broker.state()).await.unwrap();
        [due.completed, due.expired, due.cleared].map(|sessions| {
            let names = sessions.into_iter().map(|session| session.name);
            names.collect::<Vec<_>>()
        })
    };
    let given_up = stack.api.create("given up", PART).await;
    let path = format!("/v1/uploads/{}", given_up.upload_id);
    assert_eq!(stack.api.delete(&path).await.status, 204);
    stack.api.create("runs out", PART).await;
    assert_eq!(told().await, [[""; 0], [], []]);
    stack.broker.clock().advance(NEARLY_A_WEEK);
    assert_eq!(told().await, [vec!["runs out"], vec![], vec!["given up"]]);
    stack.broker.clock().advance(Duration::from_mins(3));
    assert_eq!(told().await, [vec![], vec!["runs out"], vec!["given up"]]);
}

#[tokio::test]
async fn an_operator_sees_what_is_open_and_what_a_sweep_would_do_before_it_does() {
    let stack = Stack::start().await;
    let upload = stack.api.create("film.mp4", 2 * PART).await;
    stack.api.send_parts(&upload, &pattern(2 * PART), [1]).await;
    stack.bucket.create_upload("foreign").await;
    let environment = stack.store.environment();
    let run = async |arguments: &[&str]| {
        let data = stack.data_dir().to_str().unwrap();
        let all = [
            "--data-dir",
            data,
            "--bucket",
            &stack.store.bucket,
            "--profile",
            "embedded",
        ];
        let arguments: Vec<_> = arguments.iter().copied().chain(all).collect();
        let ran = BROKER.run(stack.data_dir(), arguments, &environment).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.stdout
    };
    let line: Value = serde_json::from_str(&run(&["uploads", "--json", "--price", "2"]).await).unwrap();
    assert_eq!(line["upload_id"], upload.upload_id.as_str());
    assert_eq!((&line["parts"], &line["bytes"]), (&json!(1), &json!(8 * MIB)));
    assert!((line["cost"].as_f64().unwrap() - 0.016_777_216).abs() < 1e-9, "{line}");
    let table = run(&["uploads"]).await;
    assert!(
        table.contains("film.mp4") && table.contains("1 open, 8.4 MB stored"),
        "{table}"
    );

    assert_eq!(run(&["sweep", "--dry-run"]).await, "nothing to do\n");
    let foreign = run(&["sweep", "--dry-run", "--unknown-older-than", "0"]).await;
    assert!(
        foreign.contains("would abort: an upload to \"foreign\" begun 2"),
        "{foreign}"
    );
    assert_eq!(stack.bucket.open_uploads("").await, ["film.mp4", "foreign"]);
    let told = run(&["sweep", "--unknown-older-than", "0"]).await;
    assert!(told.contains("1 unknown ones aborted, 0 failed"), "{told}");
    assert_eq!(stack.bucket.open_uploads("").await, ["film.mp4"]);
}
