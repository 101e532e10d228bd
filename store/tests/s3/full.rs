//! A file system without room: a clean refusal, nothing lost, and all is well again once there is room.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use store::{Credentials, DevStore, Store, StoreConfig};

use crate::bytes;
use crate::check::check;
use crate::client::{Client, config, refused};

/// A file system in memory of 24 MiB. It is in a namespace of its own, so that it is gone when its process is, however this
/// one ends.
struct SmallDisk {
    keeper: Child,
    path: PathBuf,
}

impl SmallDisk {
    /// None where the system does not let us have one.
    fn mount() -> Option<Self> {
        // Root of a container may have the one and not the other.
        [&["--map-root-user", "--mount"][..], &["--mount"]]
            .into_iter()
            .find_map(|namespaces| {
                let mut keeper = Command::new("unshare")
                    .args(namespaces)
                    // Ends when its standard input does.
                    .args([
                        "sh",
                        "-c",
                        "mount -t tmpfs -o size=24m none /mnt && echo mounted && exec cat",
                    ])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .ok()?;
                let mut line = String::new();
                let told = BufReader::new(keeper.stdout.take()?).read_line(&mut line);
                let path = format!("/proc/{}/root/mnt", keeper.id()).into();
                let disk = Self { keeper, path };
                (told.is_ok() && line == "mounted\n").then_some(disk)
            })
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = File::create(self.path.join("filler")).unwrap();
        // In ever smaller pieces, to the last byte.
        for size in [1 << 20, 4096, 1] {
            let zeros = vec![0; size];
            let full = loop {
                if let Err(full) = file.write_all(&zeros) {
                    break full;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull);
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.path.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A disk, or an excuse that is seen.
#[allow(clippy::print_stderr)]
fn disk() -> Option<SmallDisk> {
    let disk = SmallDisk::mount();
    if disk.is_none() {
        eprintln!("SKIPPED: no file system can be mounted here (unshare --mount): a full disk was not tried");
    }
    disk
}

async fn start(disk: &SmallDisk, credentials: &Credentials) -> (Store, Client) {
    let config = StoreConfig {
        min_part_size: 1,
        ..config(&disk.path.join("store"), credentials)
    };
    let store = Store::start(config).await.unwrap();
    let client = Client::to(&store, credentials);
    (store, client)
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// Files are removed behind the answers' backs.
fn wait_for_files(dir: &Path, expected: usize) {
    let since = Instant::now();
    while files(dir) != expected {
        assert!(
            since.elapsed() < Duration::from_mins(1),
            "{} files in {}",
            files(dir),
            dir.display()
        );
        thread::yield_now();
    }
}

fn full() -> (u16, String) {
    (507, "StorageFull".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_fit_are_refused_and_take_no_room() {
    let Some(disk) = disk() else { return };
    let credentials = Credentials::random().unwrap();
    let (store, client) = start(&disk, &credentials).await;
    let data = disk.path.join("store/buckets").join(DevStore::BUCKET).join("data");
    assert_eq!(client.put("replaced", &bytes(50_000, 0)).status, 200);
    let id = client.create("joined");
    let etag = client.part("joined", &id, 1, &bytes(60_000, 1)).etag();
    // More than there is, so that it ends in the middle; more often than would fit if any of it stayed.
    for _ in 0..3 {
        assert_eq!(refused(&client.put("replaced", &vec![1; 30 << 20])), full());
        assert_eq!(refused(&client.part("joined", &id, 1, &vec![1; 30 << 20])), full());
        assert_eq!(refused(&client.part("joined", &id, 2, &vec![1; 30 << 20])), full());
        wait_for_files(&data, 1);
        wait_for_files(&data.parent().unwrap().join("uploads").join(&id), 1);
    }
    assert!(client.get("replaced").body == bytes(50_000, 0));
    assert_eq!(client.list_parts("joined", &id, "0").element("ETag"), etag);
    assert_eq!(client.put("fits", &vec![2; 5 << 20]).status, 200);
    assert_eq!(client.complete("joined", &id, &[(1, &etag)]).status, 200);
    assert!(client.get("joined").body == bytes(60_000, 1));
    store.stop().await;
    assert_eq!(check(&disk.path.join("store")).1, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_not_even_the_index_has_room_all_stays_as_it_is_but_what_is_deleted() {
    let Some(disk) = disk() else { return };
    let credentials = Credentials::random().unwrap();
    let (store, client) = start(&disk, &credentials).await;
    let kept = |number: u64| (format!("kept/{number}"), bytes(3000, number));
    for number in 0..60 {
        let (key, body) = kept(number);
        assert_eq!(client.put(&key, &body).status, 200);
    }
    let id = client.create("kept/0");
    let etag = client.part("kept/0", &id, 1, b"joined").etag();
    disk.fill();
    // Records alone, long ones and then short ones, until the index cannot grow and has no room in itself.
    let mut put = 0;
    for length in [1900, 1] {
        let said = [("x-amz-meta-a", &*"x".repeat(length))];
        while client.call("PUT", &format!("empty/{put}"), &[], &said, b"").status == 200 {
            put += 1;
            assert!(put < 5000, "the disk never was full");
        }
    }
    let (key, mut body) = kept(0);
    // Parts need no record. They must not take the room in which objects can be deleted.
    for size in [1 << 20, 4096, 1] {
        assert_eq!(refused(&client.part(&key, &id, 2, &vec![7; size])), full());
    }
    assert_eq!(refused(&client.put(&key, &bytes(50_000, 9))), full());
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    assert_eq!(refused(&client.ask("PUT", "", &[("tagging", "")], tags)), full());
    assert_eq!(client.ask("GET", "", &[("tagging", "")], b"").status, 404);
    // A record that takes the place of a longer one may just fit: either it does, or nothing was done.
    let complete = client.complete(&key, &id, &[(1, &etag)]);
    if complete.status == 200 {
        body = b"joined".to_vec();
    } else {
        assert_eq!(refused(&complete), full());
        assert_eq!(client.list_parts(&key, &id, "0").element("ETag"), etag);
    }
    for number in 1..60 {
        assert!(client.get(&kept(number).0).body == kept(number).1);
    }
    assert!(client.get(&key).body == body);
    // What makes room is done.
    for number in 5..60 {
        assert_eq!(client.ask("DELETE", &kept(number).0, &[], b"").status, 204);
        assert_eq!(client.get(&kept(number).0).status, 404);
    }
    // Nor does a start need room.
    store.stop().await;
    let (store, client) = start(&disk, &credentials).await;
    assert!(client.get(&key).body == body);
    assert_eq!(client.get(&kept(5).0).status, 404);

    disk.make_room();
    assert_eq!(client.put("kept/1", b"new").status, 200);
    assert_eq!(client.get("kept/1").body, b"new");
    assert_eq!(client.complete(&key, &id, &[(1, &etag)]).status, 200);
    assert_eq!(client.get(&key).body, b"joined");
    for number in 2..5 {
        assert!(client.get(&kept(number).0).body == kept(number).1);
    }
    store.stop().await;
    let (lines, status) = check(&disk.path.join("store"));
    assert_eq!(status, 0, "{lines:?}");
    assert_eq!(lines.last().unwrap()["objects"], 5 + put);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_complete_finds_no_room_stays_and_can_be_completed_later() {
    let Some(disk) = disk() else { return };
    let credentials = Credentials::random().unwrap();
    let (store, client) = start(&disk, &credentials).await;
    assert_eq!(client.put("key", b"old").status, 200);
    let id = client.create("key");
    // So many that their record is larger than any room that short records leave in the index.
    let parts: Vec<_> = (1..=500)
        .map(|number| (number, client.part("key", &id, number, b"p").etag()))
        .collect();
    let parts: Vec<_> = parts.iter().map(|(number, etag)| (*number, &**etag)).collect();
    disk.fill();
    let mut put = 0;
    while client.put(&format!("empty/{put}"), b"").status == 200 {
        put += 1;
        assert!(put < 20_000, "the disk never was full");
    }
    for _ in 0..2 {
        assert_eq!(refused(&client.complete("key", &id, &parts)), full());
        assert_eq!(client.get("key").body, b"old");
        assert!(
            client
                .list_parts("key", &id, "499")
                .text()
                .contains("<PartNumber>500</PartNumber>")
        );
    }
    // What is answered as open is so on the disk.
    store.stop().await;
    let (store, client) = start(&disk, &credentials).await;
    assert_eq!(refused(&client.complete("key", &id, &parts)), full());

    disk.make_room();
    let complete = client.complete("key", &id, &parts);
    assert_eq!(complete.status, 200, "{}", complete.text());
    assert!(client.get("key").body == vec![b'p'; 500]);
    store.stop().await;
    let (lines, status) = check(&disk.path.join("store"));
    assert_eq!(status, 0, "{lines:?}");
    assert_eq!(lines.last().unwrap()["objects"], 1 + put);
}
