//! The uploader's program through a real broker to a real store, as a script runs it: objects, exit codes, what is said.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shared::MIB;
use store::fault::{Fault, any_part, part};
use tempfile::TempDir;
use tests::{BrokerProcess, Finished, Program, Stack, cut, in_time, multipart_etag, random_bytes, until};

const BROKER: Program = Program::at(env!("CARGO_BIN_EXE_broker-under-test"));
const UPLOADER: Program = Program::at(env!("CARGO_BIN_EXE_uploader-under-test"));
const PART: u64 = 5 * MIB;

/// Files, and the uploader run among them.
struct Machine {
    directory: TempDir,
    environment: BTreeMap<&'static str, OsString>,
}

impl Machine {
    fn with_broker(base: &str) -> Self {
        let environment = BTreeMap::from([("UPLOADER_BROKER", base.into())]);
        Self {
            directory: tempfile::tempdir().unwrap(),
            environment,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    async fn run(&self, arguments: &[&str]) -> Finished {
        UPLOADER.run(self.path(), arguments, &self.environment).await
    }
}

/// The `completed` event among the lines that `--json` printed.
fn completed(run: &Finished) -> Value {
    let last: Value = serde_json::from_str(run.stdout.lines().next_back().unwrap()).unwrap();
    assert_eq!(last["event"], "completed", "{run:?}");
    last
}

#[tokio::test]
async fn files_of_every_size_and_name_arrive_byte_for_byte() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let sizes = [
        ("empty", 0),
        ("one byte", 1),
        ("5MiB", PART),
        ("5MiB+1", PART + 1),
        ("ünï cödé +&=%.bin", 12 * MIB),
    ];
    for (name, size) in sizes {
        let bytes = random_bytes(size);
        machine.file(name, &bytes);

        let run = machine.run(&["--json", "put", "--part-size", "5MiB", name]).await;

        assert_eq!(run.code, Some(0), "{run:?}");
        let object = stack.bucket.get(name).await.unwrap();
        assert!(object.bytes == bytes, "{name} differs from the file");
        if size > 0 {
            assert_eq!(object.etag, multipart_etag(cut(&bytes, PART)));
        }
        let event = completed(&run);
        assert_eq!((&event["key"], &event["size"]), (&name.into(), &size.into()));
    }
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn what_goes_wrong_at_the_store_is_sent_again_until_the_object_is_right() {
    for fault in [
        Fault::FlipOneBit,
        Fault::CutConnection,
        Fault::CutAfterEffect,
        Fault::InternalError,
        Fault::SlowDown { retry_after: None },
    ] {
        let stack = Stack::start().await;
        let machine = Machine::with_broker(&stack.broker.base());
        let bytes = random_bytes(3 * PART);
        machine.file("a", &bytes);
        stack.store.faulty().inject(fault, part(2));

        let run = machine.run(&["put", "--part-size", "5MiB", "a"]).await;

        assert_eq!(run.code, Some(0), "{fault:?}: {run:?}");
        assert!(stack.bucket.get("a").await.unwrap().bytes == bytes, "{fault:?}");
        let store = stack.store.faulty();
        assert_eq!(
            [1, 2, 3].map(|number| store.attempts(part(number))),
            [1, 2, 1],
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_broker_killed_in_mid_upload_and_started_again_is_waited_for() {
    let stack = Stack::start().await;
    let home = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(BROKER, home.path(), &stack.store, 0).await;
    let machine = Machine::with_broker(broker.base());
    let bytes = random_bytes(40 * PART);
    machine.file("a", &bytes);
    // The first window is under way, and what follows it needs a broker.
    stack.store.faulty().inject(
        Fault::Delay(std::time::Duration::from_millis(200)),
        any_part().times(40),
    );
    let arguments = ["put", "--part-size", "5MiB", "--concurrency", "2", "--tries", "20", "a"];
    let upload = UPLOADER
        .command(machine.path(), arguments, &machine.environment)
        .spawn()
        .unwrap();
    until(|| stack.store.faulty().attempts(part(1)) > 0).await;

    let port = broker.port();
    broker.kill().await;
    let _broker = BrokerProcess::start(BROKER, home.path(), &stack.store, port).await;

    let run = Finished::from(in_time(upload.wait_with_output()).await.unwrap());
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(stack.bucket.get("a").await.unwrap().bytes == bytes);
}

#[tokio::test]
async fn an_interrupted_upload_is_continued_by_the_same_command() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(4 * PART);
    machine.file("a", &bytes);
    stack
        .store
        .faulty()
        .inject(Fault::Delay(std::time::Duration::from_mins(10)), part(4));
    let arguments = ["put", "--part-size", "5MiB", "a"];
    let mut first = UPLOADER
        .command(machine.path(), arguments, &machine.environment)
        .spawn()
        .unwrap();
    let store = stack.store.faulty();
    until(|| [1, 2, 3, 4].iter().all(|number| store.attempts(part(*number)) == 1)).await;
    let id = stack.bucket.upload_id("a").await;
    in_time(async { while stack.bucket.parts("a", &id).await < 3 {} }).await;
    first.kill().await.unwrap();

    let run = machine.run(&["--json", "put", "--part-size", "5MiB", "a"]).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(completed(&run)["kept_bytes"], 3 * PART);
    assert_eq!(
        [1, 2, 3].map(|number| store.attempts(part(number))),
        [1, 1, 1],
        "a part that was there was sent again"
    );
    assert!(stack.bucket.get("a").await.unwrap().bytes == bytes);
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_is_exit_4_and_leaves_nothing() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let path = machine.file("a", &random_bytes(40 * PART));
    stack.store.faulty().inject(
        Fault::Delay(std::time::Duration::from_millis(200)),
        any_part().times(40),
    );
    let arguments = ["put", "--part-size", "5MiB", "--concurrency", "2", "a"];
    let upload = UPLOADER
        .command(machine.path(), arguments, &machine.environment)
        .spawn()
        .unwrap();
    until(|| stack.store.faulty().attempts(any_part()) > 0).await;
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(PART)
        .unwrap();

    let run = Finished::from(in_time(upload.wait_with_output()).await.unwrap());

    assert_eq!(run.code, Some(4), "{run:?}");
    assert!(run.stderr.contains("while it was being sent"), "{}", run.stderr);
    assert!(stack.bucket.get("a").await.is_none());
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn each_kind_of_failure_has_its_exit_code_and_says_what_to_do() {
    let stack = Stack::with_tokens(&[("alice", "alice-token")]).await;
    let machine = Machine::with_broker(&stack.broker.base());
    machine.file("a", b"content");
    std::fs::create_dir(machine.path().join("folder")).unwrap();

    let no_token = machine.run(&["put", "a"]).await;
    assert_eq!(no_token.code, Some(3), "{no_token:?}");
    assert!(no_token.stderr.contains("UPLOADER_TOKEN"), "{}", no_token.stderr);

    let folder = machine.run(&["--token", "alice-token", "put", "folder"]).await;
    assert_eq!(folder.code, Some(1), "{folder:?}");
    assert!(folder.stderr.contains("is a directory"), "{}", folder.stderr);

    let absent = machine.run(&["--token", "alice-token", "put", "absent"]).await;
    assert_eq!(absent.code, Some(1), "{absent:?}");
    assert!(absent.stderr.contains("no such file"), "{}", absent.stderr);

    let usage = machine.run(&["put"]).await;
    assert_eq!(usage.code, Some(2), "{usage:?}");

    let refused = machine
        .run(&["--token", "alice-token", "put", "--acl", "public-read", "a"])
        .await;
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("acl_not_granted"), "{}", refused.stderr);
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_exit_75() {
    // A port that nothing listens on any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let machine = Machine::with_broker(&format!("http://127.0.0.1:{port}"));
    machine.file("a", b"content");
    let run = machine.run(&["--tries", "2", "put", "a"]).await;
    assert_eq!(run.code, Some(75), "{run:?}");
    assert!(run.stderr.contains("--broker"), "{}", run.stderr);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_exit_75_and_the_upload_stays() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    machine.file("a", b"content");
    stack.store.faulty().inject(Fault::CutConnection, any_part().always());

    let run = machine.run(&["--tries", "2", "put", "a"]).await;
    assert_eq!(run.code, Some(75), "{run:?}");
    stack.store.faulty().clear_faults();
    let again = machine.run(&["put", "a"]).await;

    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(stack.bucket.get("a").await.unwrap().bytes, b"content");
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}
