//! Several brokers on one PostgreSQL ledger, whatever happens to them; and what a broker answers while its ledger is gone.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use broker::Settings;
use shared::MIB;
use shared::api::{CompletedObject, UploadStatus};
use tests::{
    Api, BrokerProcess, Bucket, Program, Relay, Stack, StoreUnderTest, in_time, pattern, postgres_database,
    random_bytes,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinSet;

use crate::uploader::Machine;

const BROKER: Program = Program::at(env!("CARGO_BIN_EXE_broker-under-test"));

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_uploads_through_three_brokers_of_which_one_is_killed_every_200_ms_all_arrive() {
    let (store, ledger) = (Arc::new(StoreUnderTest::embedded().await), postgres_database().await);
    let directory = tempfile::tempdir().unwrap();
    let start = async |place: usize| {
        let home = directory.path().join(place.to_string());
        std::fs::create_dir_all(&home).unwrap();
        BrokerProcess::start_with(BROKER, &home, &store, 0, &[("BROKER_LEDGER", &ledger)]).await
    };
    let mut brokers = Vec::new();
    for place in 0..3 {
        brokers.push(start(place).await);
    }
    let relay = Relay::to(brokers.iter().map(|broker| local(broker.port())).collect()).await;
    let base = format!("http://{}", relay.address());

    let uploading = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let machine = Arc::new(Machine::with_broker(&base));
            let bucket = Bucket::of(&store);
            let mut uploads = JoinSet::new();
            let mut failures = String::new();
            for number in 0..100 {
                if uploads.len() == 8
                    && let Some(Ok(Some(failure))) = uploads.join_next().await
                {
                    _ = writeln!(failures, "{failure}");
                }
                let (machine, bucket) = (Arc::clone(&machine), bucket.clone());
                uploads.spawn(async move {
                    let name = format!("file-{number}");
                    // Some in two parts, most in one.
                    let bytes = random_bytes(if number % 10 == 0 { 9 * MIB } else { MIB / 2 });
                    machine.file(&name, &bytes);
                    let run = machine.run(&["put", "--quiet", &name]).await;
                    if run.code != Some(0) {
                        return Some(format!("{name}: {run:?}"));
                    }
                    let object = bucket.get(&name).await;
                    (object.is_none_or(|object| object.bytes != bytes)).then(|| format!("{name}: not the file's bytes"))
                });
            }
            failures.extend(uploads.join_all().await.into_iter().flatten());
            failures
        }
    });
    let mut killed = 0;
    while !uploading.is_finished() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let place = killed % brokers.len();
        brokers.remove(place).kill().await;
        brokers.insert(place, start(place).await);
        relay.replace(place, local(brokers[place].port()));
        killed += 1;
    }
    let failures = uploading.await.unwrap();
    assert!(failures.is_empty(), "{failures}");
    assert!(killed >= 10, "killed {killed} times only: nothing was put to the test");
    // A broker that is killed after the store has begun an upload and before the ledger knows leaves one without parts.
    let bucket = Bucket::of(&store);
    for (key, id) in bucket.open_upload_ids().await {
        assert_eq!(bucket.parts(&key, &id).await, 0, "{key}");
    }
}

#[tokio::test]
async fn any_broker_goes_on_with_what_another_began() {
    let ledger = postgres_database().await;
    let settings = || Settings {
        ledger: Some(ledger.clone()),
        ..Settings::default()
    };
    let first = Stack::with(StoreUnderTest::embedded().await, settings()).await;
    let second = first.beside().await;
    let bytes = pattern(9 * MIB);
    let upload = first.api.create("a", 9 * MIB).await;
    second.api.send_parts(&upload, &bytes, [1]).await;
    first.api.send_parts(&upload, &bytes, [2]).await;
    let completed = [
        first.api.complete(&upload.upload_id),
        second.api.complete(&upload.upload_id),
    ];
    let [one, other] = completed;
    let (one, other) = tokio::join!(one, other);
    assert!(
        [one.status, other.status].contains(&200),
        "{} {}",
        one.text(),
        other.text()
    );
    let again: CompletedObject = second.api.complete(&upload.upload_id).await.expect(200);
    assert_eq!(again.size, 9 * MIB);
    assert!(first.bucket.get("a").await.unwrap().bytes == bytes);
}

#[tokio::test]
async fn while_the_database_cannot_be_reached_requests_are_to_come_again_and_nothing_is_half_recorded() {
    let url = postgres_database().await;
    let (_, host) = url.split_once('@').unwrap();
    let (host, database) = host.split_once('/').unwrap();
    let relay = Relay::to(vec![host.parse().unwrap()]).await;
    let settings = Settings {
        ledger: Some(format!("postgres://postgres@{}/{database}", relay.address())),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let bytes = pattern(MIB);
    let upload = stack.api.create("before", MIB).await;
    stack.api.send_parts(&upload, &bytes, [1]).await;

    relay.cut();
    let asked = serde_json::json!({"name": "during", "size": 1});
    let path = format!("/v1/uploads/{}", upload.upload_id);
    let (created, looked, completed) = tokio::join!(
        stack.api.post("/v1/uploads", &asked),
        stack.api.get(&path),
        stack.api.complete(&upload.upload_id)
    );
    for refused in [created, looked, completed] {
        assert_eq!(refused.problem(503).code, "ledger_unavailable");
        assert_eq!(refused.header("retry-after"), "2");
    }
    assert_eq!(stack.api.get("/readyz").await.status, 503);

    relay.mend();
    assert_eq!(
        stack.bucket.open_uploads("").await,
        ["before"],
        "of the one refused nothing stays"
    );
    let status: UploadStatus = stack.api.get(&path).await.expect(200);
    assert_eq!(status.parts.len(), 1);
    stack
        .api
        .complete(&upload.upload_id)
        .await
        .expect::<CompletedObject>(200);
    assert!(stack.bucket.get("before").await.unwrap().bytes == bytes);
}

#[tokio::test]
async fn while_the_ledgers_disk_is_full_requests_are_to_come_again_and_nothing_is_half_recorded() {
    let store = StoreUnderTest::embedded().await;
    let directory = tempfile::tempdir().unwrap();
    let mut environment = store.environment();
    environment.insert("BROKER_LOG", "error".into());
    let program = env!("CARGO_BIN_EXE_broker-under-test");
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        "data",
        "--profile",
        "embedded",
        "--bucket",
        &store.bucket,
    ];
    // No file may grow beyond 500 KiB, and trying to is an error like that of a full disk, not a signal.
    let limited = ["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$@\"", "sh", program];
    let mut broker = Program::at("/bin/sh")
        .command(directory.path(), limited.iter().chain(&arguments), &environment)
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(broker.stdout.take().unwrap()).lines();
    let line = in_time(lines.next_line()).await.unwrap().unwrap();
    let api = Api::at(line.split_whitespace().last().unwrap());

    let mut created = Vec::new();
    let refused = loop {
        let name = format!("{}-{}", created.len(), "n".repeat(200));
        let asked = serde_json::json!({"name": name, "size": 1});
        let answer = api.post("/v1/uploads", &asked).await;
        if answer.status != 201 {
            break answer;
        }
        created.push(name);
        assert!(created.len() < 2_000, "the ledger never filled its disk");
    };
    assert_eq!(refused.problem(503).code, "ledger_unavailable");
    assert_eq!(refused.header("retry-after"), "2");
    broker.kill().await.unwrap();
    assert_eq!(broker.wait().await.unwrap().signal(), Some(9));

    let again = BrokerProcess::start(BROKER, directory.path(), &store, 0).await;
    let open = Bucket::of(&store).open_uploads("").await;
    created.sort();
    assert_eq!(open, created, "what was answered 201, and nothing else");
    assert_eq!(again.api().upload("after", b"content").await.size, 7);
}
