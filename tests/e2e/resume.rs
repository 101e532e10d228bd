//! Whatever ended the run before, the same command continues its upload or begins anew, and says which.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use shared::api::{UploadState, UploadStatus};
use store::fault::{Fault, any_part, complete, part};
use tests::{Finished, Stack, in_time, random_bytes, until};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::if_changed::listing;
use crate::uploader::{Machine, PART, UPLOADER, completed};

/// As long as no test.
const FOR_EVER: Duration = Duration::from_mins(10);

/// The events that `--json` printed.
pub(crate) fn events(run: &Finished) -> Vec<Value> {
    run.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The `started` event.
fn started(run: &Finished) -> Value {
    let mut events = events(run).into_iter();
    events
        .find(|event| event["event"] == "started")
        .unwrap_or_else(|| panic!("{run:?}"))
}

/// Returns once a change of the file would show in its times.
pub(crate) async fn settled(path: &Path) {
    let changed = std::fs::metadata(path).unwrap();
    let changed = Duration::new(
        changed.ctime().try_into().unwrap(),
        changed.ctime_nsec().try_into().unwrap(),
    );
    let tick = Duration::from_millis(100);
    until(|| SystemTime::now() > SystemTime::UNIX_EPOCH + changed + tick).await;
}

/// Of the file `a`, which has four parts, a run has sent three when it is killed.
async fn killed_after_three_of_four(stack: &Stack, machine: &Machine) {
    let store = stack.store.faulty();
    let before = store.attempts(part(4));
    store.inject(Fault::Delay(FOR_EVER), part(4));
    let mut first = UPLOADER
        .command(machine.path(), PUT, &machine.environment)
        .spawn()
        .unwrap();
    until(|| store.attempts(part(4)) > before).await;
    let id = stack.bucket.upload_id("a").await;
    in_time(async { while stack.bucket.parts("a", &id).await < 3 {} }).await;
    first.kill().await.unwrap();
    store.clear_faults();
}

const PUT: [&str; 5] = ["--json", "put", "--part-size", "5MiB", "a"];

/// Numbers that a seed tells (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_a_hundred_random_points_nothing_is_sent_again_but_what_was_under_way() {
    const KILLS: usize = 100;
    const PARTS: u64 = 40;
    const CONCURRENCY: u64 = 2;
    let seed = u64::from_le_bytes(random_bytes(8).try_into().unwrap()) | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(PARTS * PART);
    machine.file("a", &bytes);
    let store = stack.store.faulty();
    let attempts = |number: u64| store.attempts(part(number.try_into().unwrap()));
    let mut killed = 0;
    while killed < KILLS {
        let name = format!("after {killed} kills");
        let arguments = [&PUT[..4], &["--concurrency", "2", "--name", &name, "a"]].concat();
        let attempts_before = store.attempts(any_part());
        let (mut kills, mut begun) = (0, false);
        // How often each part that was told to be stored had been sent by then.
        let mut sent = BTreeMap::new();
        loop {
            // Among what is told of earlier runs, or a little further.
            let stop = match random.below(3) {
                0 => random.below(sent.len() + 1),
                _ => sent.len() + 1 + random.below(4),
            };
            let stop = (killed + kills < KILLS).then_some(stop);
            let mut run = UPLOADER
                .command(machine.path(), &arguments, &machine.environment)
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
            let mut told = 0;
            while stop.is_none_or(|stop| told < stop) {
                let Some(line) = in_time(lines.next_line()).await.unwrap() else {
                    break;
                };
                told += 1;
                let event: Value = serde_json::from_str(&line).unwrap();
                match event["event"].as_str().unwrap() {
                    "started" => {
                        let expected = if begun { "continued" } else { "new" };
                        // Killed before it told so, an upload may have been begun as well.
                        assert!(event["resumed"] == expected || !begun && kills > 0, "{event}");
                        begun = true;
                    }
                    "part" if event["kept"] == false => {
                        let number = event["number"].as_u64().unwrap();
                        let earlier = sent.insert(number, attempts(number));
                        assert_eq!(earlier, None, "part {number} was sent again");
                    }
                    _ => {}
                }
            }
            if stop.is_some_and(|stop| told == stop) {
                run.kill().await.unwrap();
                kills += 1;
            } else {
                let run = Finished::from(in_time(run.wait_with_output()).await.unwrap());
                assert_eq!(run.code, Some(0), "{run:?}");
                break;
            }
            for (number, times) in &sent {
                assert_eq!(attempts(*number), *times, "part {number} was sent again");
            }
        }
        let sendings = store.attempts(any_part()) - attempts_before;
        let most = PARTS + CONCURRENCY * u64::try_from(kills).unwrap();
        assert!(
            sendings <= most,
            "{sendings} sendings of {PARTS} parts after {kills} kills"
        );
        assert!(
            stack.bucket.get(&name).await.unwrap().bytes == bytes,
            "{name} differs from the file"
        );
        killed += kills;
    }
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
    let journals = machine.path().join(".local/state/uploader");
    assert_eq!(
        std::fs::read_dir(journals).unwrap().count(),
        0,
        "a journal has outlived its upload"
    );
}

#[tokio::test]
async fn the_journal_is_the_users_alone_holds_nothing_secret_and_ends_with_its_upload() {
    let stack = Stack::with_tokens(&[("alice", "very-secret-token")]).await;
    let mut machine = Machine::with_broker(&stack.broker.base());
    machine.environment.insert("UPLOADER_TOKEN", "very-secret-token".into());
    machine.environment.insert("UPLOADER_JOURNAL_DIR", "journals".into());
    let bytes = random_bytes(4 * PART);
    let path = machine.file("a", &bytes);
    settled(&path).await;
    killed_after_three_of_four(&stack, &machine).await;

    let directory = machine.path().join("journals");
    assert_eq!(
        std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let journal = std::fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::metadata(&journal).unwrap().permissions().mode() & 0o777, 0o600);
    let text = String::from_utf8_lossy(&std::fs::read(&journal).unwrap()).into_owned();
    assert!(text.contains(r#""key":"a""#) && text.contains(r#""hashed""#), "{text}");
    for secret in ["very-secret", "http", "X-Amz", "?"] {
        assert!(!text.replace('\u{fffd}', "").contains(secret), "{secret} in {text}");
    }

    let again = machine.run(&PUT).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(completed(&again)["kept_bytes"], 3 * PART);
    assert!(!journal.exists(), "the journal has outlived its upload");
    assert!(stack.bucket.get("a").await.is_some());
}

#[tokio::test]
async fn an_upload_that_was_aborted_behind_the_back_is_begun_anew_and_that_is_said() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(4 * PART);
    machine.file("a", &bytes);
    for by_store in [false, true] {
        killed_after_three_of_four(&stack, &machine).await;
        if by_store {
            // As a lifecycle rule does it, at the next thing that is asked for.
            stack.store.faulty().inject(Fault::Forget, store::fault::list_parts());
        } else {
            let open: shared::api::OpenUploads = stack.api.get("/v1/uploads").await.expect(200);
            let id = &open.uploads[0].upload_id;
            assert_eq!(stack.api.delete(&format!("/v1/uploads/{id}")).await.status, 204);
        }

        let run = machine.run(&PUT).await;

        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(
            (&started(&run)["resumed"], &started(&run)["why"]),
            (&"anew".into(), &"aborted".into()),
            "{run:?}"
        );
        assert_eq!(completed(&run)["kept_bytes"], 0);
        assert!(stack.bucket.get("a").await.unwrap().bytes == bytes);
    }
}

#[tokio::test]
async fn another_machine_with_a_copy_that_kept_its_time_continues() {
    let stack = Stack::start().await;
    let (machine, other) = (
        Machine::with_broker(&stack.broker.base()),
        Machine::with_broker(&stack.broker.base()),
    );
    let bytes = random_bytes(4 * PART);
    let path = machine.file("a", &bytes);
    killed_after_three_of_four(&stack, &machine).await;
    let copy = other.file("a", &bytes);
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::File::options()
        .write(true)
        .open(&copy)
        .unwrap()
        .set_modified(modified)
        .unwrap();

    let run = other.run(&PUT).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(started(&run)["resumed"], "continued");
    assert_eq!(completed(&run)["kept_bytes"], 3 * PART);
    assert!(stack.bucket.get("a").await.unwrap().bytes == bytes);
}

#[tokio::test]
async fn a_file_that_changed_between_two_runs_is_begun_anew_and_that_is_said() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    machine.file("a", &random_bytes(4 * PART));
    killed_after_three_of_four(&stack, &machine).await;
    let bytes = random_bytes(4 * PART);
    machine.file("a", &bytes);

    let run = machine.run(&["put", "--part-size", "5MiB", "a"]).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(
        run.stderr.contains("a: beginning anew: the file has changed since"),
        "{run:?}"
    );
    assert!(run.stderr.contains("is aborted, and its parts are removed"), "{run:?}");
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
    assert!(stack.bucket.get("a").await.unwrap().bytes == bytes);
}

#[tokio::test]
async fn a_run_that_died_before_it_heard_of_its_object_sends_nothing_again() {
    let stack = listing().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(4 * PART);
    machine.file("a", &bytes);
    dies_before_it_hears(&stack, &machine).await;
    let store = stack.store.faulty();
    let run = machine.run(&PUT).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(started(&run)["resumed"], "continued");
    assert_eq!(completed(&run)["sent_bytes"], 0);
    assert_eq!(store.attempts(any_part()), 4);

    let wanted = machine.run(&PUT).await;
    assert_eq!(
        completed(&wanted)["sent_bytes"],
        4 * PART,
        "asked for again, it is sent again"
    );
}

#[tokio::test]
async fn an_object_that_may_not_be_looked_for_is_sent_again_since_it_may_have_been_replaced() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(4 * PART);
    machine.file("a", &bytes);
    dies_before_it_hears(&stack, &machine).await;
    stack.bucket.put("a", b"another machine's", &HashMap::new()).await;

    let run = machine.run(&PUT).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(started(&run)["resumed"], "anew");
    assert!(stack.bucket.get("a").await.unwrap().bytes == bytes);
}

/// Kills a run while the store joins the parts, and waits until it has.
async fn dies_before_it_hears(stack: &Stack, machine: &Machine) {
    let store = stack.store.faulty();
    store.inject(Fault::Delay(Duration::from_millis(500)), complete());
    let mut first = UPLOADER
        .command(machine.path(), PUT, &machine.environment)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    let line = in_time(lines.next_line()).await.unwrap().unwrap();
    let id = serde_json::from_str::<Value>(&line).unwrap()["upload_id"]
        .as_str()
        .unwrap()
        .to_owned();
    until(|| store.attempts(complete()) == 1).await;
    first.kill().await.unwrap();
    in_time(async {
        let path = format!("/v1/uploads/{id}");
        while stack.api.get(&path).await.expect::<UploadStatus>(200).state != UploadState::Completed {}
    })
    .await;
}

#[tokio::test]
async fn a_journal_that_cannot_be_kept_is_told_once_and_the_upload_goes_on() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(2 * PART);
    for name in ["a", "b"] {
        machine.file(name, &bytes);
    }
    machine.file("not a directory", b"");
    let put = ["put", "--part-size", "5MiB"];
    let run = machine
        .run(&[&put[..], &["--journal-dir", "not a directory", "a", "b"]].concat())
        .await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(
        run.stderr.matches("no journal can be kept in not a directory").count(),
        1,
        "{run:?}"
    );
    assert!(stack.bucket.get("b").await.unwrap().bytes == bytes);

    let without = machine.run(&[&put[..], &["--no-journal", "a"]].concat()).await;
    assert_eq!(
        (without.code, without.stderr.contains("journal")),
        (Some(0), false),
        "{without:?}"
    );
    assert!(!machine.path().join(".local").exists());
}
