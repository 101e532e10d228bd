//! Requests at once on one key, and on many: each gets its own answer, and nobody sees half of another's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use md5::{Digest as _, Md5};
use store::DevStore;

use crate::client::{Client, elements, hex};

const WRITERS: u8 = 8;

/// Where a read of a part of an object begins.
const MIDDLE: usize = 10_000;

/// A version that is one byte over and over, so that two in one body would show; one of sixteen is so long that it is read
/// from the disk in pieces.
fn version(of: u8) -> Vec<u8> {
    let length = if of.is_multiple_of(16) { 1_200_000 } else { 20_000 };
    vec![of; length + usize::from(of)]
}

/// Reads `key`, whole or from the middle; the answer has to be of one version, whose ETag `etag` tells.
fn read(client: &Client, key: &str, whole: bool, etag: impl Fn(u8) -> String) {
    let from = format!("bytes={MIDDLE}-");
    let headers = [("range", &*from)];
    let answer = client.call("GET", key, &[], if whole { &[] } else { &headers }, b"");
    assert_eq!(answer.status, if whole { 200 } else { 206 }, "{}", answer.text());
    let first = answer.body[0];
    let version = version(first);
    let expected = if whole { &version[..] } else { &version[MIDDLE..] };
    assert!(answer.body == expected, "bytes of two versions, or not all of one");
    let range = format!("bytes {MIDDLE}-{}/{}", version.len() - 1, version.len());
    assert_eq!(answer.header("content-range"), (!whole).then_some(range));
    assert_eq!(answer.etag(), etag(first));
}

/// Reads `key` until `done`, at least once.
fn read_until(done: &AtomicBool, client: &Client, key: &str, etag: impl Fn(u8) -> String) {
    read(client, key, true, &etag);
    while !done.load(Ordering::Acquire) {
        read(client, key, false, &etag);
        read(client, key, true, &etag);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_reads_of_a_key_that_two_write_all_the_time_none_is_torn() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("key", &version(0));
    let etags: Vec<_> = (0..=u8::MAX)
        .map(|of| format!("\"{}\"", hex(&Md5::digest(version(of)))))
        .collect();
    let etag = |of: u8| etags[usize::from(of)].clone();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers = [1..=100, 101..=200].map(|versions| {
            let (client, done) = (&client, &done);
            scope.spawn(move || {
                for number in versions.cycle() {
                    assert_eq!(client.put("key", &version(number)).status, 200);
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                }
            })
        });
        let readers = [(), ()]
            .map(|()| scope.spawn(|| (0..5_000).for_each(|number| read(&client, "key", number % 2 == 0, etag))));
        let read = readers.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Release);
        for ended in read.into_iter().chain(writers.map(thread::ScopedJoinHandle::join)) {
            ended.unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_an_object_in_parts_that_is_replaced_see_whole_versions() {
    let store = DevStore::start_with(|config| config.min_part_size = 1).await.unwrap();
    let client = Client::of(&store);
    let replace = |number: u8| {
        let (body, id) = (version(number), client.create("key"));
        let halves = body.split_at(MIDDLE + 1);
        let etags = [(1, halves.0), (2, halves.1)].map(|(part, half)| client.part("key", &id, part, half).etag());
        let listed = [(1, &*etags[0]), (2, &*etags[1])];
        assert_eq!(client.complete("key", &id, &listed).status, 200);
    };
    let etag = |of: u8| {
        let body = version(of);
        let halves = body.split_at(MIDDLE + 1);
        let md5s = [Md5::digest(halves.0), Md5::digest(halves.1)].concat();
        format!("\"{}-2\"", hex(&Md5::digest(md5s)))
    };
    replace(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [(), ()].map(|()| scope.spawn(|| read_until(&done, &client, "key", etag)));
        (1..40).for_each(replace);
        done.store(true, Ordering::Release);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_create_a_key_at_once_one_does() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for key in ["a", "b", "c", "d"] {
        let create = |writer: u8| {
            let headers = [("if-none-match", "*")];
            let target = client.v4("PUT", key, &[], &[]);
            (writer, client.send("PUT", &target, &headers, &version(writer)).status)
        };
        let answers: Vec<_> = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || create(writer))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let created: Vec<_> = answers.iter().filter(|(_, status)| *status == 200).collect();
        assert_eq!(created.len(), 1, "{answers:?}");
        assert!(
            answers.iter().all(|(_, status)| [200, 412].contains(status)),
            "{answers:?}"
        );
        assert!(client.get(key).body == version(created[0].0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_many_keys_at_once_all_find_theirs() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let key = |writer: u8, number: u8| format!("{writer}/{number}");
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let client = &client;
            scope.spawn(move || {
                for number in 0..10 {
                    assert_eq!(client.put(&key(writer, number), &version(number)).status, 200);
                }
                assert_eq!(client.ask("DELETE", &key(writer, 0), &[], b"").status, 204);
            });
        }
    });
    let listed = elements(&client.ask("GET", "", &[], b"").text(), "Key");
    let mut expected: Vec<_> = (0..WRITERS)
        .flat_map(|writer| (1..10).map(move |number| key(writer, number)))
        .collect();
    expected.sort();
    assert_eq!(listed, expected);
    assert!(client.get(&key(3, 7)).body == version(7));
}
