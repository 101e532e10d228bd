//! The faults that other suites rely on: each strikes where it was asked to, as often as it was asked to, and leaves what it says.

use std::time::Duration;

use store::fault::{any_part, complete, create, head, list_parts, part, put};
use store::{DevStore, Fault, Garbled};

use crate::client::{Client, md5_base64};

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_by_the_md5_and_sent_again_it_is_gone() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("key");
    store.inject(Fault::FlipOneBit, part(3));
    let md5 = md5_base64(b"body");
    let query = [("partNumber", "3"), ("uploadId", id.as_str())];
    let target = client.v4("PUT", "key", &query, &[("content-md5", &md5)]);
    let send = || client.send("PUT", &target, &[("content-md5", &md5)], b"body");
    assert_eq!(client.part("key", &id, 2, b"body").status, 200);
    assert_eq!(send().element("Code"), "BadDigest");
    assert_eq!(send().status, 200);
    assert_eq!((store.attempts(part(3)), store.attempts(any_part())), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_cut_before_or_after_the_effect() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    store.inject(Fault::CutConnection, put());
    assert!(client.put("key", b"body").head.is_empty());
    assert_eq!(client.get("key").status, 404);
    store.inject(Fault::CutAfterEffect, put());
    assert!(client.put("key", b"body").head.is_empty());
    assert_eq!(client.get("key").body, b"body");

    let id = client.create("key");
    let etag = client.part("key", &id, 1, b"joined").etag();
    store.inject(Fault::CutAfterEffect, complete());
    assert!(client.complete("key", &id, &[(1, &etag)]).head.is_empty());
    assert_eq!(client.get("key").body, b"joined");
    assert_eq!(client.complete("key", &id, &[(1, &etag)]).status, 200);
    assert_eq!(store.attempts(complete()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_come_as_often_as_asked_and_do_nothing() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("key");
    let retry_after = Some(Duration::from_secs(7));
    store.inject(Fault::SlowDown { retry_after }, any_part().times(2));
    for number in [1, 2] {
        let slow = client.part("key", &id, number, &vec![0; 8 << 20]);
        assert_eq!((slow.status, slow.element("Code").as_str()), (503, "SlowDown"));
        assert_eq!(slow.header("retry-after").as_deref(), Some("7"));
    }
    let etag = client.part("key", &id, 1, b"body").etag();
    store.inject(Fault::InternalError, list_parts());
    assert_eq!(client.list_parts("key", &id, "0").status, 500);
    let error = Fault::Garbled {
        answer: Garbled::Error,
        done: false,
    };
    store.inject(error, complete());
    let late = client.complete("key", &id, &[(1, &etag)]);
    assert_eq!((late.status, late.element("Code").as_str()), (200, "InternalError"));
    assert_eq!(client.get("key").status, 404);
    store.inject(Fault::Delay(Duration::from_millis(1)), complete());
    assert_eq!(client.complete("key", &id, &[(1, &etag)]).status, 200);
    store.inject(Fault::InternalError, head().always());
    for _ in 0..3 {
        assert_eq!(client.ask("HEAD", "key", &[], b"").status, 500);
    }
    store.clear_faults();
    assert_eq!(client.ask("HEAD", "key", &[], b"").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_upload_is_no_such_upload() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("a key/ü");
    store.inject(Fault::Forget, part(1));
    assert_eq!(client.part("a key/ü", &id, 1, b"x").element("Code"), "NoSuchUpload");
    store.inject(Fault::Forget, create());
    let id = client.create("key");
    assert_eq!(client.part("key", &id, 1, b"x").element("Code"), "NoSuchUpload");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_parts_come_in_pages_late_with_other_etags_or_in_circles() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("key");
    for number in 1..=3 {
        assert_eq!(client.part("key", &id, number, b"body").status, 200);
    }
    let list = |after: &str| {
        let list = client.list_parts("key", &id, after);
        let text = String::from_utf8(list.body.clone()).unwrap();
        let next = list.element("NextPartNumberMarker");
        (text.matches("<Part>").count(), list.element("IsTruncated"), next, text)
    };
    store.pages_of(2);
    let (parts, more, next, _) = list("0");
    assert_eq!((parts, more.as_str(), next.as_str()), (2, "true", "2"));
    let (parts, more, _, _) = list("2");
    assert_eq!((parts, more.as_str()), (1, "false"));
    store.pages_of(0);
    store.inject(Fault::StaleList, list_parts());
    assert_eq!(list("0").0, 2);
    store.inject(Fault::RepeatMarker, list_parts().after(1));
    assert_eq!(list("1").1, "false", "the one before");
    let (_, more, next, _) = list("1");
    assert_eq!((more.as_str(), next.as_str()), ("true", "1"));
    let md5 = list("0").3.matches("841a2d689ad86bd1611447453c22c6fc").count();
    assert_eq!(md5, 3);
    store.inject(Fault::OtherEtags, list_parts());
    assert!(!list("0").3.contains("841a2d689ad86bd1611447453c22c6fc"));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbled_answers_come_with_or_without_the_effect() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for (answer, begins) in [
        (Garbled::Error, "<?xml"),
        (Garbled::Empty, ""),
        (Garbled::Html, "<html>"),
        (Garbled::SpaceBefore, "\n \n<?xml"),
        (Garbled::CutAt(9), "<?xml"),
    ] {
        for done in [false, true] {
            let id = client.create("key");
            let etag = client.part("key", &id, 1, b"joined").etag();
            store.inject(Fault::Garbled { answer, done }, complete());
            let told = client.complete("key", &id, &[(1, &etag)]);
            assert_eq!(told.status, 200, "{answer:?}");
            let text = String::from_utf8_lossy(&told.body).into_owned();
            assert!(text.contains(begins), "{answer:?}: {text:?}");
            assert_eq!(client.get("key").status == 200, done, "{answer:?}");
            client.ask("DELETE", "key", &[], b"");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_strikes_as_often_as_told_and_the_same_requests_each_time() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let mut rounds = Vec::new();
    for _ in 0..2 {
        store.storm(7, 300, &[Fault::SlowDown { retry_after: None }, Fault::InternalError]);
        let statuses: Vec<_> = (0..100).map(|_| client.ask("HEAD", "key", &[], b"").status).collect();
        rounds.push(statuses);
    }
    let struck = rounds[0].iter().filter(|status| **status != 404).count();
    assert!((15..=45).contains(&struck), "{struck}");
    assert_eq!(rounds[0], rounds[1]);
    store.clear_faults();
    assert_eq!(client.get("key").status, 404);
}
