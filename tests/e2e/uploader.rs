//! The uploader's program through a real broker to a real store, as a script runs it: objects, exit codes, what is said.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use broker::config::Settings;
use serde_json::Value;
use shared::MIB;
use store::fault::{Fault, any_part, part};
use tempfile::TempDir;
use tests::{
    BrokerProcess, Finished, Program, Stack, StoreUnderTest, cut, in_time, multipart_etag, random_bytes, until,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

const BROKER: Program = Program::at(env!("CARGO_BIN_EXE_broker-under-test"));
pub(crate) const UPLOADER: Program = Program::at(env!("CARGO_BIN_EXE_uploader-under-test"));
pub(crate) const PART: u64 = 5 * MIB;

/// Files, and the uploader run among them.
pub(crate) struct Machine {
    directory: TempDir,
    pub(crate) environment: BTreeMap<&'static str, OsString>,
}

impl Machine {
    pub(crate) fn with_broker(base: &str) -> Self {
        let environment = BTreeMap::from([("UPLOADER_BROKER", base.into())]);
        Self {
            directory: tempfile::tempdir().unwrap(),
            environment,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Finished {
        UPLOADER.run(self.path(), arguments, &self.environment).await
    }
}

/// The `completed` event among the lines that `--json` printed.
pub(crate) fn completed(run: &Finished) -> Value {
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
async fn several_runs_at_once_with_one_file_make_one_object_and_all_succeed() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(4 * PART);
    machine.file("a", &bytes);

    let run = || machine.run(&["--json", "put", "--part-size", "5MiB", "a"]);
    let runs = <[_; 4]>::from(tokio::join!(run(), run(), run(), run()));

    let etag = multipart_etag(cut(&bytes, PART));
    for run in &runs {
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(completed(run)["etag"], format!("\"{etag}\""));
    }
    assert!(stack.bucket.get("a").await.unwrap().bytes == bytes);
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn a_files_name_cannot_steer_the_terminal() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let name = "a\u{1b}[2Jb\r\u{202e}c";
    machine.file(name, b"content");

    let sent = machine.run(&["put", "--name", "plain", name]).await;
    let refused = machine.run(&["put", name]).await;

    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert_eq!(refused.code, Some(1), "a key with control characters: {refused:?}");
    for said in [sent.stdout, sent.stderr, refused.stdout, refused.stderr] {
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!said.contains(steers), "{said:?}");
    }
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

    let no_token = machine.run(&["put", "a"]).await;
    assert_eq!(no_token.code, Some(3), "{no_token:?}");
    assert!(no_token.stderr.contains("UPLOADER_TOKEN"), "{}", no_token.stderr);
    let wrong_token = machine.run(&["--token", "another", "put", "a"]).await;
    assert_eq!(wrong_token.code, Some(3), "{wrong_token:?}");
    for (run, fact) in [
        (&no_token, "asks for a token"),
        (&wrong_token, "does not know the token"),
    ] {
        assert!(run.stderr.contains(fact), "{run:?}");
        assert!(!run.stderr.contains("Authorization"), "{run:?}");
    }

    let pipe = machine.run(&["--token", "alice-token", "put", "/dev/null"]).await;
    assert_eq!(pipe.code, Some(1), "{pipe:?}");
    assert!(pipe.stderr.contains("not a regular file"), "{}", pipe.stderr);

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

#[tokio::test]
async fn a_directory_arrives_as_objects_named_by_their_paths_and_small_files_beside_large_ones() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let mut files = BTreeMap::new();
    for number in 0..60 {
        files.insert(
            format!("data/{}/ü {number}.bin", number % 7),
            random_bytes(number * 100),
        );
    }
    files.insert("data/large.bin".into(), random_bytes(2 * PART + 3));
    for (name, bytes) in &files {
        let path = machine.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    let run = machine.run(&["put", "--part-size", "5MiB", "data", "data/"]).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("122 files"), "{}", run.stdout);
    let mut expected: Vec<String> = files.keys().cloned().collect();
    expected.extend(files.keys().map(|name| name.strip_prefix("data/").unwrap().to_owned()));
    expected.sort();
    assert_eq!(stack.bucket.keys("").await, expected);
    for (name, bytes) in &files {
        assert!(stack.bucket.get(name).await.unwrap().bytes == *bytes, "{name}");
    }
}

#[tokio::test]
async fn urls_that_have_grown_old_are_replaced() {
    let settings = Settings {
        url_expires_in: Some(3),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(3 * 5 * MIB);
    machine.file("a", &bytes);
    // One part at a time: the first one's URL dies under way, those of the parts behind it while they wait.
    stack
        .store
        .faulty()
        .inject(Fault::Delay(Duration::from_secs(4)), part(1));

    let run = machine
        .run(&["put", "--concurrency", "1", "--part-size", "5MiB", "a"])
        .await;

    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(stack.bucket.get("a").await.unwrap().bytes, bytes);
    let attempts = [1, 2, 3].map(|number| stack.store.faulty().attempts(part(number)));
    assert_eq!(attempts, [2, 1, 1], "a URL known to be old was tried");
}

#[tokio::test]
async fn a_file_that_may_not_be_read_is_exit_1_and_named() {
    use std::os::unix::fs::PermissionsExt;
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let file = machine.file("secret", b"content");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::set_permissions(machine.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = UPLOADER.command(machine.path(), ["put", "secret"], &machine.environment);
    if std::fs::File::open(&file).is_ok() {
        // The superuser may read everything; "nobody" may not.
        command.uid(65534);
    }
    let run: Finished = in_time(command.output()).await.unwrap().into();
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("secret"), "{}", run.stderr);
    assert!(run.stderr.to_lowercase().contains("permission"), "{}", run.stderr);
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

/// Runs the uploader with `bytes` on its standard input.
pub(crate) async fn piped(machine: &Machine, arguments: &[&str], bytes: Vec<u8>) -> Finished {
    let mut command = UPLOADER.command(machine.path(), arguments, &machine.environment);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = tokio::spawn(async move {
        // A program that has ended reads no more.
        let _ = stdin.write_all(&bytes).await;
    });
    let run = in_time(child.wait_with_output()).await.unwrap().into();
    feeding.await.unwrap();
    run
}

#[tokio::test]
async fn standard_input_becomes_an_object_however_long_it_is() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    for length in [0, 1, PART, 6 * PART + 1] {
        let (bytes, name) = (random_bytes(length), format!("dump-{length}"));
        let run = piped(
            &machine,
            &["put", "--part-size", "5MiB", "--name", &name, "-"],
            bytes.clone(),
        )
        .await;
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.stdout.starts_with("standard input\n"), "{}", run.stdout);
        assert!(run.stdout.contains(&format!("size  {length} bytes")), "{}", run.stdout);
        assert!(stack.bucket.get(&name).await.unwrap().bytes == bytes, "{name}");
    }
    let nameless = piped(&machine, &["put", "-"], Vec::new()).await;
    assert_eq!(nameless.code, Some(2), "{nameless:?}");
    assert!(nameless.stderr.contains("--name"), "{}", nameless.stderr);
}

#[tokio::test]
async fn parts_of_standard_input_are_sent_again_and_what_fails_is_given_up() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(3 * PART + 7);
    let arguments = ["put", "--part-size", "5MiB", "--tries", "2", "--name", "dump", "-"];
    stack.store.faulty().inject(Fault::FlipOneBit, part(2));
    let run = piped(&machine, &arguments, bytes.clone()).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(stack.bucket.get("dump").await.unwrap().bytes == bytes);

    stack.store.faulty().inject(Fault::CutConnection, part(3).always());
    let run = piped(&machine, &arguments, bytes).await;
    assert_eq!(run.code, Some(75), "{run:?}");
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn two_sources_of_one_name_do_not_become_one_object() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    for (directory, content) in [("a", b"first"), ("b", b"other")] {
        std::fs::create_dir(machine.path().join(directory)).unwrap();
        machine.file(&format!("{directory}/x"), content);
    }
    for sources in [["a/x", "b/x"], ["a/", "b/"]] {
        let run = machine.run(&["put", sources[0], sources[1]]).await;
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(
            run.stderr
                .contains("b/x: another file of this command has the name x too"),
            "{run:?}"
        );
        assert_eq!(stack.bucket.get("x").await.unwrap().bytes, b"first");
    }
    assert_eq!(machine.run(&["put", "a", "b"]).await.code, Some(0));
}

#[tokio::test]
async fn two_spellings_of_one_name_do_not_become_one_object() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    std::fs::create_dir(machine.path().join("d")).unwrap();
    for name in ["d/\u{e9}", "d/e\u{301}", "d/x"] {
        machine.file(name, name.as_bytes());
    }
    let run = machine.run(&["put", "d"]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.stdout.contains("2 files") && run.stdout.contains("1 FAILED"),
        "{run:?}"
    );
}

#[tokio::test]
async fn an_interrupted_stream_is_given_up_at_the_broker() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let mut upload = UPLOADER
        .command(
            machine.path(),
            ["--json", "put", "--name", "stream", "-"],
            &machine.environment,
        )
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = upload.stdin.take().unwrap();
    stdin.write_all(b"a beginning").await.unwrap();
    // That the store has an upload does not mean that the uploader has heard of it.
    let mut lines = BufReader::new(upload.stdout.take().unwrap()).lines();
    let started = in_time(lines.next_line()).await.unwrap().unwrap();
    assert!(started.contains(r#""event":"started""#), "{started}");
    let pid = upload.id().unwrap().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );

    let mut said = String::new();
    let mut stderr = upload.stderr.take().unwrap();
    in_time(stderr.read_to_string(&mut said)).await.unwrap();
    assert_eq!(in_time(upload.wait()).await.unwrap().code(), Some(130), "{said}");
    assert!(said.contains("is given up"), "{said}");
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn names_of_a_thousand_bytes_arrive_and_longer_ones_than_keys_may_be_fail_alone() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let folder = ["d".repeat(249), "e".repeat(249), "f".repeat(249)].join("/");
    let thousand = format!("{folder}/{}", "n".repeat(250));
    let too_long = format!("{folder}/{}/{}", "x".repeat(249), "n".repeat(50));
    for name in [&thousand, &too_long] {
        let path = machine.path().join("long").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }
    assert_eq!(thousand.len(), 1000);

    let run = machine.run(&["put", "long/"]).await;

    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("has 1050 bytes; at most 1024"), "{}", run.stderr);
    assert_eq!(stack.bucket.keys("").await, [thousand.as_str()]);
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
#[ignore = "takes more than a minute: cargo test -p tests --test e2e -- --ignored storm"]
async fn a_storm_of_a_minute_is_outlasted_and_costs_little_more_than_what_succeeds() {
    const PARTS: u64 = 100;
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    machine.file("a", &random_bytes(PARTS * PART));
    let store = stack.store.faulty();
    store.inject(Fault::SlowDown { retry_after: None }, any_part().always());
    let upload = UPLOADER
        .command(
            machine.path(),
            ["put", "--part-size", "5MiB", "a"],
            &machine.environment,
        )
        .spawn()
        .unwrap();
    until(|| store.attempts(any_part()) > 0).await;
    // The storm itself.
    tokio::time::sleep(Duration::from_mins(1)).await;
    let refused = store.attempts(any_part());
    store.clear_faults();

    let run = Finished::from(upload.wait_with_output().await.unwrap());

    assert_eq!(run.code, Some(0), "{run:?}");
    // First tries, fifty retries to begin with, and one for each 10 seconds, of which there may be a few more on a slow machine.
    let most = u64::try_from(uploader::DEFAULT_CONCURRENCY).unwrap() + 50 + 8;
    assert!(refused <= most, "{refused} requests were refused, {most} at most");
    let extra = store.attempts(any_part()) - PARTS;
    assert!(
        extra <= most + PARTS / 10,
        "{extra} requests beside {PARTS} that succeeded"
    );
    println!(
        "{refused} refused in the storm, {extra} sent twice in all, {}",
        run.stdout
    );
}
