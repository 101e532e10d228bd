//! Multipart uploads: parts checked as they come, listed exactly, joined once.

use std::thread;

use md5::{Digest as _, Md5};
use store::DevStore;

use crate::bytes;
use crate::client::{Client, elements, hex, md5_base64};

const PART: usize = 5 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn parts_in_any_order_become_the_object_that_their_etag_tells() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("key");
    let (first, last) = (bytes(PART, 1), bytes(3, 2));
    let last_etag = client.part("key", &id, 9, &last).etag();
    client.part("key", &id, 4, &bytes(PART, 3));
    let first_etag = client.part("key", &id, 4, &first).etag();
    let completed = client.complete("key", &id, &[(4, &first_etag), (9, last_etag.trim_matches('"'))]);
    let digests = [Md5::digest(&first), Md5::digest(&last)].concat();
    let etag = format!("\"{}-2\"", hex(&Md5::digest(digests)));
    assert_eq!(completed.element("ETag"), etag);
    let read = client.get("key");
    assert_eq!(read.etag(), etag);
    assert!(read.body == [first, last].concat(), "other bytes than were sent");
    let over_the_seam = client.send(
        "GET",
        &client.v4("GET", "key", &[], &[]),
        &[("range", "bytes=5242879-5242880")],
        b"",
    );
    assert_eq!(over_the_seam.body, read.body[PART - 1..=PART]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_not_what_its_md5_says_leaves_the_earlier_one() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("key");
    let good = client.part("key", &id, 1, b"good").etag();
    let md5 = md5_base64(b"meant");
    let query = [("partNumber", "1"), ("uploadId", id.as_str())];
    let target = client.v4("PUT", "key", &query, &[("content-md5", &md5)]);
    let refused = client.send("PUT", &target, &[("content-md5", &md5)], b"other");
    assert_eq!((refused.status, refused.element("Code").as_str()), (400, "BadDigest"));
    assert_eq!(client.list_parts("key", &id, "0").element("ETag"), good);
    assert_eq!(client.complete("key", &id, &[(1, &good)]).status, 200);
    assert_eq!(client.get("key").body, b"good");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_listed_in_order_a_thousand_a_page() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("key");
    for number in (1..=1003).rev() {
        assert_eq!(client.part("key", &id, number * 9, &number.to_be_bytes()).status, 200);
    }
    let first = client.list_parts("key", &id, "0");
    let marker = first.element("NextPartNumberMarker");
    let second = client.list_parts("key", &id, &marker);
    assert_eq!(
        (first.element("IsTruncated"), second.element("IsTruncated")),
        ("true".into(), "false".into())
    );
    let pages = first.text() + &second.text();
    let numbers: Vec<_> = (1..=1003).map(|number: u32| (number * 9).to_string()).collect();
    assert_eq!(elements(&first.text(), "PartNumber").len(), 1000);
    assert_eq!(elements(&pages, "PartNumber"), numbers);
    let etags: Vec<_> = (1..=1003_u32)
        .map(|number| format!("\"{}\"", hex(&Md5::digest(number.to_be_bytes()))))
        .collect();
    assert_eq!(elements(&pages, "ETag"), etags);
    assert!(elements(&pages, "Size").iter().all(|size| size == "4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_that_is_refused_leaves_the_upload_as_it_was() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("key");
    let small = client.part("key", &id, 1, b"small").etag();
    let last = client.part("key", &id, 2, b"last").etag();
    for (parts, code) in [
        (&[(1, small.as_str()), (2, &last)][..], "EntityTooSmall"),
        (&[(2, &last), (1, &small)], "InvalidPartOrder"),
        (&[(1, &small), (1, &small)], "InvalidPartOrder"),
        (&[(1, &last)], "InvalidPart"),
        (&[(3, &last)], "InvalidPart"),
        (&[(0, &last)], "InvalidArgument"),
        (&[], "MalformedXML"),
    ] {
        let refused = client.complete("key", &id, parts);
        assert_eq!(
            (refused.status, refused.element("Code").as_str()),
            (400, code),
            "{parts:?}"
        );
    }
    assert_eq!(
        client.complete("other", &id, &[(2, &last)]).element("Code"),
        "NoSuchUpload"
    );
    assert_eq!(client.get("key").status, 404);
    assert_eq!(
        elements(&client.list_parts("key", &id, "0").text(), "PartNumber"),
        ["1", "2"]
    );
    assert_eq!(client.complete("key", &id, &[(2, &last)]).status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn completing_again_answers_the_same_and_another_list_does_not() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("key");
    let one = client.part("key", &id, 1, b"one").etag();
    let two = client.part("key", &id, 2, b"two").etag();
    let etags: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| client.complete("key", &id, &[(1, &one)]).element("ETag")))
            .collect();
        asked.into_iter().map(|answer| answer.join().unwrap()).collect()
    });
    assert!(etags.iter().all(|etag| *etag == client.get("key").etag()), "{etags:?}");
    assert_eq!(
        client.complete("key", &id, &[(2, &two)]).element("Code"),
        "NoSuchUpload"
    );
    assert_eq!(client.part("key", &id, 1, b"late").element("Code"), "NoSuchUpload");
    assert_eq!(client.get("key").body, b"one");
    client.put("key", b"replaced");
    assert_eq!(
        client.complete("key", &id, &[(1, &one)]).element("Code"),
        "NoSuchUpload"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_upload_takes_its_parts_with_it() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("key");
    client.part("key", &id, 1, b"part");
    let uploads = client.ask("GET", "", &[("uploads", "")], b"");
    assert_eq!(elements(&uploads.text(), "UploadId"), [id.as_str()]);
    assert_eq!(client.ask("DELETE", "key", &[("uploadId", &id)], b"").status, 204);
    for answer in [
        client.ask("DELETE", "key", &[("uploadId", &id)], b""),
        client.part("key", &id, 1, b"late"),
        client.list_parts("key", &id, "0"),
    ] {
        assert_eq!((answer.status, answer.element("Code").as_str()), (404, "NoSuchUpload"));
    }
    assert!(
        !client
            .ask("GET", "", &[("uploads", "")], b"")
            .text()
            .contains("<Upload>")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn part_numbers_outside_1_to_10000_are_refused() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("key");
    for number in [0, 10_001] {
        assert_eq!(
            client.part("key", &id, number, b"").element("Code"),
            "InvalidArgument",
            "{number}"
        );
    }
    for number in [1, 10_000] {
        assert_eq!(client.part("key", &id, number, b"").status, 200, "{number}");
    }
}
