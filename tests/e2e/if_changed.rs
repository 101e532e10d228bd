//! `put --if-changed`: what is at the store as it is here is not sent again, and to know that takes few requests.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use broker::config::Settings;
use serde_json::Value;
use store::fault::{any_part, put};
use tests::{Finished, Stack, StoreUnderTest, random_bytes, sha256_hex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::resume::{events, settled};
use crate::uploader::{Machine, PART};

/// Stands in front of a broker and counts the requests to it.
struct Counting {
    base: String,
    requests: Arc<AtomicUsize>,
    broker: Arc<Mutex<SocketAddr>>,
}

impl Counting {
    async fn before(stack: &Stack) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (requests, broker) = (
            Arc::<AtomicUsize>::default(),
            Arc::new(Mutex::new(stack.broker.address())),
        );
        let (counter, behind) = (requests.clone(), broker.clone());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (counter, broker) = (counter.clone(), *behind.lock().unwrap());
                tokio::spawn(async move {
                    let mut broker = TcpStream::connect(broker).await.unwrap();
                    let (mut from, mut to) = client.split();
                    let (mut answers, mut asked) = broker.split();
                    let count = async {
                        let (mut seen, mut buffer) = (Vec::new(), vec![0; 65_536]);
                        while let Ok(read @ 1..) = from.read(&mut buffer).await {
                            seen.extend_from_slice(&buffer[..read]);
                            let heads = seen.windows(11).filter(|bytes| bytes == b" HTTP/1.1\r\n").count();
                            counter.fetch_add(heads, Ordering::Relaxed);
                            // What may be the start of a head's end is kept.
                            seen.drain(..seen.len().saturating_sub(10));
                            if asked.write_all(&buffer[..read]).await.is_err() {
                                break;
                            }
                        }
                    };
                    // Either side may go away at any time.
                    let _ = tokio::join!(count, tokio::io::copy(&mut answers, &mut to));
                });
            }
        });
        Self { base, requests, broker }
    }

    /// From now on another broker answers at the same address.
    fn move_to(&self, stack: &Stack) {
        *self.broker.lock().unwrap() = stack.broker.address();
    }

    /// Requests since it was last asked.
    fn requests(&self) -> usize {
        self.requests.swap(0, Ordering::Relaxed)
    }
}

/// A broker that lets its callers list.
pub(crate) async fn listing() -> Stack {
    let settings = Settings {
        downloads: Some(true),
        ..Settings::default()
    };
    Stack::with(StoreUnderTest::embedded().await, settings).await
}

/// The sum at the end of what `--json` printed.
fn summary(run: &Finished) -> Value {
    let last = events(run).pop().unwrap();
    assert_eq!(last["event"], "summary", "{run:?}");
    last
}

fn counts(run: &Finished) -> (u64, u64) {
    let sum = summary(run);
    assert_eq!((run.code, &sum["failed"]), (Some(0), &0.into()), "{run:?}");
    (sum["files"].as_u64().unwrap(), sum["unchanged"].as_u64().unwrap())
}

fn write(machine: &Machine, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = machine.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Makes the file look as if somebody had written to it.
fn touch(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
}

const PUT: [&str; 4] = ["--json", "put", "--if-changed", "data"];

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_over_what_has_not_changed_sends_nothing_and_asks_little() {
    let stack = listing().await;
    let broker = Counting::before(&stack).await;
    let machine = Machine::with_broker(&broker.base);
    let mut last = std::path::PathBuf::new();
    for number in 0..300 {
        last = write(
            &machine,
            &format!("data/{}/ü {number}", number % 10),
            &random_bytes(4096),
        );
    }
    write(&machine, "data/large", &random_bytes(20 << 20));
    settled(&last).await;

    assert_eq!(counts(&machine.run(&PUT).await), (301, 0));
    let store = stack.store.faulty();
    let sent = (store.attempts(put()), store.attempts(any_part()));
    broker.requests();
    for run in ["by records", "by content"] {
        assert_eq!(counts(&machine.run(&PUT).await), (0, 301), "{run}");
        assert_eq!((store.attempts(put()), store.attempts(any_part())), sent, "{run}");
        let requests = broker.requests();
        assert!((2..=3).contains(&requests), "{requests} requests, {run}");
        std::fs::remove_dir_all(machine.path().join(".local/state/uploader")).unwrap();
    }

    let other = write(&machine, "data/3/ü 3", &random_bytes(4096));
    touch(&machine.path().join("data/4/ü 4"));
    let run = machine.run(&PUT).await;
    assert_eq!(counts(&run), (1, 300));
    let completed = events(&run)
        .into_iter()
        .find(|event| event["event"] == "completed")
        .unwrap();
    assert_eq!(completed["key"], "data/3/ü 3");
    assert!(stack.bucket.get("data/3/ü 3").await.unwrap().bytes == std::fs::read(other).unwrap());

    stack.bucket.delete("data/5/ü 5").await;
    assert_eq!(
        counts(&machine.run(&PUT).await),
        (1, 300),
        "what is gone from the store is sent again"
    );
    let plain = machine.run(&PUT[1..]).await;
    assert!(plain.stdout.contains("; 301 unchanged"), "{plain:?}");
}

#[tokio::test]
async fn where_keys_are_made_anew_for_each_upload_the_records_tell_of_them() {
    let settings = Settings {
        tokens: Some(format!("alice={}", sha256_hex("alice-token"))),
        key_template: Some("{principal}/{date}/{uuid}/{name}".into()),
        downloads: Some(true),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let mut machine = Machine::with_broker(&stack.broker.base());
    machine.environment.insert("UPLOADER_TOKEN", "alice-token".into());
    write(&machine, "data/a", b"content");
    settled(&write(&machine, "data/b", b"content too")).await;

    assert_eq!(counts(&machine.run(&PUT).await), (2, 0));
    let keys = stack.bucket.keys("alice/").await;
    assert_eq!(counts(&machine.run(&PUT).await), (0, 2));
    assert_eq!(stack.bucket.keys("alice/").await, keys);

    let gone = keys.iter().find(|key| key.ends_with("/a")).unwrap();
    stack.bucket.delete(gone).await;
    assert_eq!(
        counts(&machine.run(&PUT).await),
        (1, 1),
        "a record of what is gone counts for nothing"
    );
}

#[tokio::test]
async fn where_listing_is_not_allowed_the_records_decide_and_that_is_said() {
    let stack = Stack::with_tokens(&[("alice", "alice-token")]).await;
    let mut machine = Machine::with_broker(&stack.broker.base());
    machine.environment.insert("UPLOADER_TOKEN", "alice-token".into());
    let path = write(&machine, "data/a", b"content");
    settled(&path).await;

    let first = machine.run(&PUT).await;
    assert_eq!(counts(&first), (1, 0));
    assert_eq!(first.stderr.matches("does not let you list").count(), 1, "{first:?}");
    assert_eq!(counts(&machine.run(&PUT).await), (0, 1));
    touch(&path);
    assert_eq!(counts(&machine.run(&PUT).await), (1, 0), "it may have changed");
    let without = machine.run(&[&PUT[..], &["--no-journal"]].concat()).await;
    assert_eq!(counts(&without), (1, 0));
}

#[tokio::test]
async fn a_broker_that_has_moved_to_another_bucket_is_sent_everything_again() {
    let (first, second) = (Stack::start().await, Stack::start().await);
    let broker = Counting::before(&first).await;
    let machine = Machine::with_broker(&broker.base);
    settled(&write(&machine, "data/a", b"content")).await;
    assert_eq!(counts(&machine.run(&PUT).await), (1, 0));
    assert_eq!(counts(&machine.run(&PUT).await), (0, 1));

    broker.move_to(&second);
    assert_eq!(counts(&machine.run(&PUT).await), (1, 0));
    assert!(second.bucket.get("data/a").await.is_some());
    broker.move_to(&first);
    assert_eq!(counts(&machine.run(&PUT).await), (0, 1));
}

#[tokio::test]
async fn one_file_is_looked_up_by_its_key_and_other_part_sizes_are_sent() {
    let stack = listing().await;
    let machine = Machine::with_broker(&stack.broker.base());
    write(&machine, "a", &random_bytes(2 * PART));
    let put = ["put", "--no-journal", "--if-changed", "a", "--part-size"];
    let with = |size: &'static str| [&put[..], &[size]].concat();
    let parts = || stack.store.faulty().attempts(any_part());

    assert_eq!(machine.run(&with("5MiB")).await.code, Some(0));
    let again = machine.run(&with("5MiB")).await;
    assert!(again.stdout.contains("unchanged at the store"), "{again:?}");
    assert_eq!(parts(), 2);
    // The object's ETag cannot be told from the file by parts of this size.
    assert_eq!(machine.run(&with("6MiB")).await.code, Some(0));
    assert_eq!(parts(), 4);

    for usage in [
        &["put", "--if-changed", "--name", "x", "-"][..],
        &["put", "--if-changed", "http://127.0.0.1/x"],
    ] {
        assert_eq!(machine.run(usage).await.code, Some(2), "{usage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_has_changed_and_neither_sends_nor_records_anything() {
    let stack = listing().await;
    let machine = Machine::with_broker(&stack.broker.base());
    write(&machine, "data/a", b"content");
    write(&machine, "data/large", &random_bytes(9 << 20));
    settled(&write(&machine, "data/b", b"content too")).await;
    let dry = [&PUT[..], &["--dry-run"]].concat();
    let counted = |run: &Finished| {
        let sum = summary(run);
        assert_eq!((run.code, &sum["dry_run"]), (Some(0), &true.into()), "{run:?}");
        (sum["files"].as_u64().unwrap(), sum["unchanged"].as_u64().unwrap())
    };
    let state = machine.path().join(".local/state/uploader");

    assert_eq!(counted(&machine.run(&dry).await), (3, 0));
    assert!(!state.exists(), "a dry run has left something behind");
    assert_eq!(stack.bucket.keys("").await, [""; 0]);

    assert_eq!(counts(&machine.run(&PUT).await), (3, 0));
    write(&machine, "data/b", b"other content");
    assert_eq!(counted(&machine.run(&dry).await), (1, 2));
    // Now by content alone: had that been recorded, there would be records.
    std::fs::remove_dir_all(&state).unwrap();
    assert_eq!(counted(&machine.run(&dry).await), (1, 2));
    assert!(!state.exists(), "a dry run has recorded something");
    assert_eq!(stack.bucket.get("data/b").await.unwrap().bytes, b"content too");

    let plain = machine.run(&dry[1..]).await;
    assert!(plain.stdout.contains("data/b as data/b: 13 B"), "{plain:?}");
    assert!(plain.stdout.contains("1 file, 13 B in 1 part"), "{plain:?}");
    assert!(plain.stdout.contains("2 unchanged at the store"), "{plain:?}");
}
