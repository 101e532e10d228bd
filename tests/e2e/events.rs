//! What has happened to an upload, told to its owner, to the operator, and to a webhook's receiver whatever comes between.

use std::time::Duration;

use broker::Settings;
use broker::config::Secret;
use broker::ledger::{Delivery, Duty, Ledger, sqlite_url};
use serde_json::{Value, json};
use shared::api::{BatchUpload, CreatedBatch, EventKind, UploadEvent, UploadEvents};
use shared::{MIB, UploadId};
use tests::{Api, BrokerProcess, Finished, Program, Receiver, Stack, StoreUnderTest, in_time, md5, pattern, until};

const BROKER: Program = Program::at(env!("CARGO_BIN_EXE_broker-under-test"));
const PART: u64 = 5 * MIB;
const WEEK: Duration = Duration::from_hours(7 * 24);

/// A broker that tells this receiver.
async fn telling(receiver: &Receiver) -> Stack {
    let settings = Settings {
        webhook_url: Some(Secret(receiver.url())),
        webhook_secret: Some(Secret(Receiver::SECRET.to_owned())),
        ..Settings::default()
    };
    Stack::with(StoreUnderTest::embedded().await, settings).await
}

async fn trail(api: &Api, id: &UploadId) -> Vec<UploadEvent> {
    let page: UploadEvents = api.get(&format!("/v1/uploads/{id}/events")).await.expect(200);
    page.events
}

fn kinds(trail: &[UploadEvent]) -> Vec<EventKind> {
    trail.iter().map(|event| event.kind).collect()
}

/// Runs the program beside a stack's broker.
async fn run(stack: &Stack, arguments: &[&str]) -> Finished {
    let data = stack.data_dir().to_str().unwrap();
    let bucket = &stack.store.bucket;
    let all = ["--data-dir", data, "--bucket", bucket, "--profile", "embedded"];
    let arguments: Vec<_> = arguments.iter().copied().chain(all).collect();
    BROKER
        .run(stack.data_dir(), arguments, &stack.store.environment())
        .await
}

/// What waits in a stack's outbox, or is dead there, once that is as expected.
async fn outbox(stack: &Stack, as_expected: impl Fn(&[Delivery]) -> bool) -> Vec<Delivery> {
    in_time(async {
        loop {
            let listed = stack.broker.ledger().deliveries(None, 100).await.unwrap();
            if as_expected(&listed) {
                return listed;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test]
async fn an_uploads_trail_tells_its_owner_what_happened_by_whom_and_from_where() {
    let stack = Stack::with_tokens(&[("alice", "a"), ("bob", "b")]).await;
    let (alice, bob) = (stack.api.with_token("a"), stack.api.with_token("b"));
    let bytes = pattern(PART + 1);
    let upload = alice.create("film.mp4", PART + 1).await;
    let count = upload.part_count.unwrap();
    alice.send_parts(&upload, &bytes, 1..=count).await;
    let id = &upload.upload_id;
    for _ in 0..2 {
        assert_eq!(alice.complete(id).await.status, 200);
    }

    let events = trail(&alice, id).await;
    let mut expected = vec![EventKind::PartsSigned; count.into()];
    expected.insert(0, EventKind::Created);
    expected.push(EventKind::Completed);
    assert_eq!(kinds(&events), expected);
    for event in &events {
        assert_eq!(event.actor, "alice");
        assert_eq!(event.address, Some([127, 0, 0, 1].into()));
    }
    assert_eq!(events[0].detail.size, Some(PART + 1));
    assert_eq!(events[1].detail.parts, Some(1));
    assert_eq!(events.last().unwrap().detail.size, Some(PART + 1));

    let path = format!("/v1/uploads/{id}/events");
    let mut paged = Vec::new();
    let mut next = format!("{path}?limit=1");
    loop {
        let page: UploadEvents = alice.get(&next).await.expect(200);
        assert_eq!(page.events.len(), 1);
        paged.extend(page.events);
        let Some(cursor) = page.next_cursor else { break };
        next = format!("{path}?limit=1&cursor={cursor}");
    }
    assert_eq!(paged, events);

    assert_eq!(bob.get(&path).await.problem(404).code, "no_such_upload");
    assert_eq!(stack.api.get(&path).await.problem(401).code, "unauthenticated");
    for bad in ["?cursor=x", "?limit=0", "?since=1"] {
        let refused = alice.get(&format!("{path}{bad}")).await;
        assert_eq!(refused.problem(400).code, "invalid_query", "{bad}");
    }
    let malformed = alice.get("/v1/uploads/x/events").await;
    assert_eq!(malformed.problem(404).code, "no_such_upload");
}

#[tokio::test]
async fn what_was_aborted_or_has_expired_can_still_be_looked_back_at() {
    let stack = Stack::start().await;
    let aborted = stack.api.create("aborted", PART).await.upload_id;
    for _ in 0..2 {
        assert_eq!(stack.api.delete(&format!("/v1/uploads/{aborted}")).await.status, 204);
    }
    let expired = stack.api.create("expired", PART).await.upload_id;
    stack.broker.clock().advance(WEEK);
    stack.broker.sweep().await;
    stack.broker.sweep().await;

    let gone = stack.api.get(&format!("/v1/uploads/{expired}")).await;
    assert_eq!(gone.problem(404).code, "no_such_upload");
    let told = trail(&stack.api, &expired).await;
    assert_eq!(kinds(&told), [EventKind::Created, EventKind::Expired]);
    assert_eq!((told[1].actor.as_str(), told[1].address), ("sweeper", None));
    let told = trail(&stack.api, &aborted).await;
    assert_eq!(kinds(&told), [EventKind::Created, EventKind::Aborted]);
    assert_eq!(told[1].actor, "anonymous");
}

#[tokio::test]
async fn forms_and_batches_leave_a_trail_too() {
    let stack = Stack::start().await;
    let field = |name: &str, value: String| (name.to_owned(), value);
    let form = [
        field("keyname", "form".to_owned()),
        field("expires", "900".to_owned()),
        field("1", md5(b"one").to_base64()),
        field("2", md5(b"two").to_base64()),
    ];
    let answer: Value = stack.api.post_form("/presign", &form).await.expect(201);
    let id = answer["UploadID"].as_str().unwrap().parse().unwrap();
    let told = trail(&stack.api, &id).await;
    assert_eq!(kinds(&told), [EventKind::Created, EventKind::PartsSigned]);
    assert_eq!(told[1].detail.parts, Some(2));

    let asked = json!({"files": [{"name": "small", "size": 7, "md5": md5(b"content").to_base64()}]});
    let batch: CreatedBatch = stack.api.post("/v1/batches", &asked).await.expect(201);
    let BatchUpload::Admitted { upload_id, request, .. } = &batch.files[0] else {
        panic!("{batch:?}");
    };
    let request = request.as_ref().unwrap();
    tests::put(&request.url, &request.headers, b"content".to_vec()).await;
    for _ in 0..2 {
        let asked = json!({"uploads": [upload_id]});
        assert_eq!(stack.api.post("/v1/batches/complete", &asked).await.status, 200);
    }
    let told = trail(&stack.api, upload_id).await;
    assert_eq!(kinds(&told), [EventKind::Created, EventKind::Completed]);
}

#[tokio::test]
async fn an_operator_sees_one_upload_and_its_trail() {
    let stack = Stack::start().await;
    let upload = stack.api.create("film.mp4", 2 * PART).await;
    stack.api.send_parts(&upload, &pattern(2 * PART), [1]).await;
    let id = upload.upload_id.as_str();
    // Where a flag stands, before or after the word, is the operator's choice.
    let shown = run(&stack, &["uploads", "--json", "show", id]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let told: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!((&told["state"], &told["parts_stored"]), (&json!("open"), &json!(1)));
    assert_eq!(told["events"][1]["type"], "parts_signed");
    assert!(!shown.stdout.contains("token"), "{}", shown.stdout);
    let text = run(&stack, &["uploads", "show", id]).await.stdout;
    for line in [
        "key          film.mp4",
        "parts_signed anonymous        127.0.0.1       1 parts from 1 to 1",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let unknown = run(&stack, &["uploads", "show", &"A".repeat(32)]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("no upload AAAA"), "{unknown:?}");
}

#[tokio::test]
async fn a_receiver_is_told_how_each_upload_ended_by_requests_that_it_can_verify() {
    let receiver = Receiver::start().await;
    let stack = telling(&receiver).await;
    let object = stack.api.upload("done", b"content").await;
    until(|| receiver.heard().len() == 1).await;
    let aborted = stack.api.create("aborted", 7).await.upload_id;
    stack.api.delete(&format!("/v1/uploads/{aborted}")).await;
    until(|| receiver.heard().len() == 2).await;
    let expired = stack.api.create("expired", 9).await.upload_id;
    stack.broker.clock().advance(WEEK);
    stack.broker.sweep().await;
    until(|| receiver.heard().len() == 3).await;
    outbox(&stack, <[_]>::is_empty).await;

    let heard = receiver.heard();
    for told in &heard {
        assert!(told.is_signed(), "{told:?}");
        assert_eq!(told.header("content-type"), "application/json");
        let mut forged = told.clone();
        forged.body[20] ^= 1;
        assert!(!forged.is_signed());
    }
    let bodies: Vec<_> = heard.iter().map(tests::Heard::json).collect();
    let types: Vec<_> = bodies.iter().map(|body| body["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["upload.completed", "upload.aborted", "upload.expired"]);
    let data = &bodies[0]["data"];
    assert_eq!((&data["key"], &data["size"]), (&json!("done"), &json!(7)));
    assert_eq!(data["etag"], object.etag.as_str());
    assert_eq!(
        (&data["owner"], &data["actor"]),
        (&json!("anonymous"), &json!("anonymous"))
    );
    assert_eq!(
        (&data["bucket"], &data["destination"]),
        (&json!(stack.store.bucket), &json!("default"))
    );
    assert_eq!(bodies[1]["data"]["upload_id"], aborted.as_str());
    assert_eq!(
        (&bodies[2]["data"]["actor"], &bodies[2]["data"]["size"]),
        (&json!("sweeper"), &json!(9))
    );
    let event = trail(&stack.api, &expired).await.pop().unwrap();
    assert_eq!(heard[2].id(), event.id.as_str());
}

#[tokio::test]
async fn what_was_not_taken_comes_again_with_the_id_by_which_duplicates_are_dropped() {
    let receiver = Receiver::start().await;
    let stack = telling(&receiver).await;
    // It has it, and fails afterwards.
    receiver.answers(500);
    stack.api.upload("done", b"content").await;
    let waiting = outbox(&stack, |listed| listed.iter().any(|waiting| waiting.attempts == 1)).await;
    assert_eq!(waiting[0].last_error.as_deref(), Some("answered 500"));
    assert_eq!(stack.broker.deliver().await.taken, 0, "not before its time");

    // Then it is gone, and comes back.
    let address = receiver.address();
    let first = receiver.heard().remove(0);
    drop(receiver);
    stack.broker.clock().advance(Duration::from_mins(1));
    stack.broker.deliver().await;
    let waiting = outbox(&stack, |listed| listed.iter().any(|waiting| waiting.attempts == 2)).await;
    let error = waiting[0].last_error.clone().unwrap();
    assert!(
        !error.contains("hunter2") && !error.contains(Receiver::SECRET),
        "{error}"
    );
    let receiver = Receiver::at(address).await;
    stack.broker.clock().advance(Duration::from_mins(1));
    stack.broker.deliver().await;
    outbox(&stack, <[_]>::is_empty).await;

    let last = receiver.heard().pop().unwrap();
    assert_eq!((last.id(), &last.body), (first.id(), &first.body));
    assert!(first.is_signed() && last.is_signed());
    let sent_at = |heard: &tests::Heard| heard.header("webhook-timestamp").parse::<i64>().unwrap();
    assert!(
        sent_at(&last) >= sent_at(&first) + 120,
        "each is signed when it is sent"
    );
}

#[tokio::test]
async fn what_is_never_taken_is_dead_until_an_operator_sends_it_again() {
    let receiver = Receiver::start().await;
    let stack = telling(&receiver).await;
    receiver.answers(410);
    stack.api.upload("done", b"content").await;
    let alive = |listed: &[Delivery]| listed[0].dead_at.is_none();
    for status in [302, 404, 500].into_iter().cycle().take(40) {
        if !alive(&stack.broker.ledger().deliveries(None, 9).await.unwrap()) {
            break;
        }
        receiver.answers(status);
        stack.broker.clock().advance(Duration::from_hours(2));
        stack.broker.deliver().await;
    }
    let dead = outbox(&stack, |listed| !alive(listed)).await;
    assert_eq!(dead[0].attempts, broker::deliver::ATTEMPTS);
    let id = dead[0].event_id.to_string();
    let heard = receiver.heard().len();
    assert!(heard >= broker::deliver::ATTEMPTS as usize, "{heard}");
    receiver.answers(200);
    stack.broker.clock().advance(Duration::from_hours(48));
    stack.broker.deliver().await;
    assert_eq!(receiver.heard().len(), heard, "what is dead is not sent");

    let listed = run(&stack, &["webhooks", "list", "--json"]).await.stdout;
    let line: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&line["event_id"], &line["state"]), (&json!(id), &json!("dead")));
    assert_eq!((&line["type"], &line["attempts"]), (&json!("completed"), &json!(20)));
    let table = run(&stack, &["webhooks", "list"]).await.stdout;
    assert!(table.contains(&id) && table.contains("0 waiting, 1 dead"), "{table}");
    let replayed = run(&stack, &["webhooks", "replay", "--dead"]).await;
    assert_eq!(replayed.stdout, "1 will be sent again\n");
    stack.broker.deliver().await;
    outbox(&stack, <[_]>::is_empty).await;
    assert_eq!(receiver.heard().last().unwrap().id(), id);

    let before = receiver.heard().len();
    assert_eq!(run(&stack, &["webhooks", "replay", &id]).await.code, Some(0));
    stack.broker.deliver().await;
    until(|| receiver.heard().len() > before).await;
    let unknown = run(&stack, &["webhooks", "replay", &"0".repeat(28)]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains(&"0".repeat(28)), "{unknown:?}");
}

#[tokio::test]
async fn a_broker_killed_between_commit_and_send_has_it_sent_after_its_restart() {
    let (receiver, store) = (Receiver::start().await, StoreUnderTest::embedded().await);
    let directory = tempfile::tempdir().unwrap();
    let url = receiver.url();
    let more = [
        ("BROKER_WEBHOOK_URL", url.as_str()),
        ("BROKER_WEBHOOK_SECRET", Receiver::SECRET),
    ];
    let start = async || BrokerProcess::start_with(BROKER, directory.path(), &store, 0, &more).await;
    let broker = start().await;
    // As long as it is another's turn, this broker sends nothing.
    let ledger = Ledger::open(&sqlite_url(&directory.path().join("data/ledger.db")))
        .await
        .unwrap();
    let now = time::OffsetDateTime::now_utc();
    assert!(ledger.take_turn(Duty::Deliver, "another", now).await.unwrap());
    broker.api().upload("done", b"content").await;
    broker.kill().await;
    assert_eq!(ledger.deliveries(None, 9).await.unwrap().len(), 1);
    assert_eq!(receiver.heard(), []);
    ledger.end_turn(Duty::Deliver, "another").await.unwrap();

    let broker = start().await;
    until(|| !receiver.heard().is_empty()).await;
    let heard = receiver.heard();
    assert!(heard[0].is_signed());
    assert_eq!(heard[0].json()["data"]["key"], "done");
    broker.kill().await;
}
