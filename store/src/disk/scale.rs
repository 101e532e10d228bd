//! What a million objects cost: measured by hand, `cargo test --workspace --locked --lib scale -- --ignored --nocapture`.
//! `STORE_SCALE_OBJECTS` sets another number.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::index::Index;
use super::record::{Content, Record, now};
use super::*;

fn objects() -> u32 {
    let wanted = std::env::var("STORE_SCALE_OBJECTS").ok();
    wanted.map_or(1_000_000, |wanted| wanted.parse().unwrap())
}

fn key(number: u32) -> String {
    format!("backup/2024/{:03}/file-{number:09}.bin", number / 1000)
}

/// Empty objects, each with its file.
fn fill(root: &Path) {
    let tables = Tables::of("uploads");
    let disk = Disk::open(root.to_owned(), true, 1).unwrap();
    disk.create_bucket("uploads", BucketSettings::default()).unwrap();
    drop(disk);
    let index = Index::open(root, true).unwrap();
    let files = root.join("buckets/uploads/data");
    let numbers: Vec<_> = (0..objects()).collect();
    for chunk in numbers.chunks(20_000) {
        index
            .with(|database| {
                let transaction = database.begin_write()?;
                {
                    let mut objects = transaction.open_table(tables.objects())?;
                    let mut data = transaction.open_table(tables.data())?;
                    for number in chunk {
                        let key = key(*number);
                        let id = format!(
                            "{:032x}",
                            u128::from(*number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
                        );
                        let record = Record {
                            checksum_kind: None,
                            key: key.clone(),
                            size: 0,
                            etag: shared::Md5Digest::EMPTY.to_hex(),
                            modified: now(),
                            content: Content::File(id.clone()),
                            checksums: Checksums::new(),
                            meta: Meta::default(),
                        };
                        objects.insert(&*key, &*serde_json::to_vec(&record).unwrap())?;
                        data.insert(&*id, key.as_bytes())?;
                        File::create_new(files.join(id))?;
                    }
                }
                Ok(transaction.commit()?)
            })
            .unwrap();
    }
    index.close();
}

fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let since = Instant::now();
    let done = work();
    println!(
        "{what}: {:.1} ms, RSS {} MiB",
        since.elapsed().as_secs_f64() * 1000.0,
        resident_mib()
    );
    done
}

#[test]
#[ignore = "minutes, and a GiB of disk: a measurement, not a check"]
fn a_million_objects() {
    let dir = tempfile::tempdir().unwrap();
    timed("fill", || fill(dir.path()));
    println!(
        "index: {} MiB",
        fs::metadata(dir.path().join("index.redb")).unwrap().len() >> 20
    );
    let mut disk = timed("start", || Disk::open(dir.path().to_owned(), true, 1).unwrap());
    let bucket = disk.bucket("uploads").unwrap();
    for (what, after) in [
        ("first page", String::new()),
        ("page in the middle", key(objects() / 2)),
    ] {
        let listing = Listing {
            after: Some(&after),
            max: 1000,
            ..Listing::default()
        };
        for _ in 0..3 {
            let page = timed(what, || bucket.page(&listing).unwrap());
            assert_eq!(page.items.len(), 1000);
        }
    }
    let listing = Listing {
        delimiter: Some("/"),
        prefix: "backup/2024/",
        max: 1000,
        ..Listing::default()
    };
    timed("a page of common prefixes", || bucket.page(&listing).unwrap());
    timed("1000 objects", || {
        for number in 0..1000 {
            bucket.object(&key(number * (objects() / 1000))).unwrap();
        }
    });
    timed("sweep", || disk.sweeper.wait());
    let many = |disk: &Disk, from: u32| {
        let bucket = disk.bucket("uploads").unwrap();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let bucket = Arc::clone(&bucket);
                scope.spawn(move || {
                    for number in 0..50 {
                        let mut draft = bucket.draft(s3s::checksum::ChecksumHasher::default()).unwrap();
                        draft.write(&[bytes::Bytes::from_static(&[7; 4096])]).unwrap();
                        let written = draft.finish().unwrap();
                        let key = format!("new/{}", from + writer * 50 + number);
                        bucket
                            .put(key, Meta::default(), Checksums::new(), written, &Condition::default())
                            .unwrap();
                    }
                });
            }
        });
    };
    timed("400 objects by 8 writers", || many(&disk, 0));
    timed("400 objects by 8 writers", || many(&disk, 400));
    // As a process that dies leaves it: the copy was never closed.
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir_all(copy.path().join("buckets/uploads/data")).unwrap();
    for file in ["format", "index.redb", "buckets/uploads/bucket.json"] {
        fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    drop((disk, bucket));
    timed("check", || check(dir.path(), |_| ()).unwrap());
    let disk = timed("start after a crash", || {
        Disk::open(copy.path().to_owned(), true, 1).unwrap()
    });
    let bucket = disk.bucket("uploads").unwrap();
    timed("first page", || {
        bucket
            .page(&Listing {
                max: 1000,
                ..Listing::default()
            })
            .unwrap()
    });
}
